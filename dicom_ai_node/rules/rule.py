"""What a rule is, what it gets to see, and the table of rules that a module holds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from types import ModuleType
from typing import Any, Generic, TypeVar

from dicom_ai_node.config.rules import RulesSettings, settings_read_by
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.types import (
    AttributeStatus,
    AttributeValue,
    PriorStudy,
    Severity,
    WorklistAnswer,
)

ERROR, WARNING, INFORMATION = Severity.ERROR, Severity.WARNING, Severity.INFORMATION
MALFORMED, MISSING = AttributeStatus.MALFORMED, AttributeStatus.MISSING
IMPLAUSIBLE, CONFLICT = AttributeStatus.IMPLAUSIBLE, AttributeStatus.CONFLICT_HEADER

OTHER_SEXES = frozenset("ODX")
"""What a worklist says of who is neither M nor F: DICOM's O, and what others have for it."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What the instances of a study say of an attribute: what can be used, then what is usual."""

    text: str
    """As sent, '' when no instance says anything."""
    value: AttributeValue | None
    """As read, None when it cannot be used."""


@dataclass(frozen=True, slots=True)
class Case:
    """One study: its instances and the other studies of its patient."""

    readings: tuple[Reading, ...]
    """One for each different header, in an order that does not depend on that of arrival."""
    priors: tuple[PriorStudy, ...]
    usual: Mapping[str, Usual]
    """By keyword, for each attribute under check."""
    settings: RulesSettings
    today: date
    worklist: WorklistAnswer | None = None
    """What a worklist says of the patient; None where none was asked or none knew."""

    @property
    def sex_respected(self) -> bool:
        """Whether any instance (F6), or the worklist, says that sex must not be assessed."""
        listed = self.worklist is not None and self.worklist.sex in OTHER_SEXES
        return listed or any(reading.sex_respected for reading in self.readings)

    @property
    def study_date(self) -> date | None:
        """The study's date, None when there is none or it may not be used for arithmetic."""
        dates = {reading.study for reading in self.readings if not reading.dates_modified}
        return min(filter(None, dates), default=None)

    def lacks(self, keyword: str) -> bool:
        """Whether no instance has a value."""
        return not any(reading.header.clean(keyword) for reading in self.readings)


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that a rule found; what is None is as the rule says."""

    reason: str | None = None
    attribute: str | None = None
    severity: Severity | None = None
    status: AttributeStatus | None = None
    """What it makes of its attribute, for rules that do not make the same of everything."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the table of rules says of one rule."""

    id: str
    severity: Severity
    attribute: str
    """``age``, ``sex``, ``body_part``, ``dates``, ``identity`` or ``image``."""
    reason: str
    """One line: what is wrong where the rule fires."""
    status: AttributeStatus | None = None
    """What a hit makes of the attribute that it is about. A hit about dates is one about age."""

    @property
    def tunables(self) -> tuple[str, ...]:
        """Names of the settings that it reads."""
        return settings_read_by(self.id)


Check = TypeVar("Check", bound=Callable[..., Any])
Check_co = TypeVar("Check_co", bound=Callable[..., Any], covariant=True)
StudyCheck = Callable[[Case], Iterator[Hit]]


@dataclass(frozen=True, slots=True)
class Rule(Entry, Generic[Check_co]):
    """A rule, and the function that looks whether it fires."""

    check: Check_co = field(kw_only=True, repr=False)


StudyRule = Rule[StudyCheck]


def rule(
    identifier: str,
    severity: Severity,
    attribute: str,
    reason: str,
    *,
    status: AttributeStatus | None = None,
) -> Callable[[Check], Rule[Check]]:
    """Make a function the check of a rule; what the rule is stands above it, as an entry has it."""

    def made(check: Check) -> Rule[Check]:
        return Rule(identifier, severity, attribute, reason, status, check=check)

    return made


def rules_in(*modules: ModuleType) -> dict[str, Rule[Any]]:
    """The rules of modules by their ids, in the order of these: D2 before D10."""
    rules = [found for module in modules for found in vars(module).values()]
    by_id = {found.id: found for found in rules if isinstance(found, Rule)}
    return dict(sorted(by_id.items(), key=lambda item: (item[0][0], int(item[0][1:]))))


def each(check: Callable[[Reading], Iterator[Hit]]) -> StudyCheck:
    """Lift a rule over one header to a rule over the headers of a study."""

    def over_study(case: Case) -> Iterator[Hit]:
        for reading in case.readings:
            yield from check(reading)

    return over_study


def when(wrong: Callable[[Case], bool]) -> StudyCheck:
    """Make a check of a condition: its finding has no more to say than the rule."""

    def check(case: Case) -> Iterator[Hit]:
        if wrong(case):
            yield Hit()

    return check
