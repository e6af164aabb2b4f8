"""What is asked of every source, and how its answers are held against that."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from dicom_ai_node.audit.sources.source import Slice
from dicom_ai_node.audit.spec import AuditSpec

NO_STUDY = "1.2.840.10008.1.1"
"""No study has this UID: DICOM itself has given it to Verification (PS3.6 annex A)."""

_DAY = re.compile(r"[0-9]{8}")
# PS3.5 9.1 but for leading zeros, which are forbidden and common.
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The studies that a slice is asked for: peers ignore what they cannot match."""

    modalities: tuple[str, ...]
    part: Slice

    def __call__(self, *, study_date: str, modalities: Sequence[str]) -> bool:
        """Whether a study is wanted; what cannot be read, or is not said, speaks for it."""
        return self._day(study_date) and self.modality(modalities)

    def modality(self, found: Sequence[str]) -> bool:
        """Whether one of the modalities is wanted; also when none is said."""
        return not found or any(one in self.modalities for one in found)

    def _day(self, text: str) -> bool:
        if not _DAY.fullmatch(text):
            return True
        first, last = self.part.first, self.part.last
        return (not first or first <= text) and (not last or text <= last)


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
    return uid if is_uid(uid) else f"listed:{hashlib.sha256(content).hexdigest()}"


def is_uid(text: str) -> bool:
    """Whether ``text`` can name a study, a series or an instance."""
    return _UID.fullmatch(text) is not None


def _each_day(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _text(day: date) -> str:
    return day.strftime("%Y%m%d")
