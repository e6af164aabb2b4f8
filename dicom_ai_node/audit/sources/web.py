"""DICOMweb: QIDO-RS lists, WADO-RS gives headers and files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_ai_node.audit.sources.answers import Image
from dicom_ai_node.audit.sources.dicom_json import canonical, header_of, text_of, texts_of
from dicom_ai_node.audit.sources.landing import is_other, settle, write
from dicom_ai_node.audit.sources.listing import (
    NO_STUDY,
    Wanted,
    days,
    study_key,
)
from dicom_ai_node.audit.sources.modality import speaks_for
from dicom_ai_node.audit.sources.offer import Offer
from dicom_ai_node.audit.sources.paging import Pager, Unlisted
from dicom_ai_node.audit.sources.qido import QidoSearch
from dicom_ai_node.audit.sources.source import (
    OTHER_STUDY,
    BrokenOff,
    Fetched,
    Listed,
    NotAudited,
    OtherStudy,
    Slice,
)
from dicom_ai_node.audit.sources.web_service import WebService
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.config.peers import WebTable
from dicom_ai_node.dicom.uids import clean_uid, is_uid
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from dicom_ai_node.rules import Header

Texts = list[str]
_MODALITIES_IN_STUDY, _MODALITY = 0x00080061, 0x00080060
_STUDY, _SERIES, _INSTANCE, _CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
_INSTANCES_OF_STUDY = 0x00201208
_NOT_FOUND, _NO_SUCH_SERVICE = 404, frozenset({405, 501})
_AWAY = 3
"""So many images in a row without an answer are a service that is away."""


class Web:
    """A DICOMweb service as a source."""

    holds_files = False
    whole_headers = True

    def __init__(self, name: str, table: WebTable, *, modalities: Sequence[str]) -> None:
        self.name = name
        self._service = WebService(table)
        self._modalities = tuple(modalities)
        self._search = QidoSearch(name, self._service, match_modality=table.match_modality)
        self._pager = Pager(self._search, page=table.page)
        self._metadata = Offer(name, "WADO-RS metadata")
        self._inventory: tuple[str, tuple[Image, ...]] = ("", ())
        self._others = False
        """Whether metadata of another study came with it."""

    def probe(self) -> None:
        """Ask for one study by a UID that none has: also a service whose store is away fails."""
        self._search.matches({"StudyInstanceUID": NO_STUDY})

    def slices(self, spec: AuditSpec) -> Sequence[Slice]:
        """A day each, so that no limit on answers cuts a listing short."""
        return days(spec)

    def list(self, spec: AuditSpec, part: Slice) -> Iterator[Listed | NotAudited]:
        """Every answer to queries of each modality, held against what was asked."""
        wanted = Wanted(spec)
        asked: dict[str, Texts] = {}
        for answer in self._pager.studies(spec, part):
            if isinstance(answer, Unlisted):
                fault = f"cannot be listed: {answer.fault}"
                yield Listed(study_key("", answer.place.encode()), Header(), fault=fault)
                continue
            listed = _listed(answer)
            modalities = self._modalities_of(answer, listed, asked)
            why = wanted.why_not(study_date=listed.header.clean("StudyDate"), modalities=modalities)
            yield NotAudited(listed.key, why) if why else listed

    def headers(self, listed: Listed) -> Sequence[Header]:
        """The whole headers of the wanted images; none where the service has no metadata."""
        if not is_uid(listed.key):
            return ()
        try:
            headers = tuple(image.header for image in self._images(listed))
        except PeerRefused as error:
            certain = error.status in _NO_SUCH_SERVICE
            may_lack = certain or error.status == _NOT_FOUND
            if may_lack and self._metadata.is_missing(listed.key, certain=certain):
                return ()
            raise
        if self._others:
            raise OtherStudy(headers)
        return headers

    def fetch(self, listed: Listed, folder: Path) -> Fetched:
        """Retrieve the wanted images one by one, as they are kept."""
        if not is_uid(listed.key):
            return Fetched(faults={"study": "listed without a usable StudyInstanceUID"})
        images = self._images(listed)
        named = [one for one in images if one.sop_instance_uid and one.series_instance_uid]
        files, faults, lost = self._files(listed, named, folder)
        settled = settle(
            files,
            study=listed.key,
            listed=[image.sop_instance_uid for image in named],
            count=0 if not images else None,
        )
        faults = {**settled.faults, **faults}
        if len(named) < len(images):
            faults["unnamed"] = "listed without a usable UID"
        if self._others:
            faults["study"] = OTHER_STUDY
        fetched = Fetched(settled.files, settled.expected, faults)
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
                sent = self._service.instance(listed.key, image.series_instance_uid, uid)
            except PeerUnavailable as error:
                faults[uid] = str(error)
                unanswered.append(error)
                if len(unanswered) == _AWAY:
                    break
                continue
            except PeerRefused as error:
                faults[uid] = str(error)
            else:
                for content in sent:  # more than one of a service that sends all of a series
                    files[uid] = write(folder, uid, content)
                    if not is_other(files[uid], listed.key, uid):
                        break
            unanswered.clear()
        return files, faults, unanswered[-1] if unanswered else None

    def _modalities_of(
        self, answer: Mapping[str, Any], listed: Listed, asked: dict[str, Texts]
    ) -> Texts:
        """Return what an answer says; else what its series say, which are asked once.

        Not of a service that took ModalitiesInStudy for its query: it has matched them.
        """
        said = texts_of(answer, _MODALITIES_IN_STUDY)
        if said or self._search.by_modality or not is_uid(listed.key):
            return said
        if listed.key not in asked:
            try:
                series = self._service.series(listed.key)
            except PeerRefused:
                series = ()
            asked[listed.key] = [text for one in series for text in texts_of(one, _MODALITY)]
        return asked[listed.key]

    def _images(self, listed: Listed) -> tuple[Image, ...]:
        """Ask once for a study whose headers are wanted first and then its images."""
        if self._inventory[0] != listed.key:
            answers = self._service.metadata(listed.key)
            own = [one for one in answers if _study_of(one) in ("", listed.key)]
            images = [_image(one) for one in own]
            if not any(image.sop_instance_uid and image.series_instance_uid for image in images):
                text = "the service answered WADO-RS metadata with no instance that it names"
                raise PeerRefused(0, OTHER_STUDY if len(own) < len(answers) else text)
            self._metadata.answered()
            wanted = tuple(
                image
                for image, one in zip(images, own, strict=True)
                if speaks_for(texts_of(one, _MODALITY), self._modalities) is not False
            )
            self._inventory = (listed.key, wanted)
            self._others = len(own) < len(answers)
        return self._inventory[1]


def _listed(answer: Mapping[str, Any]) -> Listed:
    count = text_of(answer, _INSTANCES_OF_STUDY) or ""
    return Listed(
        key=study_key(text_of(answer, _STUDY) or "", canonical(answer)),
        header=header_of(answer),
        instances=int(count) if count.isascii() and count.isdigit() and len(count) < 10 else None,
    )


def _image(answer: Mapping[str, Any]) -> Image:
    return Image(
        sop_instance_uid=clean_uid(text_of(answer, _INSTANCE) or ""),
        sop_class_uid=clean_uid(text_of(answer, _CLASS) or ""),
        series_instance_uid=clean_uid(text_of(answer, _SERIES) or ""),
        header=header_of(answer),
    )


def _study_of(answer: Mapping[str, Any]) -> str:
    return clean_uid(text_of(answer, _STUDY) or "")
