"""The query of studies by C-FIND, with as few demands as a peer needs to answer it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import structlog
from pydicom import Dataset

from dicom_ai_node.audit.sources import answers
from dicom_ai_node.audit.sources.listing import date_range, halves
from dicom_ai_node.audit.sources.source import Slice
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.dicom.status import cannot_process, does_not_match_class, is_out_of_resources
from dicom_ai_node.errors import PeerRefused
from dicom_ai_node.peer.exchange import Answer, Exchange

_REQUIRED = (
    *("SpecificCharacterSet", "StudyDate", "AccessionNumber", "PatientName", "PatientID"),
    "StudyInstanceUID",
)
"""Return keys that every peer has to know (PS3.4 C.6.2.1.2)."""
_BAD_ATTRIBUTES = range(0x0105, 0x0111)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Demands:
    """What a query of studies asks for beyond what every peer has to know."""

    modality: bool
    """Match ModalitiesInStudy, which is optional; else it is only asked for."""
    all_keys: bool


DEMANDS = tuple(
    Demands(*one) for one in ((True, True), (True, False), (False, True), (False, False))
)
"""From the most to the least."""


class StudySearch:
    """C-FIND at STUDY level. Remembers what the peer refused."""

    def __init__(
        self, source: str, connected: Callable[[], Exchange], *, match_modality: bool
    ) -> None:
        self._source = source
        self._connected = connected
        self._demands = next(at for at, one in enumerate(DEMANDS) if one.modality is match_modality)

    def studies(self, spec: AuditSpec, part: Slice) -> Iterator[Answer]:
        """Return every answer, those of one query read to the end before the first is given."""
        for modality in spec.modalities:
            yield from self._found(modality, part, spec.today)
            if not DEMANDS[self._demands].modality:  # that was all of them
                return

    def _found(self, modality: str, part: Slice, today: date) -> tuple[Answer, ...]:
        try:
            return self._asked(modality, part)
        except PeerRefused as error:
            smaller = halves(part, today)
            # Of a peer that has an end to what it answers.
            if not is_out_of_resources(error.status) or smaller is None:
                raise
            first, second = smaller
            return self._found(modality, first, today) + self._found(modality, second, today)

    def _asked(self, modality: str, part: Slice) -> tuple[Answer, ...]:
        """Ask with the demands that were answered before, else with fewer and fewer."""
        refusal: PeerRefused | None = None
        for number in range(self._demands, len(DEMANDS)):
            try:
                # All of them first: who is given one may ask for its headers on the association.
                found = tuple(self._connected().find(_identifier(DEMANDS[number], modality, part)))
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


def _identifier(demands: Demands, modality: str, part: Slice) -> Dataset:
    matching = {"StudyDate": date_range(part)}
    if demands.modality:
        matching["ModalitiesInStudy"] = modality
    return answers.query("STUDY", answers.STUDY if demands.all_keys else _REQUIRED, **matching)


def _may_be_the_demands(status: int) -> bool:
    return does_not_match_class(status) or cannot_process(status) or status in _BAD_ATTRIBUTES
