"""The attributes under check, one row each. What is special to one of them is a function here.

A row says how the attribute is read, which findings count toward its status, when it is not
assessed, what is proposed for it, and what a value in a wrong form means.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from dicom_ai_node.rules.meaning import sex_meant, years_meant
from dicom_ai_node.rules.proposals import propose_age, propose_sex
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.rule import Case
from dicom_ai_node.types import (
    AttributeStatus,
    AttributeValue,
    HeaderCheck,
    Proposal,
    ProposalSource,
)

AGE, SEX = "PatientAge", "PatientSex"


class Propose(Protocol):
    """Proposes values for an attribute."""

    def __call__(self, case: Case, rule: str, *, lacking: bool) -> Iterator[Proposal]:
        """Yield values for the attribute that ``rule`` found missing or wrong, the best first.

        ``lacking``: there is no usable value, as against one that something else contradicts.
        """
        ...


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute under check. It is a number in a unit, or one of some codes."""

    keyword: str
    name: str
    """Its short name in findings and in JSON."""
    propose: Propose
    meant: Callable[[Sequence[Reading]], AttributeValue | None]
    """What it surely means where nothing is wrong with it but its form."""
    sources: Mapping[str, ProposalSource]
    """The rung of the ladder for each source that ``propose`` names."""
    codes: frozenset[str] = frozenset()
    """The values of a coded attribute that can be used."""
    number: Callable[[Reading], float | None] | None = None
    """The value of a numeric attribute; None when it cannot be read or is a placeholder."""
    unit: str = ""
    """Of a numeric attribute, as JSON names it."""
    counts: tuple[str, ...] = ()
    """What else a finding may be about whose status is one of this attribute."""
    respected: Callable[[Case], bool] = field(default=lambda _: False)
    """Whether what is recorded must not be assessed."""
    censored: Callable[[Reading], bool] = field(default=lambda _: False)
    """Whether what an instance records is a bound and not a value."""

    def read(self, reading: Reading) -> AttributeValue | None:
        """What one instance records, None when it cannot be used."""
        if self.number is not None:
            return self.number(reading)
        return self.code(reading.header.clean(self.keyword))

    def code(self, text: str) -> str | None:
        """What a text records of a coded attribute, None when it cannot be used."""
        return text if text in self.codes else None


def _years(reading: Reading) -> float | None:
    return None if reading.age is None or reading.placeholder_age else reading.age.years


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType(
    {
        AGE: Attribute(
            AGE,
            "age",
            propose_age,
            years_meant,
            sources={
                "PatientAge": ProposalSource.HEADER,
                "PatientBirthDate and StudyDate": ProposalSource.DATES,
                "PatientBirthDate of the worklist and StudyDate": ProposalSource.WORKLIST,
                "PatientAge of the worklist": ProposalSource.WORKLIST,
                "PatientBirthDate of other studies and StudyDate": ProposalSource.PRIORS,
            },
            number=_years,
            unit="years",
            counts=("dates",),
            censored=lambda reading: reading.censored_age,
        ),
        SEX: Attribute(
            SEX,
            "sex",
            propose_sex,
            lambda readings: sex_meant(readings) or None,
            sources={
                "PatientSex": ProposalSource.HEADER,
                "PatientSex of the worklist": ProposalSource.WORKLIST,
                "PatientSex of other studies": ProposalSource.PRIORS,
            },
            codes=frozenset({"F", "M", "O"}),
            respected=lambda case: case.sex_respected,
        ),
    }
)
"""By keyword, in the order in which they are listed everywhere."""


def trusted_age(check: HeaderCheck) -> float | None:
    """The recorded age in years that the image is compared with, None when a rule doubts it."""
    years = check.trusted(AGE)
    return years if isinstance(years, float) else None


def trusted_sex(check: HeaderCheck) -> str:
    """The recorded sex, ``M`` or ``F``, as :func:`trusted_age`; '' when a rule doubts it."""
    sex = check.trusted(SEX)
    return sex if isinstance(sex, str) and sex in {"F", "M"} else ""


def stated_age(check: HeaderCheck) -> float | None:
    """Years that PatientAge states, whatever its form and whatever speaks against it."""
    years = check.attributes[AGE].stated
    return years if isinstance(years, float) else None


def stated_sex(check: HeaderCheck) -> str:
    """PatientSex as other studies are held against it; '' where it is not assessed."""
    row = check.attributes[SEX]
    if row.status is AttributeStatus.NOT_ASSESSED:
        return ""
    return row.recorded if row.meant is None else str(row.meant)


def comparable_age(check: HeaderCheck) -> float | None:
    """The age that other studies are held against: a lower bound is none."""
    return None if check.attributes[AGE].censored else stated_age(check)
