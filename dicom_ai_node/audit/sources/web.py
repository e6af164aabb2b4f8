"""DICOMweb: QIDO-RS lists, WADO-RS gives headers and files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_ai_node.audit.sources import answers
from dicom_ai_node.audit.sources.answers import Image
from dicom_ai_node.audit.sources.dicom_json import canonical, header_of, text_of
from dicom_ai_node.audit.sources.landing import settle, write
from dicom_ai_node.audit.sources.listing import Wanted, date_range, days, is_uid, study_key
from dicom_ai_node.audit.sources.source import Fetched, Listed, Slice
from dicom_ai_node.audit.sources.web_service import WebService
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.errors import PeerRefused
from dicom_ai_node.rules import Header

_MODALITIES_IN_STUDY, _MODALITY = 0x00080061, 0x00080060
_STUDY, _SERIES, _INSTANCE, _CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
_INSTANCES_OF_STUDY = 0x00201208
_GONE = frozenset({404, 410})


class Web:
    """A DICOMweb service as a source."""

    holds_files = False
    whole_headers = True

    def __init__(
        self, name: str, service: WebService, *, page: int, modalities: Sequence[str]
    ) -> None:
        self.name = name
        self._service = service
        self._page = page
        self._modalities = tuple(modalities)
        self._inventory: tuple[str, tuple[Image, ...]] = ("", ())

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """A day each, so that no limit on answers cuts a listing short."""
        return days(spec)

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed]:
        """Ask once for each modality, page by page."""
        wanted = Wanted(spec.modalities, part)
        seen: set[str] = set()
        for modality in spec.modalities:
            filters = {"ModalitiesInStudy": modality}
            if date_range(part):
                filters["StudyDate"] = date_range(part)
            for answer in self._pages(filters):
                listed = _listed(answer)
                if listed.key not in seen and _matches(answer, listed, wanted):
                    seen.add(listed.key)
                    yield listed

    def headers(self, listed: Listed) -> Sequence[Header] | None:
        """The whole headers of the wanted images; None where the service has no metadata."""
        if not is_uid(listed.key):
            return (listed.header,)
        try:
            return tuple(image.header for image in self._images(listed)) or None
        except PeerRefused:
            return None

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """Retrieve the wanted images one by one, as they are kept."""
        if not is_uid(listed.key):
            return Fetched(faults={"study": "listed without a usable StudyInstanceUID"})
        files, faults = {}, {}
        images = self._images(listed)
        for image in images:
            uid = image.sop_instance_uid
            try:
                content = self._service.instance(listed.key, image.series_instance_uid, uid)
            except PeerRefused as error:
                faults[uid] = str(error)
            else:
                files[uid] = write(folder, uid, content)
        listed_uids = [image.sop_instance_uid for image in images]
        settled = settle(files, listed=listed_uids, count=0 if not images else None)
        return Fetched(settled.files, settled.expected, {**settled.faults, **faults})

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _pages(self, filters: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        """Every answer: a page may be shorter than asked for, only an empty one is the last."""
        fields = [f"{answers.tag_of(keyword):08X}" for keyword in answers.STUDY]
        offset = 0
        seen: set[bytes] = set()
        while True:
            page = self._service.studies(filters, fields, limit=self._page, offset=offset)
            fresh = {canonical(one): one for one in page}
            if fresh.keys() <= seen:  # also of a service that knows no offset and repeats itself
                return
            yield from (one for digest, one in fresh.items() if digest not in seen)
            seen |= fresh.keys()
            offset += len(page)

    def _images(self, listed: Listed) -> tuple[Image, ...]:
        """Ask once for a study whose headers are wanted first and then its images."""
        if self._inventory[0] != listed.key:
            found = [_image(one) for one in self._service.metadata(listed.key)]
            wanted = tuple(
                image for image in found
                if is_uid(image.sop_instance_uid) and is_uid(image.series_instance_uid)
                and (not image.header.clean("Modality")
                     or image.header.clean("Modality") in self._modalities)
            )  # fmt: skip
            self._inventory = (listed.key, wanted)
        return self._inventory[1]


def _listed(answer: Mapping[str, Any]) -> Listed:
    count = text_of(answer, _INSTANCES_OF_STUDY) or ""
    return Listed(
        key=study_key(text_of(answer, _STUDY) or "", canonical(answer)),
        header=header_of(answer),
        instances=int(count) if count.isascii() and count.isdigit() and len(count) < 10 else None,
    )


def _matches(answer: Mapping[str, Any], listed: Listed, wanted: Wanted) -> bool:
    found = (text_of(answer, _MODALITIES_IN_STUDY) or "").split("\\")
    return wanted(
        study_date=listed.header.clean("StudyDate"),
        modalities=[text for one in found if (text := one.strip())],
    )


def _image(answer: Mapping[str, Any]) -> Image:
    return Image(
        sop_instance_uid=text_of(answer, _INSTANCE) or "",
        sop_class_uid=text_of(answer, _CLASS) or "",
        series_instance_uid=text_of(answer, _SERIES) or "",
        header=header_of(answer),
    )
