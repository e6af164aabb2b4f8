"""Age and sex as labels: what the header rules let pass, and why the rest is unknown.

The rules are those that the node holds headers against, so what it would call implausible never
trains a network. A table's columns are put to them as if they had come in a header. What is only
badly written ('64', 'Male') is mended as the rules propose; an age that is missing is made from
birth date and study date. A de-identified '90 or over' is a bound, not a label (E8).
"""

import math
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import RULES, TextHeader, check, parse_age
from dicom_ai_node.types import AttributeStatus, CheckedAttribute, HeaderCheck

SETTINGS = RulesSettings()
# Dates in the future change no status, so that an index does not depend on the day of its making.
NO_DAY = date.max
_LABELS = ("PatientAge", "PatientSex")
_MENDABLE = frozenset({AttributeStatus.MALFORMED, AttributeStatus.MISSING})


@dataclass(frozen=True, slots=True)
class Labels:
    """What of a header may be learnt."""

    age: float | None
    """Years, None when unknown."""
    sex: str
    """``F``, ``M``, '' when unknown."""
    doubts: tuple[str, ...] = ()
    """Why the age or the sex is unknown: a line each, without the patient's data."""


@lru_cache(maxsize=1 << 16)
def labels_of_columns(
    *, age: str = "", sex: str = "", birth: str = "", study: str = "", deidentified: bool = False
) -> Labels:
    """Labels from the columns of a table.

    ``age`` is a number of years or a value of VR AS, ``sex`` a word or letter, the dates are
    YYYYMMDD. ``deidentified`` says that ages of 89 and over were put together.
    """
    values = {
        "PatientAge": _age_string(age),
        "PatientSex": sex,
        "PatientBirthDate": birth,
        "StudyDate": study,
        "PatientIdentityRemoved": "YES" if deidentified else "",
    }
    return labels_of_header(
        TextHeader({keyword: value for keyword, value in values.items() if value})
    )


def _age_string(text: str) -> str:
    """A number of years as a value of VR AS; anything else as it is."""
    try:
        years = math.floor(float(text))
    except (ValueError, OverflowError):
        return text
    return f"{years:03d}Y" if 0 <= years < 1000 else text


def labels_of_header(header: TextHeader) -> Labels:
    """Labels from ``header``; never raises for what it contains."""
    checked = _check(header)
    mended = {
        keyword: _proposal(checked, keyword)
        for keyword in _LABELS
        if checked.attributes[keyword].status in _MENDABLE
    }
    found = {keyword: value for keyword, value in mended.items() if value}
    if found:  # a mended value may be implausible too
        checked = _check(replace(header, values={**header.values, **found}))
    if checked.exempt:
        return Labels(None, "", (f"age and sex: {checked.exempt}",))
    # What is only badly written was mended above: a value in a wrong form is no label.
    rows = {keyword: checked.attributes[keyword] for keyword in _LABELS}
    usable = {key: row.value for key, row in rows.items() if _usable(row)}
    age, sex = usable.get("PatientAge"), usable.get("PatientSex", "")
    return Labels(
        age=age if isinstance(age, float) else None,
        sex=str(sex or ""),
        doubts=tuple(_doubt(checked, row) for key, row in rows.items() if key not in usable),
    )


def _usable(row: CheckedAttribute) -> bool:
    return row.status is AttributeStatus.CONSISTENT and not row.censored


def _check(header: TextHeader) -> HeaderCheck:
    return check([header], settings=SETTINGS, today=NO_DAY)


def _proposal(checked: HeaderCheck, keyword: str) -> str:
    """The best value for an attribute, '' where the rules propose none."""
    values = (p.value for p in checked.proposals if p.keyword == keyword)
    value = next(values, "")
    return "" if keyword == "PatientAge" and parse_age(value) is None else value


def _doubt(checked: HeaderCheck, row: CheckedAttribute) -> str:
    """The rule that made the attribute unusable, in words."""
    name, status = row.name, row.status
    if row.censored:
        rule = "E8"
    elif name == "sex" and status is AttributeStatus.NOT_ASSESSED:
        rule = "F6"
    else:
        made = (r for r in checked.rules if RULES[r].status is status and _about(r, name))
        rule = next(made, "")
    reason = RULES[rule].reason if rule else f"the header rules say {status}"
    return f"{name}: {rule} {reason}" if rule else f"{name}: {reason}"


def _about(rule: str, name: str) -> bool:
    """Whether a rule is about the attribute; A4 and the rules on dates are about more than one."""
    return RULES[rule].attribute in (name, "identity", "dates")
