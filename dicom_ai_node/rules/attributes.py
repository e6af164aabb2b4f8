"""The attributes under check, one row each. What is special to one of them is a function here.

A row says how the attribute is read, which findings count toward its status, when it is not
assessed, what is proposed for it, and what a value in a wrong form means.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from dicom_ai_node.dicom.body_parts import BODY_PARTS, combined
from dicom_ai_node.rules.ages_and_dates import encode_age_at, read_age, years_between
from dicom_ai_node.rules.body_part_meaning import (
    BODY_PART,
    coded_part,
    coded_parts,
    contradicted,
    described_areas,
    described_part,
    part_meant,
    parts_by_series,
    recorded_part,
    to_be_filled,
)
from dicom_ai_node.rules.history_rules import comparable, usable_birth_date
from dicom_ai_node.rules.meaning import (
    meant_sex,
    only_value,
    salvaged_age,
    sex_meant,
    years_meant,
)
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.rule import Case
from dicom_ai_node.types import AttributeStatus, AttributeValue, HeaderCheck, ProposalSource

AGE, SEX = "PatientAge", "PatientSex"
NO_SEX = frozenset({"", "U", "UNK", "UNKNOWN"})
"""Nothing is recorded, or that nothing is known. Any other value is somebody's answer."""


BETWEEN = ", "
"""Stands between the codes that the series of a study record; no code holds it."""

Valued = tuple[str, str]
"""A value that may be proposed, and what it comes from: a key of :attr:`Attribute.sources`."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute under check. It is a number in a unit, or one of some codes."""

    keyword: str
    name: str
    """Its short name in findings and in JSON."""
    propose: Callable[[Case, AttributeStatus], Iterator[Valued]]
    """Values for what was found missing or wrong, as its status says, the best first."""
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
    a_label: bool = True
    """Whether recorded values that no rule doubts calibrate networks, and make groups of figures.
    What is none is right of a series and wrong of many of its images."""
    several: Callable[[Collection[str]], str] | None = None
    """Of an attribute of the series, which may differ within a study: the one code for several,
    '' where there is none. What is recorded of the study is all of them, :data:`BETWEEN` them."""
    by_series: Callable[[Sequence[Reading], Collection[str]], Mapping[str, str]] | None = None
    """Of such an attribute: by SeriesInstanceUID what the images of the series are compared with,
    '' for nothing, given the ids of rules that are disabled."""
    elsewhere: Callable[[Sequence[Reading]], AttributeValue | None] = field(default=lambda _: None)
    """What other attributes state, so that it need not be there itself."""

    def read(self, reading: Reading) -> AttributeValue | None:
        """What one instance records, None when it cannot be used."""
        if self.number is not None:
            return self.number(reading)
        text = reading.header.clean(self.keyword)
        return text if text in self.codes else None

    def code(self, text: str) -> str | None:
        """What a text records of a coded attribute, None when it cannot be used."""
        if self.several is not None and BETWEEN in text:
            recorded = text.split(BETWEEN)
            return (self.several(recorded) or None) if self.codes.issuperset(recorded) else None
        return text if text in self.codes else None


def _propose_age(case: Case, status: AttributeStatus) -> Iterator[Valued]:
    """What was sent, in its proper form; what the dates, a worklist, the other studies make."""
    # One image may lack what another has, or have it padded.
    usable = {str(reading.age) for reading in case.readings if _is_usable(reading)}
    if len(usable) == 1:
        yield usable.pop(), "PatientAge"
    for reading in case.readings:
        if salvaged := salvaged_age(reading):
            yield str(salvaged), "PatientAge"
    for reading in case.readings:
        # Of an infant of whom only the year of birth is known, no age follows.
        infant = (reading.implied_age or 0) < case.settings.infant_age
        if reading.span is not None and not (reading.year_only and infant):
            yield from _from_dates(case, *reading.span, "PatientBirthDate and StudyDate")
    if status is not AttributeStatus.CONFLICT_HEADER:
        yield from _age_of_worklist(case)
    if case.lacks("PatientBirthDate") and case.study_date:
        births = {usable_birth_date(prior.birth_date, case) for prior in comparable(case)} - {None}
        if len(births) == 1 and (birth := births.pop()):
            source = "PatientBirthDate of other studies and StudyDate"
            yield from _from_dates(case, birth, case.study_date, source)


def _is_usable(reading: Reading) -> bool:
    """Whether the age of an instance can be proposed; :func:`trusted_age` is that of a study."""
    return reading.age is not None and not reading.placeholder_age and reading.mismatch is None


def _from_dates(case: Case, birth: date, study: date, source: str) -> Iterator[Valued]:
    if 0 <= years_between(birth, study) <= case.settings.maximum_implied_age:
        yield encode_age_at(birth, study), source


def _age_of_worklist(case: Case) -> Iterator[Valued]:
    """The age that a worklist's birth date makes, else that of the order of this study."""
    listed = case.worklist
    if listed is None:
        return
    birth, study = usable_birth_date(listed.birth_date, case), case.study_date
    age = read_age(listed.age)
    if birth and study:
        year_only = listed.birth_date[4:] in case.settings.year_only_days
        if not (year_only and years_between(birth, study) < case.settings.infant_age):
            source = "PatientBirthDate of the worklist and StudyDate"
            yield from _from_dates(case, birth, study, source)
    elif age is not None and 0 < age.years < case.settings.maximum_age:
        yield str(age), "PatientAge of the worklist"


