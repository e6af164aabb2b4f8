"""One study as one bundle saw it, beside what its header states and no rule doubts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from dicom_ai_node.answers import Measured, Outcome
from dicom_ai_node.types import AttributeValue

_WEEK = 7 * 86400.0
_FIRST_MONDAY = 4 * 86400.0  # 1 January 1970 was a Thursday


class Role(StrEnum):
    """What the bundle was to the node when it saw the study."""

    LIVE = "live"
    """It is the first of those whose answers the node reports."""
    FURTHER = "further"
    """It is another of those."""
    SHADOW = "shadow"
    """It ran beside the live one; nothing of it is reported."""


@dataclass(frozen=True, slots=True)
class ObservedHead:
    """What one head of the bundle said of the study."""

    kind: str
    """``quantity``, ``category`` or ``findings``."""
    attribute: str = ""
    """DICOM keyword of the attribute that the answer is held against, '' for none."""
    unit: str = ""
    """Of a quantity, UCUM."""
    values: tuple[str, ...] = ()
    """The values of a category, the labels of findings."""
    answer: Mapping[str, float] = field(default_factory=dict)
    """``mu``, ``low90`` and ``high90`` of a quantity, else the probability of each of ``values``,
    also where policy finds it too uncertain to be stated. Empty when a gate or the recorded age
    forbids an answer."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is kept of one study and one bundle. No name and no PatientID."""

    study_uid: str
    model_sha256: str
    role: Role
    outcome: Outcome
    """What the policy makes of the images, also where only the header was reported."""
    reason_code: str = ""
    gate: str = ""
    """Name of the gate that let no image pass, '' for none."""
    manufacturer: str = ""
    model_name: str = ""
    station: str = ""
    software: str = ""
    view: str = ""
    """ViewPosition of the header, '' when unknown or not the same in all images."""
    recorded: Mapping[str, AttributeValue] = field(default_factory=dict)
    """What the header states and no rule doubts, by DICOM keyword."""
    heads: Mapping[str, ObservedHead] = field(default_factory=dict)
    """Every head of the bundle by its name, in the order of the manifest."""
    measured: Measured | None = None
    """Of the first image that every gate let pass, in the order of their UIDs: what
    ``model recalibrate`` would find in it. None where there is none, or none such is fitted."""
    received_at: float = 0.0
    """When the study first came; the database fills it."""
    patient: str = ""
    """Hash that is the same for the studies of a patient, '' when unknown; joined from what the
    rules remember, and never stored with the observation."""

    @property
    def person(self) -> str:
        """What tells independent studies apart."""
        return self.patient or self.study_uid

    @property
    def week(self) -> int:
        """Number of the week, from Monday 0:00 UTC, in which the study came."""
        return week_of(self.received_at)

    @property
    def seen(self) -> bool:
        """Whether the network saw at least one image."""
        return self.outcome in (Outcome.ESTIMATED, Outcome.ABSTAINED)


def once_a_week(observations: Iterable[Observation]) -> list[Observation]:
    """Return the first study of each person, week and bundle, in order of time.

    A patient in intensive care has a radiograph a day, and the network errs on all of them in the
    same way: counted singly they would pass for evidence that they are not.
    """
    first: dict[tuple[str, int, str], Observation] = {}
    for one in sorted(observations, key=lambda one: (one.received_at, one.study_uid)):
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
