"""B: attributes that no instance of the study fills (types after PS3.3 C.7.1.1 and C.7.2.2)."""

from collections.abc import Callable, Iterator

from dicom_ai_node.rules.rule import Case, Check, Hit, Rule, by_id
from dicom_ai_node.types import AttributeStatus, Severity


def _when(wrong: Callable[[Case], bool], reason: str) -> Check:
    def check(case: Case) -> Iterator[Hit]:
        if wrong(case):
            yield Hit(reason)

    return check


def _sex_absent(case: Case) -> bool:
    return case.lacks("PatientSex") and not all(
        "PatientSex" in reading.header for reading in case.readings
    )


def _sex_empty(case: Case) -> bool:
    return case.lacks("PatientSex") and not _sex_absent(case)


def _rule(
    identifier: str,
    severity: Severity,
    attribute: str,
    reason: str,
    wrong: Callable[[Case], bool],
    status: AttributeStatus | None = None,
) -> Rule:
    return Rule(identifier, severity, attribute, reason, _when(wrong, reason), status=status)


RULES = by_id(
    _rule(
        "B1",
        Severity.WARNING,
        "sex",
        "PatientSex is absent; it is of type 2 and has to be there, if only empty",
        _sex_absent,
        AttributeStatus.MISSING,
    ),
    _rule(
        "B2",
        Severity.INFORMATION,
        "sex",
        "PatientSex is empty",
        _sex_empty,
        AttributeStatus.MISSING,
    ),
    _rule(
        "B3",
        Severity.WARNING,
        "age",
        "PatientAge is absent or empty",
        lambda case: case.lacks("PatientAge"),
        AttributeStatus.MISSING,
    ),
    _rule(
        "B4",
        Severity.WARNING,
        "dates",
        "PatientBirthDate is absent or empty",
        lambda case: case.lacks("PatientBirthDate"),
    ),
    _rule(
        "B5",
        Severity.WARNING,
        "age",
        "PatientAge and PatientBirthDate are both missing",
        lambda case: case.lacks("PatientAge") and case.lacks("PatientBirthDate"),
        AttributeStatus.MISSING,
    ),
    _rule(
        "B6",
        Severity.WARNING,
        "dates",
        "StudyDate is absent or empty",
        lambda case: case.lacks("StudyDate"),
    ),
)
