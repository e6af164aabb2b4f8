"""Checks of headers as the rules make them, without a header."""

from collections.abc import Sequence

from dicom_ai_node.types import AttributeStatus, CheckedAttribute, Finding, HeaderCheck, Proposal


def header_check(
    age: AttributeStatus = AttributeStatus.CONSISTENT,
    sex: AttributeStatus = AttributeStatus.CONSISTENT,
    *,
    recorded: tuple[str, str] = ("060Y", "F"),
    years: float | None = 60.0,
    meant_age: float | None = None,
    meant_sex: str | None = None,
    censored_age: bool = False,
    exempt: str = "",
    birth_date_age: float | None = None,
    findings: Sequence[Finding] = (),
    proposals: Sequence[Proposal] = (),
) -> HeaderCheck:
    code = recorded[1] if recorded[1] in {"F", "M", "O"} else None
    return HeaderCheck(
        {
            "PatientAge": CheckedAttribute("age", recorded[0], age, years, meant_age, censored_age),
            "PatientSex": CheckedAttribute("sex", recorded[1], sex, code, meant_sex),
        },
        tuple(findings),
        tuple(proposals),
        exempt,
        birth_date_age,
    )


def age_and_sex(check: HeaderCheck) -> tuple[AttributeStatus, AttributeStatus]:
    """Their statuses."""
    return check.attributes["PatientAge"].status, check.attributes["PatientSex"].status
