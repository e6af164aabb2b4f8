"""A study's result as it is stored: JSON, its key, and what later studies are held against."""

import hashlib
import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from pydicom import Dataset

from dicom_ai_node.decide.stored import result_to_json
from dicom_ai_node.dicom.patient import patient_key
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.rules.attributes import comparable_age, stated_sex
from dicom_ai_node.store.patients import StudyHeader
from dicom_ai_node.types import StudyResult

_SHIFTED = ("MODIFIED", "REMOVED")


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return the result as JSON, numbers to four decimals, without NUL, as it is stored."""
    plain: dict[str, Any] = _plain(result_to_json(result))
    return plain


def result_key(result: StudyResult, digests: Sequence[str], settings: str) -> str:
    """Return the digest that tells one result from another.

    Made of the images, the network, the settings and the decisions, not of the estimates: their
    last digits differ with the images that the network sees beside these, and an analysis that is
    repeated must not send a second report that says the same.
    """
    content = {
        "instances": sorted(digests),
        "settings": settings,
        "model": result.model.sha256 if result.model else "",
        "outcome": result.outcome,
        "reason": result.reason.code if result.reason else "",
        "unanswered": [(one.attribute, one.reason.code) for one in result.unanswered],
        "status": list(result.check.statuses.values()),
        "rules": result.check.rules,
        "images": sorted((one.image.sop_instance_uid, one.outcome) for one in result.images),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def study_header(source: Dataset, result: StudyResult) -> StudyHeader:
    """Return what rules G1 to G4 will want to know of this study.

    What is not held against this study is not remembered against others: a censored age, a sex
    that is not assessed, shifted dates, and all of a study that is exempt.
    """
    check = result.check
    shifted = text_of(source, "LongitudinalTemporalInformationModified") in _SHIFTED
    return StudyHeader(
        patient_key="" if check.exempt or shifted else patient_key(source),
        study_date=_day(text_of(source, "StudyDate")),
        sex=_short(stated_sex(check)),
        birth_date=_short(text_of(source, "PatientBirthDate")),
        age_years=comparable_age(check),
    )


def _short(text: str) -> str:
    return text.replace("\0", " ")[:16]


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        return ""
    return text if len(text) == 8 and text.isdigit() else ""


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, str):
        return value.replace("\0", " ")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
