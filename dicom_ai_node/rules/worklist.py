"""G6: the header against what a modality worklist says of the patient; and when to ask one."""

from collections.abc import Iterator, Sequence
from datetime import date

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.calendar_dates import write_date
from dicom_ai_node.rules.header import Header
from dicom_ai_node.rules.history import same_birth_date, usable_birth_date
from dicom_ai_node.rules.meaning import meant_sex
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.rule import OTHER_SEXES, Case, Hit, Rule, by_id
from dicom_ai_node.types import AttributeStatus, HeaderCheck, Severity, WorklistAnswer


def worth_asking(
    headers: Sequence[Header],
    checked: HeaderCheck,
    *,
    settings: RulesSettings,
    today: date,
    compare: bool,
) -> bool:
    """Whether a worklist may know what this study's header lacks, or is to be compared with it.

    Never of a study that is exempt or de-identified: its PatientID may be somebody else's there.
    """
    readings = [Reading.of(header, settings, today) for header in headers]
    if checked.exempt or any(reading.deidentified for reading in readings):
        return False
    dated = any(reading.birth and not reading.placeholder_birth for reading in readings)
    return compare or checked.flagged or not dated


def _against_worklist(case: Case) -> Iterator[Hit]:
    listed = case.worklist
    if listed is None:
        return
    if listed.other_patient:
        yield Hit(f"The worklist has this {listed.matched_by} for another PatientID")
        return
    yield from _sex(case, listed)
    birth = usable_birth_date(listed.birth_date, case)
    own = [
        (reading, reading.birth)
        for reading in case.readings
        if reading.birth and not reading.placeholder_birth and not reading.dates_modified
    ]
    if birth and own and not any(same_birth_date(reading, birth) for reading, _ in own):
        yield Hit(
            f"PatientBirthDate {write_date(own[0][1])}, and {write_date(birth)} in the worklist",
            "dates",
            status=AttributeStatus.CONFLICT_HEADER,
        )


def _sex(case: Case, listed: WorklistAnswer) -> Iterator[Hit]:
    if any(reading.sex_respected for reading in case.readings):
        return
    if listed.sex in OTHER_SEXES:
        reason = f"PatientSex is {listed.sex} in the worklist: not assessed"
        yield Hit(reason, "sex", severity=Severity.INFORMATION)
        return
    own = {meant_sex(reading) for reading in case.readings} - {""}
    if listed.sex and own and listed.sex not in own:
        yield Hit(
            f"PatientSex is {own.pop()}, and {listed.sex} in the worklist",
            "sex",
            status=AttributeStatus.CONFLICT_HEADER,
        )


RULES = by_id(
    Rule(
        "G6",
        Severity.WARNING,
        "identity",
        "The worklist has another PatientID, sex or birth date",
        _against_worklist,
    ),
)
