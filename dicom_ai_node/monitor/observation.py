"""One study as one bundle saw it, beside what its header states and no rule doubts."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from dicom_ai_node.types import Outcome

GATE_REASONS = frozenset({"not_a_chest", "not_frontal", "out_of_distribution"})
"""Codes of :mod:`dicom_ai_node.decide.images`, where a bundle has these gates."""
_WEEK = 7 * 86400.0
_FIRST_MONDAY = 4 * 86400.0  # 1 January 1970 was a Thursday


class Role(StrEnum):
    """What the bundle was to the node when it saw the study."""

    LIVE = "live"
    """Its answers are what the node reports."""
    SHADOW = "shadow"
    """It ran beside the live one; nothing of it is reported."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is kept of one study and one bundle. No name and no PatientID."""

    study_instance_uid: str
    model_sha256: str
    role: Role
    outcome: Outcome
    """What the policy makes of the images, also where only the header was reported."""
    reason_code: str = ""
    manufacturer: str = ""
    model_name: str = ""
    station: str = ""
    software: str = ""
    view: str = ""
    """ViewPosition of the header, '' when unknown or not the same in all images."""
    sex: str = ""
    """Recorded sex, ``F`` or ``M``; '' when it is not to be trusted."""
    age: float | None = None
    """Recorded age in years; None when it is not to be trusted."""
    mu: float | None = None
    """Age estimate in years, also where policy finds it too uncertain to be stated; None when a
    gate or the recorded age forbids one."""
    low90: float | None = None
    high90: float | None = None
    probability_female: float | None = None
    received_at: float = 0.0
    """When the study first came; the database fills it."""
    patient: str = ""
    """Hash that is the same for the studies of a patient, '' when unknown; joined from what the
    rules remember, and never stored with the observation."""

    @property
    def person(self) -> str:
        """What tells independent studies apart."""
        return self.patient or self.study_instance_uid

    @property
    def week(self) -> int:
        """Number of the week, from Monday 0:00 UTC, in which the study came."""
        return week_of(self.received_at)

    @property
    def error(self) -> float | None:
        """Estimate minus recorded age, years."""
        return None if self.mu is None or self.age is None else self.mu - self.age

    @property
    def covered(self) -> bool | None:
        """Whether the 90 % interval holds the recorded age."""
        if self.age is None or self.low90 is None or self.high90 is None:
            return None
        return self.low90 <= self.age <= self.high90

    @property
    def right(self) -> bool | None:
        """Whether the more probable sex is the recorded one."""
        if not self.sex or self.probability_female is None:
            return None
        return (self.probability_female >= 0.5) == (self.sex == "F")

    @property
    def seen(self) -> bool:
        """Whether the network saw at least one image."""
        return self.outcome in (Outcome.ESTIMATED, Outcome.ABSTAINED)

    @property
    def gated(self) -> bool:
        """Whether the network saw it and a gate let no image pass."""
        return self.outcome is Outcome.ABSTAINED and self.reason_code in GATE_REASONS


def once_a_week(observations: Iterable[Observation]) -> list[Observation]:
    """Return the first study of each person, week and bundle, in order of time.

    A patient in intensive care has a radiograph a day, and the network errs on all of them in the
    same way: counted singly they would pass for evidence that they are not.
    """
    first: dict[tuple[str, int, str], Observation] = {}
    for one in sorted(observations, key=lambda one: (one.received_at, one.study_instance_uid)):
        first.setdefault((one.person, one.week, one.model_sha256), one)
    return list(first.values())


def week_of(at: float) -> int:
    """Number of the week that holds ``at``, seconds since the epoch."""
    return int((at - _FIRST_MONDAY) // _WEEK)


def week_begin(week: int) -> float:
    """When a week begins, seconds since the epoch."""
    return _FIRST_MONDAY + week * _WEEK


def week_name(week: int) -> str:
    """The Monday of a week, ISO 8601."""
    return datetime.fromtimestamp(week_begin(week), UTC).date().isoformat()
