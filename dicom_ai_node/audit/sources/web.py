"""DICOMweb: QIDO-RS lists, WADO-RS gives headers and files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_ai_node.audit.sources import answers
from dicom_ai_node.audit.sources.answers import Image
from dicom_ai_node.audit.sources.dicom_json import canonical, header_of, text_of
from dicom_ai_node.audit.sources.landing import settle, write
from dicom_ai_node.audit.sources.listing import (
    NO_STUDY,
    Wanted,
    date_range,
    days,
    is_uid,
    study_key,
)
from dicom_ai_node.audit.sources.offer import Offer
from dicom_ai_node.audit.sources.source import BrokenOff, Fetched, Listed, Slice
from dicom_ai_node.audit.sources.web_service import WebService
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from dicom_ai_node.rules import Header

_MODALITIES_IN_STUDY, _MODALITY = 0x00080061, 0x00080060
_STUDY, _SERIES, _INSTANCE, _CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
_INSTANCES_OF_STUDY = 0x00201208
_FIELDS = [f"{answers.tag_of(keyword):08X}" for keyword in answers.STUDY]
_NOT_FOUND, _NO_SUCH_SERVICE = 404, frozenset({405, 501})
_AWAY = 3
"""So many images in a row without an answer are a service that is away."""
_PROBES = 5
"""So many studies in a row that cannot be listed are a query that is refused."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A study that the service has and cannot describe."""

    place: str
    """Query and position."""
    fault: str

    def as_listed(self) -> Listed:
        """The study as a finding: nothing of it is known but that it is there."""
        return Listed(
            study_key("", self.place.encode()), Header(), fault=f"cannot be listed: {self.fault}"
        )


class Web:
    """A DICOMweb service as a source."""

    holds_files = False
    whole_headers = True

    def __init__(
        self, name: str, service: WebService, *, page: int, modalities: Sequence[str]
    ) -> None:
        self.name = name
        self._service = service
        self._page_size = page
        self._modalities = tuple(modalities)
        self._limit_from_first = False
        self._metadata = Offer(name, "WADO-RS metadata")
        self._inventory: tuple[str, tuple[Image, ...]] = ("", ())

    def probe(self) -> None:
        """Ask for one study by a UID that none has: also a service whose store is away fails."""
        try:
            self._service.studies({"StudyInstanceUID": NO_STUDY}, [], limit=1, offset=0)
        except PeerRefused as error:
            if error.status != _NOT_FOUND:  # with which some say that nothing matches
                raise

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
                if isinstance(answer, Unlisted):
                    yield answer.as_listed()
                    continue
                listed = _listed(answer)
                if listed.key not in seen and _matches(answer, listed, wanted):
                    seen.add(listed.key)
                    yield listed

    def headers(self, listed: Listed) -> Sequence[Header]:
        """The whole headers of the wanted images; none where the service has no metadata."""
        if not is_uid(listed.key):
            return ()
        try:
            return tuple(image.header for image in self._images(listed))
        except PeerRefused as error:
            certain = error.status in _NO_SUCH_SERVICE
            may_lack = certain or error.status == _NOT_FOUND
            if may_lack and self._metadata.is_missing(listed.key, certain=certain):
                return ()
            raise

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """Retrieve the wanted images one by one, as they are kept."""
        if not is_uid(listed.key):
            return Fetched(faults={"study": "listed without a usable StudyInstanceUID"})
        images = self._images(listed)
        files, faults, lost = self._files(listed, images, folder)
        listed_uids = [image.sop_instance_uid for image in images]
        settled = settle(files, listed=listed_uids, count=0 if not images else None)
        fetched = Fetched(settled.files, settled.expected, {**settled.faults, **faults})
        if lost is not None:
            raise BrokenOff(str(lost), fetched) from lost
        return fetched

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _files(
        self, listed: Listed, images: Sequence[Image], folder: Path
    ) -> tuple[dict[str, Path], dict[str, str], PeerUnavailable | None]:
        """Files and faults by SOP Instance UID; the error, if the last of them got no answer."""
        files: dict[str, Path] = {}
        faults: dict[str, str] = {}
        unanswered: list[PeerUnavailable] = []
        for image in images:
            uid = image.sop_instance_uid
            try:
                content = self._service.instance(listed.key, image.series_instance_uid, uid)
            except PeerUnavailable as error:
                faults[uid] = str(error)
                unanswered.append(error)
                if len(unanswered) == _AWAY:
                    break
                continue
            except PeerRefused as error:
                faults[uid] = str(error)
            else:
                files[uid] = write(folder, uid, content)
            unanswered.clear()
        return files, faults, unanswered[-1] if unanswered else None

    def _pages(self, filters: Mapping[str, str]) -> Iterator[Mapping[str, Any] | Unlisted]:
        """Every answer: a page may be shorter than asked for, only an empty one is the last."""
        offset = 0
        seen: set[bytes] = set()
        while True:
            page = list(self._page(filters, offset, self._page_size))
            fresh = {canonical(one): one for one in page if not isinstance(one, Unlisted)}
            lost = [one for one in page if isinstance(one, Unlisted)]
            if not lost and fresh.keys() <= seen:  # also of a service that knows no offset
                return
            yield from (one for digest, one in fresh.items() if digest not in seen)
            yield from lost
            seen |= fresh.keys()
            offset += len(page)

    def _page(
        self, filters: Mapping[str, str], offset: int, limit: int
    ) -> Iterator[Mapping[str, Any] | Unlisted]:
        """One page; where the service refuses it for the sake of one study, all but that one.

        A service may refuse a whole answer because it cannot write one study of it, such as one
        whose character set it does not know.
        """
        try:
            yield from self._answers(filters, offset, limit)
        except PeerRefused as error:
            if limit == 1:
                yield Unlisted(f"{sorted(filters.items())} {offset}", str(error))
                return
            if limit == self._page_size and not self._answers_some(filters, offset):
                raise
            half = limit // 2
            first = list(self._page(filters, offset, half))
            yield from first
            if len(first) == half:
                yield from self._page(filters, offset + half, limit - half)

    def _answers(
        self, filters: Mapping[str, str], offset: int, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Answers from ``offset`` on, also of a service that counts ``limit`` from the first one.

        Orthanc's does: behind its first page every page would be empty, and the rest be missed.
        """

        def ask(limit: int) -> Sequence[Mapping[str, Any]]:
            return self._service.studies(filters, _FIELDS, limit=limit, offset=offset)

        found = ask(offset + limit if self._limit_from_first else limit)
        if found or not offset or self._limit_from_first:
            return found
        found = ask(offset + limit)
        self._limit_from_first = bool(found)
        return found

    def _answers_some(self, filters: Mapping[str, str], offset: int) -> bool:
        """Whether the service answers the query at all, in small parts."""
        for at in range(_PROBES):
            try:
                self._answers(filters, offset + at, 1)
            except PeerRefused:
                continue
            return True
        return False

    def _images(self, listed: Listed) -> tuple[Image, ...]:
        """Ask once for a study whose headers are wanted first and then its images."""
        if self._inventory[0] != listed.key:
            named = [
                image
                for one in self._service.metadata(listed.key)
                if is_uid((image := _image(one)).sop_instance_uid)
                and is_uid(image.series_instance_uid)
            ]
            if not named:
                text = "the service answered WADO-RS metadata with no instance that it names"
                raise PeerRefused(0, text)
            self._metadata.answered()
            wanted = tuple(
                image
                for image in named
                if (modality := image.header.clean("Modality")) in self._modalities or not modality
            )
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
