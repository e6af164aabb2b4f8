"""C-FIND (PS3.4 C.6.2.1): what a PACS is asked at each level, and the query of studies.

A query of studies is put with as few demands as the peer needs to answer it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import date

import structlog
from pydicom import Dataset
from pydicom.datadict import dictionary_VR

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Slice
from dicom_ai_node.audit.sources.remote import DEMANDS
from dicom_ai_node.audit.sources.selection import count_in, date_range, halves
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.status import (
    ATTRIBUTE_ERRORS,
    cannot_process,
    does_not_match_class,
    is_out_of_resources,
)
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import PeerRefused
from dicom_ai_node.peer.exchange import Exchange, Match
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.text_header import ELEMENTS

STUDY = (
    *("SpecificCharacterSet", "StudyDate", "AccessionNumber", "ModalitiesInStudy"),
    *("StudyDescription", "AdmittingDiagnosesDescription", "PatientName", "PatientID"),
    *("IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "PregnancyStatus", "PatientSpeciesDescription", "PatientSexNeutered"),
    *("PatientBreedDescription", "ResponsiblePersonRole", "QualityControlSubject"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "RequestedProcedureDescription"),
    *("LongitudinalTemporalInformationModified", "StudyInstanceUID"),
    "NumberOfStudyRelatedInstances",
)
SERIES = (
    *("SpecificCharacterSet", "Modality", "Manufacturer", "StationName", "SeriesDescription"),
    *("ManufacturerModelName", "BodyPartExamined", "SoftwareVersions", "ProtocolName"),
    *("PerformedProcedureStepDescription", "SeriesInstanceUID", "NumberOfSeriesRelatedInstances"),
)
IMAGE = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "AcquisitionDate", "ViewPosition"),
    *("PhotometricInterpretation", "QualityControlImage", "BurnedInAnnotation", "WindowCenter"),
    *("WindowWidth", "RescaleIntercept", "RescaleSlope", "LossyImageCompression"),
    "PresentationLUTShape",
)
"""Return keys of each level: what the header rules read of it, and what places the answer."""
_REQUIRED = (
    *("SpecificCharacterSet", "StudyDate", "AccessionNumber", "PatientName", "PatientID"),
    "StudyInstanceUID",
)
"""Return keys that every peer has to know (PS3.4 C.6.2.1.2)."""

log = structlog.get_logger()


class StudySearch:
    """C-FIND at STUDY level. Remembers what the peer refused."""

    def __init__(
        self, source: str, connected: Callable[[], Exchange], *, match_modality: bool
    ) -> None:
        self._source = source
        self._connected = connected
        self._demands = next(
            at for at, demands in enumerate(DEMANDS) if demands.modality is match_modality
        )

    def studies(self, spec: AuditSpec, part: Slice) -> Iterator[Match]:
        """Return every answer, those of one query read to the end before the first is given."""
        for modality in spec.modalities:
            yield from self._found(modality, part, spec.today)
            if not DEMANDS[self._demands].modality:  # that was all of them
                return

    def _found(self, modality: str, part: Slice, today: date) -> tuple[Match, ...]:
        try:
            return self._asked(modality, part)
        except PeerRefused as error:
            smaller = halves(part, today)
            # Of a peer that has an end to what it answers.
            if not is_out_of_resources(error.status) or smaller is None:
                raise
            first, second = smaller
            return self._found(modality, first, today) + self._found(modality, second, today)

    def _asked(self, modality: str, part: Slice) -> tuple[Match, ...]:
        """Ask with the demands that were answered before, else with fewer and fewer."""
        refusal: PeerRefused | None = None
        for number, demands in enumerate(DEMANDS[self._demands :], self._demands):
            keys = STUDY if demands.attributes else _REQUIRED
            matching = {"ModalitiesInStudy": modality} if demands.modality else {}
            identifier = query("STUDY", keys, StudyDate=date_range(part), **matching)
            try:
                # All of them first: who is given one may ask for its headers on the association.
                found = tuple(self._connected().find(identifier))
            except PeerRefused as error:
                refusal = refusal or error
                if not _may_be_the_demands(error.status):
                    raise refusal from None
                continue
            if number != self._demands:
                log.warning(
                    "audit_source_asked_for_less", source=self._source, refused=str(refusal)
                )
                self._demands = number
            return found
        assert refusal is not None
        raise refusal


def _may_be_the_demands(status: int) -> bool:
    return does_not_match_class(status) or cannot_process(status) or status in ATTRIBUTE_ERRORS


def query(level: str, keys: Iterable[str], **matching: str) -> Dataset:
    """Return an identifier that asks for ``keys`` where ``matching`` holds."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in keys:
        tag, vr = element(keyword)
        identifier.add_new(tag, vr, None)
    for keyword, value in matching.items():
        setattr(identifier, keyword, value)
    return identifier


def number_of(answer: Dataset, keyword: str) -> int | None:
    """Return a count, None when there is none."""
    return count_in(text_of(answer, keyword))


def texts_of(answer: Dataset, keyword: str) -> list[str]:
    """Return the values of an attribute with several, without padding."""
    parts = text_of(answer, keyword).split("\\")
    return [text for part in parts if (text := part.strip())]


def below(parent: TextHeader, answer: Dataset) -> TextHeader:
    """Return what is known of a part: its own answer, and what it does not say from its parent.

    A peer returns an empty value for a key that it does not keep at a level.
    """
    header = TextHeader.from_dataset(answer)
    said = {key: value for key, value in header.values.items() if value.strip(" \0")}
    undecodable = frozenset(parent.undecodable - said.keys() | header.undecodable & said.keys())
    values = {**header.values, **parent.values, **said}
    return replace(header, values=values, undecodable=undecodable)


def element(keyword: str) -> tuple[int, str]:
    """Return tag and VR of a return key."""
    if keyword in ELEMENTS:
        return ELEMENTS[keyword]
    tag = tag_of(keyword)
    return tag, dictionary_VR(tag)
