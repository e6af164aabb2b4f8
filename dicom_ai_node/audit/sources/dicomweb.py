"""DICOMweb: QIDO-RS lists, WADO-RS gives headers and files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import (
    OTHER_STUDY,
    BrokenOff,
    Fetched,
    Listed,
    OtherStudy,
    Slice,
)
from dicom_ai_node.audit.sources.dicom_json import canonical, header_of, text_of, texts_of
from dicom_ai_node.audit.sources.dicomweb_client import WebService
from dicom_ai_node.audit.sources.qido import Pager, QidoSearch, Unlisted
from dicom_ai_node.audit.sources.remote import NO_STUDY, Image, OptionalService, RemoteSource
from dicom_ai_node.audit.sources.selection import count_in, names_wanted, study_key
from dicom_ai_node.audit.sources.temporary_scp import is_other, settle, write
from dicom_ai_node.config.peers import WebTable
from dicom_ai_node.dicom.uids import clean_uid, is_uid
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from dicom_ai_node.rules import TextHeader

_MODALITIES_IN_STUDY, _MODALITY = 0x00080061, 0x00080060
_STUDY, _SERIES, _INSTANCE, _CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
_INSTANCES_OF_STUDY = 0x00201208
_NOT_FOUND, _NO_SUCH_SERVICE = 404, frozenset({405, 501})
_AWAY = 3
"""So many images in a row without an answer are a service that is away."""


@dataclass(frozen=True, slots=True)
class WebInventory:
    """The wanted part of a study."""

    images: tuple[Image, ...]
    others: bool
    """Whether metadata of another study came with it."""


class Web(RemoteSource[WebInventory]):
    """A DICOMweb service as a source."""

    whole_headers = True

    def __init__(self, name: str, table: WebTable, *, modalities: Sequence[str]) -> None:
        super().__init__(name, modalities)
        self._service = WebService(table)
        self._search = QidoSearch(name, self._service, match_modality=table.match_modality)
        self._pager = Pager(self._search, page=table.page)
        self._metadata = OptionalService(name, "WADO-RS metadata")

    def probe(self) -> None:
        """Ask for one study by a UID that none has: also a service whose store is away fails."""
        self._search.matches({"StudyInstanceUID": NO_STUDY})

    def headers(self, listed: Listed) -> Sequence[TextHeader]:
        """The whole headers of the wanted images; none where the service has no metadata."""
        if not is_uid(listed.key):
            return ()
        try:
            inventory = self._inventory_of(listed)
        except PeerRefused as error:
            certain = error.status in _NO_SUCH_SERVICE
            may_lack = certain or error.status == _NOT_FOUND
            if may_lack and self._metadata.is_missing(listed.key, certain=certain):
                return ()
            raise
        headers = tuple(image.header for image in inventory.images)
        if inventory.others:
            raise OtherStudy(headers)
        return headers

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
            uid = image.sop_uid
            try:
                sent = self._service.instance(listed.key, image.series_uid, uid)
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

    def _studies(self, spec: AuditSpec, part: Slice) -> Iterator[tuple[Listed, Sequence[str]]]:
        for answer in self._pager.studies(spec, part):
            if isinstance(answer, Unlisted):
                key = study_key("", answer.place.encode())
                yield Listed(key, TextHeader(), fault=f"cannot be listed: {answer.fault}"), ()
            else:
                yield _listed(answer), texts_of(answer, _MODALITIES_IN_STUDY)

    def _may_ask_series(self) -> bool:
        """Not of a service that took ModalitiesInStudy for its query: it has matched them."""
        return not self._search.by_modality

    def _series_modalities(self, study_uid: str) -> Sequence[str]:
        try:
            series = self._service.series(study_uid)
        except PeerRefused:
            return ()
        return [text for answer in series for text in texts_of(answer, _MODALITY)]

    def _take_inventory(self, listed: Listed) -> WebInventory:
        answers = self._service.metadata(listed.key)
        of_study = [answer for answer in answers if _study_of(answer) in ("", listed.key)]
        images = [_image(answer) for answer in of_study]
        if not any(image.sop_uid and image.series_uid for image in images):
            text = "the service answered WADO-RS metadata with no instance that it names"
            raise PeerRefused(0, OTHER_STUDY if len(of_study) < len(answers) else text)
        self._metadata.answered()
        wanted = tuple(
            image
            for image, answer in zip(images, of_study, strict=True)
            if names_wanted(texts_of(answer, _MODALITY), self._modalities) is not False
        )
        return WebInventory(wanted, others=len(of_study) < len(answers))

    def _retrieve(self, listed: Listed, inventory: WebInventory, folder: Path) -> Fetched:
        """Retrieve the wanted images one after the other, as they are stored."""
        images = inventory.images
        named = [image for image in images if image.sop_uid and image.series_uid]
        files, faults, lost = self._files(listed, named, folder)
        settled = settle(
            files,
            study_uid=listed.key,
            listed=[image.sop_uid for image in named],
            count=0 if not images else None,
        )
        faults = {**settled.faults, **faults}
        if len(named) < len(images):
            faults["unnamed"] = "listed without a usable UID"
        if inventory.others:
            faults["study"] = OTHER_STUDY
        fetched = Fetched(settled.files, settled.expected, faults)
        if lost is not None:
            raise BrokenOff(str(lost), fetched) from lost
        return fetched


def _listed(answer: Mapping[str, Any]) -> Listed:
    return Listed(
        key=study_key(text_of(answer, _STUDY) or "", canonical(answer)),
        header=header_of(answer),
        instances=count_in(text_of(answer, _INSTANCES_OF_STUDY) or ""),
    )


def _image(answer: Mapping[str, Any]) -> Image:
    return Image(
        sop_uid=clean_uid(text_of(answer, _INSTANCE) or ""),
        sop_class_uid=clean_uid(text_of(answer, _CLASS) or ""),
        series_uid=clean_uid(text_of(answer, _SERIES) or ""),
        header=header_of(answer),
    )


def _study_of(answer: Mapping[str, Any]) -> str:
    return clean_uid(text_of(answer, _STUDY) or "")
