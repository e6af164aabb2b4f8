"""The query of studies by QIDO-RS (PS3.18 10.6), of services that understand only a part of it.

What is forgiven: 404 where nothing matches; ModalitiesInStudy or ``includefield`` refused; a limit
that is counted from the first match and not from the offset. All answers are read page by page, and
window by window where pages have an end. A page may be shorter than asked for, be the same for
every offset, lie beyond how far the service lets one page, or be refused for the sake of one study.
What then is not answered is reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import structlog

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Slice, cfind
from dicom_ai_node.audit.sources.dicom_json import canonical
from dicom_ai_node.audit.sources.dicomweb_client import MatchPage, WebService
from dicom_ai_node.audit.sources.remote import DEMANDS
from dicom_ai_node.audit.sources.selection import date_range, halves
from dicom_ai_node.errors import PeerRefused

_FIELDS = tuple(f"{cfind.element(keyword)[0]:08X}" for keyword in cfind.STUDY)
_NOT_FOUND, _OUT_OF_RANGE = 404, 416
_QUESTION_REFUSED = frozenset({400, 413, 414, 422, 501})
"""The service is there and does not take the question as it is put."""
_NOTHING = MatchPage((), more=False)

_PROBES = 5
"""So many studies in a row that cannot be listed are a query that is refused."""
DEEPEST = 10_000
"""Answers that one window of dates is paged through, before it is asked for in halves: an offset
costs a database all that it skips, and some services have a last one (Google: 1,000,000)."""

log = structlog.get_logger()


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
        self._demands = next(demands for demands in DEMANDS if demands.modality is match_modality)
        self._limit_from_first = False
        self._proven = False
        """Whether a search was ever answered: then 404 says that nothing matches."""
        self._understood = False
        """Whether a query of studies was: then what is refused is not how it is put."""

    @property
    def by_modality(self) -> bool:
        """Whether the service matches ModalitiesInStudy, as far as is known."""
        return self._demands.modality

    def page(self, query: Query, offset: int, limit: int) -> MatchPage:
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

    def _ask(self, query: Query, limit: int, offset: int) -> MatchPage:
        filters = {"ModalitiesInStudy": query.modality} if self._demands.modality else {}
        if window := date_range(query.part):
            filters["StudyDate"] = window
        fields = _FIELDS if self._demands.attributes else ()
        return self._searched(filters, fields, limit=limit, offset=offset)

    def _searched(
        self, filters: Mapping[str, str], fields: Sequence[str], *, limit: int, offset: int
    ) -> MatchPage:
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


@dataclass(frozen=True, slots=True)
class Unlisted:
    """What the service has and does not describe: a study, or the rest of an answer."""

    place: str
    """Query and position."""
    fault: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """A page, or a part of one."""

    objects: tuple[Mapping[str, Any], ...] = ()
    lost: tuple[Unlisted, ...] = ()
    more: bool = False
    """Whether the service said that there are more."""

    def __len__(self) -> int:
        return len(self.objects) + len(self.lost)

    def __add__(self, other: "_Piece") -> "_Piece":
        return _Piece(self.objects + other.objects, self.lost + other.lost, other.more)


class _TooManyAnswers(Exception):
    """A query has more answers than can be paged through."""


class Pager:
    """Reads the whole answer to queries of studies."""

    def __init__(self, search: QidoSearch, *, page: int) -> None:
        self._search = search
        self._page_size = page

    def studies(self, spec: AuditSpec, part: Slice) -> Iterator[Mapping[str, Any] | Unlisted]:
        """Return every answer, some of them more than once."""
        for modality in spec.modalities:
            yield from self._window(Query(modality, part), spec.today)
            if not self._search.by_modality:  # that was all of them
                return

    def _window(self, query: Query, today: date) -> Iterator[Mapping[str, Any] | Unlisted]:
        part = query.part
        smaller = halves(part, today)
        dated = bool(part.first or part.last)
        try:
            # Without dates as far as it goes: no window of dates finds a study without one.
            yield from self._pages(query, DEEPEST if dated and smaller else None)
        except _TooManyAnswers as error:
            if smaller is None or not dated:
                what = f"the rest of {date_range(part)}" if dated else "studies without a StudyDate"
                yield Unlisted(f"{_place(query)} rest", f"{what}: {error}")
            for half in smaller or ():
                yield from self._window(Query(query.modality, half), today)

    def _pages(self, query: Query, deepest: int | None) -> Iterator[Mapping[str, Any] | Unlisted]:
        """Every answer: only an empty page, or one that brings nothing new, is the last."""
        offset, more = 0, False
        seen: set[bytes] = set()
        while deepest is None or offset < deepest:
            piece = self._piece(query, offset, self._page_size)
            fresh = {canonical(answer): answer for answer in piece.objects}
            if not piece.lost and fresh.keys() <= seen:
                if len(piece) == self._page_size:  # full once more: the offset is ignored
                    yield from self._without_offset(query)
                elif more:
                    raise _TooManyAnswers(
                        f"the service lists {offset} studies and says there are more"
                    )
                return
            yield from (answer for digest, answer in fresh.items() if digest not in seen)
            yield from piece.lost
            seen |= fresh.keys()
            offset, more = offset + len(piece), piece.more
        raise _TooManyAnswers(f"more than {offset} studies")

    def _without_offset(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """Ask for more and more at once, until fewer come than were asked for."""
        limit, before = 2 * self._page_size, self._page_size
        while True:
            page = self._search.page(query, 0, limit)
            yield from page.objects
            count = len(page.objects)
            if count <= before or limit > DEEPEST:
                raise _TooManyAnswers(
                    f"the service lists {count} studies at most, whatever the offset"
                )
            if count < limit and not page.more:
                return
            limit, before = 2 * limit, count

    def _piece(self, query: Query, offset: int, limit: int) -> _Piece:
        """One page; where the service refuses it for the sake of one study, all but that one.

        A service may refuse a whole answer because it cannot write one study of it, such as one
        whose character set it does not know.
        """
        try:
            page = self._search.page(query, offset, limit)
        except PeerRefused as error:
            if limit == self._page_size and not self._answers_some(query, offset):
                if offset:
                    raise _TooManyAnswers(str(error)) from error
                if not self._search.ask_for_less(query, error):
                    raise
                return self._piece(query, offset, limit)
            if limit == 1:
                return _Piece(lost=(Unlisted(f"{_place(query)} {offset}", str(error)),))
            half = limit // 2
            first = self._piece(query, offset, half)
            if len(first) < half:
                return first
            return first + self._piece(query, offset + half, limit - half)
        return _Piece(tuple(page.objects), more=page.more)

    def _answers_some(self, query: Query, offset: int) -> bool:
        """Whether the service answers the query at all, in small parts."""
        for at in range(_PROBES):
            try:
                self._search.page(query, offset + at, 1)
            except PeerRefused:
                continue
            return True
        return False


def _place(query: Query) -> str:
    return f"{query.modality} {date_range(query.part)}"