def _propose_sex(case: Case, status: AttributeStatus) -> Iterator[Valued]:
    """Values for PatientSex, as :func:`_propose_age` does for the age."""
    usable = {only_value(reading.sex) for reading in case.readings} & {"M", "F"}
    if len(usable) == 1:
        yield usable.pop(), "PatientSex"
    for reading in case.readings:
        value = meant_sex(reading)
        if value and only_value(reading.sex) != value:
            yield value, "PatientSex"
    listed = case.worklist.sex if case.worklist else ""
    unknown = case.usual["PatientSex"].text.strip().upper() in NO_SEX
    if status is not AttributeStatus.CONFLICT_HEADER and listed in {"M", "F"} and unknown:
        yield listed, "PatientSex of the worklist"
    theirs = {prior.sex.strip(" \0") for prior in comparable(case)} - {""}
    # One 'O' among them, and the others say nothing about this study.
    if case.lacks("PatientSex") and theirs in ({"M"}, {"F"}):
        yield theirs.pop(), "PatientSex of other studies"


_OWN, _CODED, _WORDS = BODY_PART, "AnatomicRegionSequence", "descriptions of study and series"
_OTHER_SERIES = "BodyPartExamined of other series"


def _propose_body_part(case: Case, status: AttributeStatus) -> Iterator[Valued]:
    """What all series whose own is missing or wrong agree on, from the weakest of its sources.

    Without one value for all of them it takes a person to say which series shows what.
    """
    usable = {
        recorded_part(reading.header)
        for reading in case.readings
        if not contradicted(reading.header)
    }
    others = combined(usable - {""})
    found = [
        next(filter(lambda valued: valued[0], _parts_for(reading, others)), ("", _OWN))
        for reading in case.readings
        if to_be_filled(reading.header)
    ]
    if len({value for value, _ in found}) == 1 and found[0][0]:
        ladder = (_OWN, _CODED, _WORDS, _OTHER_SERIES)
        yield found[0][0], max((source for _, source in found), key=ladder.index)


def _parts_for(reading: Reading, others: str) -> Iterator[Valued]:
    """What one header's BodyPartExamined should be, the best first, '' where a source says none."""
    if contradicted(reading.header):
        coded, areas = coded_part(reading.header), described_areas(reading.header)
        yield coded if coded and not BODY_PARTS[coded].areas.isdisjoint(areas) else "", _CODED
        yield described_part(reading.header), _WORDS
        return
    yield recorded_part(reading.header), _OWN
    yield coded_part(reading.header), _CODED
    yield described_part(reading.header), _WORDS
    if not reading.header.clean(BODY_PART):
        yield others, _OTHER_SERIES


def _years(reading: Reading) -> float | None:
    return None if reading.age is None or reading.placeholder_age else reading.age.years


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType(
    {
        AGE: Attribute(
            AGE,
            "age",
            _propose_age,
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
            _propose_sex,
            lambda readings: sex_meant(readings) or None,
            sources={
                "PatientSex": ProposalSource.HEADER,
                "PatientSex of the worklist": ProposalSource.WORKLIST,
                "PatientSex of other studies": ProposalSource.PRIORS,
            },
            codes=frozenset({"F", "M", "O"}),
            respected=lambda case: case.sex_respected,
        ),
        BODY_PART: Attribute(
            BODY_PART,
            "body_part",
            _propose_body_part,
            part_meant,
            sources=dict.fromkeys((_OWN, _CODED, _WORDS, _OTHER_SERIES), ProposalSource.HEADER),
            codes=frozenset(BODY_PARTS),
            # CHEST is recorded of slices from shoulder to pelvis: right, and no label of an image.
            a_label=False,
            several=combined,
            by_series=parts_by_series,
            elsewhere=lambda readings: coded_parts(readings) or None,
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


def trusted_part(check: HeaderCheck) -> str:
    """The recorded body part, a defined term, as :func:`trusted_age`; '' when a rule doubts it."""
    part = check.trusted(BODY_PART)
    return part if isinstance(part, str) and part in BODY_PARTS else ""


def trusted_part_of(check: HeaderCheck, series_uid: str) -> str:
    """The same of one series, where series record different ones."""
    row = check.attributes.get(BODY_PART)
    if row is None or not row.by_series or check.exempt:
        return trusted_part(check)
    return row.by_series.get(series_uid, "")


OF_SERIES = frozenset(key for key, attribute in ATTRIBUTES.items() if attribute.several)
"""Attributes of the series: what is true of one need not be of the others."""


def recorded_age(check: HeaderCheck) -> float | None:
    """Years that PatientAge states, whatever its form and whatever speaks against it."""
    years = check.attributes[AGE].stated
    return years if isinstance(years, float) else None


def comparable_sex(check: HeaderCheck) -> str:
    """PatientSex as other studies are held against it; '' where it is not assessed."""
    row = check.attributes[SEX]
    if row.status is AttributeStatus.NOT_ASSESSED:
        return ""
    return row.recorded if row.meant is None else str(row.meant)


def comparable_age(check: HeaderCheck) -> float | None:
    """The age that other studies are held against: a lower bound is none."""
    return None if check.attributes[AGE].censored else recorded_age(check)
