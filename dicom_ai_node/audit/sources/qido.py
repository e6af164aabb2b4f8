"""The query of studies by QIDO-RS (PS3.18 10.6), of services that understand only a part of it.

What is forgiven: 404 where nothing matches; ModalitiesInStudy or ``includefield`` refused; a limit
that is counted from the first match and not from the offset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from dicom_ai_node.audit.sources import answers
from dicom_ai_node.audit.sources.listing import date_range
from dicom_ai_node.audit.sources.source import Slice
from dicom_ai_node.audit.sources.web_service import Page, WebService
from dicom_ai_node.errors import PeerRefused

_FIELDS = tuple(f"{answers.tag_of(keyword):08X}" for keyword in answers.STUDY)
_NOT_FOUND, _OUT_OF_RANGE = 404, 416
_QUESTION_REFUSED = frozenset({400, 413, 414, 422, 501})
"""The service is there and does not take the question as it is put."""
_NOTHING = Page((), more=False)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Demands:
    """What a query asks for beyond what every service has to know."""

    modality: bool
    """Match ModalitiesInStudy; else the answers are held against it here."""
    fields: bool
    """Name the attributes to answer."""


DEMANDS = (
    Demands(modality=True, fields=True),
    Demands(modality=True, fields=False),
    Demands(modality=False, fields=True),
    Demands(modality=False, fields=False),
)
"""From the most to the least."""


@dataclass(frozen=True, slots=True)
class Query:
    """Studies of one modality with a StudyDate in a window."""

    modality: str
    part: Slice


class QidoSearch:
    """QIDO-RS for studies, one page at a time. Remembers how the service behaves."""

    def __init__(self, name: str, service: WebService, *, match_modality: bool) -> None:
        self._name = name
        self._service = service
        self._demands = next(one for one in DEMANDS if one.modality is match_modality)
        self._limit_from_first = False
        self._proven = False
        """Whether a search was ever answered: then 404 says that nothing matches."""
        self._understood = False
        """Whether a query of studies was: then what is refused is not how it is put."""

    @property
    def by_modality(self) -> bool:
        """Whether the service matches ModalitiesInStudy, as far as is known."""
        return self._demands.modality

    def page(self, query: Query, offset: int, limit: int) -> Page:
        """Return answers from ``offset`` on, also of a service that counts from the first one.

        Orthanc's does: behind its first page every page would be empty, and the rest be missed.
        """
        found = self._ask(query, offset + limit if self._limit_from_first else limit, offset)
        if not found.objects and offset and not self._limit_from_first:
            found = self._ask(query, offset + limit, offset)
            self._limit_from_first = bool(found.objects)
        self._understood = True
        return found

    def ask_for_less(self, query: Query, refusal: PeerRefused) -> bool:
        """Find out what the service does not take, and ask without it from now on."""
        if self._understood or refusal.status not in _QUESTION_REFUSED:
            return False
        before = self._demands
        for self._demands in DEMANDS[DEMANDS.index(before) + 1 :]:
            try:
                self._ask(query, limit=1, offset=0)
            except PeerRefused:
                continue
            log.warning("audit_source_asked_for_less", source=self._name, refused=str(refusal))
            return True
        self._demands = before
        return False

    def matches(self, filters: Mapping[str, str]) -> bool:
        """Return whether a study matches; errors of the service."""
        return bool(self._searched(filters, (), limit=1, offset=0).objects)

    def _ask(self, query: Query, limit: int, offset: int) -> Page:
        filters = {"ModalitiesInStudy": query.modality} if self._demands.modality else {}
        if window := date_range(query.part):
            filters["StudyDate"] = window
        fields = _FIELDS if self._demands.fields else ()
        return self._searched(filters, fields, limit=limit, offset=offset)

    def _searched(
        self, filters: Mapping[str, str], fields: Sequence[str], *, limit: int, offset: int
    ) -> Page:
        """Search; 404 of a service that has answered a search is an empty answer."""
        try:
            found = self._service.studies(filters, fields, limit=limit, offset=offset)
        except PeerRefused as error:
            if error.status not in (_NOT_FOUND, _OUT_OF_RANGE):
                raise
            if error.status == _NOT_FOUND and not self._proven and not self._is_a_service():
                text = f"{error} to every search: is the url of the source right?"
                raise PeerRefused(_NOT_FOUND, text) from error
            found = _NOTHING
        self._proven = True
        return found

    def _is_a_service(self) -> bool:
        """Whether the service answers a search that asks for nothing in particular."""
        try:
            self._service.studies({}, (), limit=1, offset=0)
        except PeerRefused as error:
            if error.status in (0, _NOT_FOUND, 405, 410):
                return False
            if error.status not in _QUESTION_REFUSED:
                raise
        return True
