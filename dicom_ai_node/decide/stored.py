"""A study's result and its header check as they are stored, and read back.

The keys are a public format: an attribute under check has keys made of its short name.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from dicom_ai_node.rules.attributes import ATTRIBUTES, Attribute
from dicom_ai_node.types import (
    AttributeStatus,
    CheckedAttribute,
    Finding,
    HeaderCheck,
    Proposal,
    StudyResult,
)

_RESULT = TypeAdapter(StudyResult)
_FINDINGS = TypeAdapter(tuple[Finding, ...])
_PROPOSALS = TypeAdapter(tuple[Proposal, ...])


def result_to_json(result: StudyResult) -> dict[str, Any]:
    """Return the result as JSON, numbers with all their digits."""
    values = _RESULT.dump_python(result, mode="json", exclude={"check": True})
    first = {key: values.pop(key) for key in ("study_instance_uid", "outcome")}
    return {**first, "audit": check_to_json(result.check), **values}


def result_from_json(values: Mapping[str, Any]) -> StudyResult:
    """Read what :func:`result_to_json` wrote."""
    fields = dict(values)
    return _RESULT.validate_python({**fields, "check": check_from_json(fields.pop("audit"))})


def check_to_json(
    check: HeaderCheck, attributes: Mapping[str, Attribute] = ATTRIBUTES
) -> dict[str, Any]:
    """Return a check as JSON: of each attribute what was recorded, its status, what it means."""
    rows = check.attributes
    units = {key: attributes[key].unit for key in rows if attributes[key].unit}
    return {
        "recorded": {
            **{row.name: row.recorded for row in rows.values()},
            **{f"{rows[key].name}_{unit}": rows[key].value for key, unit in units.items()},
            "birth_date_age": check.birth_date_age,
        },
        **{name: status.value for name, status in check.statuses.items()},
        "findings": _FINDINGS.dump_python(check.findings, mode="json"),
        "proposals": _PROPOSALS.dump_python(check.proposals, mode="json"),
        "exempt": check.exempt,
        **{f"censored_{rows[key].name}": rows[key].censored for key in units},
        **{
            f"meant_{row.name}": row.meant if key in units else row.meant or ""
            for key, row in rows.items()
        },
    }


def check_from_json(
    values: Mapping[str, Any], attributes: Mapping[str, Attribute] = ATTRIBUTES
) -> HeaderCheck:
    """Read what :func:`check_to_json` wrote."""
    return HeaderCheck(
        {key: _row(attribute, values) for key, attribute in attributes.items()},
        findings=_FINDINGS.validate_python(values["findings"]),
        proposals=_PROPOSALS.validate_python(values["proposals"]),
        exempt=values["exempt"],
        birth_date_age=values["recorded"]["birth_date_age"],
    )


def _row(attribute: Attribute, values: Mapping[str, Any]) -> CheckedAttribute:
    name, unit = attribute.name, attribute.unit
    recorded = values["recorded"][name]
    return CheckedAttribute(
        name,
        recorded,
        AttributeStatus(values[name]),
        values["recorded"][f"{name}_{unit}"] if unit else attribute.code(recorded),
        values.get(f"meant_{name}") or None,
        censored=values.get(f"censored_{name}", False),
    )
