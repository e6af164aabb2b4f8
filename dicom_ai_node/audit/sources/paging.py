"""All answers to a query of studies: page by page, and window by window where pages have an end.

A page may be shorter than asked for, be the same for every offset, lie beyond how far the service
lets one page, or be refused for the sake of one study. What then is not answered is told.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from dicom_ai_node.audit.sources.dicom_json import canonical
from dicom_ai_node.audit.sources.listing import date_range, halves
from dicom_ai_node.audit.sources.qido import QidoSearch, Query
from dicom_ai_node.audit.sources.source import Slice
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.errors import PeerRefused

_PROBES = 5
"""So many studies in a row that cannot be listed are a query that is refused."""
DEEPEST = 10_000
"""Answers that one window of dates is paged through, before it is asked for in halves: an offset
costs a database all that it skips, and some services have a last one (Google: 1,000,000)."""


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


class _Ended(Exception):
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
        except _Ended as error:
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
            fresh = {canonical(one): one for one in piece.objects}
            if not piece.lost and fresh.keys() <= seen:
                if len(piece) == self._page_size:  # full once more: the offset is ignored
                    yield from self._without_offset(query)
                elif more:
                    raise _Ended(f"the service lists {offset} studies and says there are more")
                return
            yield from (one for digest, one in fresh.items() if digest not in seen)
            yield from piece.lost
            seen |= fresh.keys()
            offset, more = offset + len(piece), piece.more
        raise _Ended(f"more than {offset} studies")

    def _without_offset(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """Ask for more and more at once, until fewer come than were asked for."""
        limit, before = 2 * self._page_size, self._page_size
        while True:
            page = self._search.page(query, 0, limit)
            yield from page.objects
            count = len(page.objects)
            if count <= before or limit > DEEPEST:
                raise _Ended(f"the service lists {count} studies at most, whatever the offset")
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
                    raise _Ended(str(error)) from error
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
