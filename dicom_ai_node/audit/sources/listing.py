"""What is asked of every source, and how its answers are held against that."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from dicom_ai_node.audit.sources.modality import speaks_for
from dicom_ai_node.audit.sources.source import Listed, NotAudited, Omission, Slice
from dicom_ai_node.audit.spec import AuditSpec
from dicom_ai_node.dicom.classes import VERIFICATION
from dicom_ai_node.dicom.uids import clean_uid
from dicom_ai_node.rules import Header

NO_STUDY = VERIFICATION
"""No study has this UID: DICOM itself has given it to Verification (PS3.6 annex A)."""

_EARLIEST = date(1970, 1, 1)
"""No archive has many studies from before."""
_DAY = re.compile(r"[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The studies that a spec asks for: peers ignore what they cannot match.

    What cannot be read, or is not said, speaks for a study.
    """

    spec: AuditSpec

    def why_not(self, *, study_date: str, modalities: Iterable[str] = ()) -> Omission | None:
        """Return why a study is left out, None where it is wanted."""
        if speaks_for(modalities, self.spec.modalities) is False:
            return Omission.MODALITY
        day, asked = study_date.strip(" \0"), whole(self.spec)
        early = bool(asked.first) and day < asked.first
        late = bool(asked.last) and day > asked.last
        return Omission.DATES if _DAY.fullmatch(day) and (early or late) else None

    def first(self, headers: Iterable[Header]) -> Header | None:
        """Return the first header of a study whose StudyDate is wanted; None where none is.

        Without a header, as of files that have gone meanwhile, an empty one.
        """
        said = [*headers] or [Header()]
        dates = ((one, self.why_not(study_date=one.clean("StudyDate"))) for one in said)
        return next((one for one, why in dates if why is None), None)


class Part:
    """What a source answers for a part of the listing, each study once."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._listed: set[str] = set()
        self._omitted: dict[str, Omission] = {}

    def different(self, answers: Iterable[Listed | NotAudited]) -> Iterator[Listed]:
        """Return the studies that are audited; no more than the audit may have."""
        for one in answers:
            if isinstance(one, NotAudited):
                self._omitted[one.key] = one.why
            elif one.key not in self._listed:
                self._listed.add(one.key)
                yield one
            if self._limit is not None and len(self._listed) >= self._limit:
                return

    def omitted(self) -> Mapping[str, Omission]:
        """Return what is not audited, by key: a study that another answer lists is none of it."""
        return {key: why for key, why in self._omitted.items() if key not in self._listed}


def days(spec: AuditSpec) -> tuple[Slice, ...]:
    """Return a slice for each day, and an open one where the spec leaves an end open.

    An archive without dates is asked for at once, so that studies without a date are listed too:
    no query by date finds those.
    """
    first, last = spec.first_date, spec.last_date
    if first is None:
        return (Slice(last=_text(last)) if last else Slice(),)
    # Studies dated in the future are a finding, and come last.
    beyond = () if last else (Slice(first=_text(max(first, spec.today + timedelta(days=1)))),)
    end = last or spec.today
    return tuple(Slice(_text(day), _text(day)) for day in _each_day(first, end)) + beyond


def whole(spec: AuditSpec) -> Slice:
    """Return all that the spec asks for as one slice."""
    first, last = spec.first_date, spec.last_date
    return Slice(_text(first) if first else "", _text(last) if last else "")


def date_range(part: Slice) -> str:
    """Return the slice as a range match of StudyDate (PS3.4 C.2.2.2.5), '' for any."""
    if part.first == part.last:
        return part.first
    return f"{part.first}-{part.last}"


def study_key(uid: str, content: bytes) -> str:
    """Return the key of a study: its UID, or a digest of ``content`` where that is none."""
    return clean_uid(uid) or f"listed:{hashlib.sha256(content).hexdigest()}"


def halves(part: Slice, today: date) -> tuple[Slice, Slice] | None:
    """Return a window of dates as two, None where it cannot be cut; open ends stay open."""
    first = _date(part.first) if part.first else min(_EARLIEST, _date(part.last or _text(today)))
    last = _date(part.last) if part.last else max(today, first)
    if first >= last:
        return None
    middle = first + (last - first) // 2
    return Slice(part.first, _text(middle)), Slice(_text(middle + timedelta(days=1)), part.last)


def _each_day(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _text(day: date) -> str:
    return f"{day:%Y%m%d}"


def _date(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").date()
