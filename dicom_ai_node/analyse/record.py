"""A study's result as it is stored: JSON, its key, and what later studies are held against."""

import hashlib
import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from pydantic import TypeAdapter
from pydicom import Dataset

from dicom_ai_node.store.patients import StudyHeader
from dicom_ai_node.types import StudyResult

_RESULT = TypeAdapter(StudyResult)


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return the result as JSON, numbers to four decimals: what the key and the API see."""
    rounded: dict[str, Any] = _rounded(_RESULT.dump_python(result, mode="json"))
    return rounded


def from_json(document: dict[str, Any]) -> StudyResult:
    """Return the result that :func:`to_json` wrote."""
    return _RESULT.validate_python(document)


def result_key(document: dict[str, Any], digests: Sequence[str], settings: str) -> str:
    """Return the digest that tells one result from another.

    The same images, network, rules, settings and answer give the same key, so that a repeated
    analysis sends nothing; any difference gives another key and hence another report.
    """
    content = {"result": document, "instances": sorted(digests), "settings": settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def study_header(source: Dataset, result: StudyResult) -> StudyHeader:
    """Return what rules G1 to G4 will want to know of this study."""
    return StudyHeader(
        patient_key=patient_key(source),
        study_date=_day(text_of(source, "StudyDate")),
        sex=result.audit.recorded.sex[:16],
        birth_date=text_of(source, "PatientBirthDate")[:16],
        age_years=result.audit.recorded.age_years,
    )


def patient_key(source: Dataset) -> str:
    """Return a hash of PatientID and its issuer, '' without a PatientID: nothing is linked then."""
    patient = text_of(source, "PatientID")
    if not patient:
        return ""
    issuer = text_of(source, "IssuerOfPatientID")
    return hashlib.sha256(f"{issuer}\0{patient}".encode()).hexdigest()


def text_of(source: Dataset, keyword: str) -> str:
    """Return a value as text whatever the header holds, '' when it is absent.

    The element is not converted: pydicom would validate it, and warn with the value. NUL is left
    out, because it is no text to PostgreSQL.
    """
    if keyword not in source:
        return ""
    value = source.get_item(keyword).value
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.replace("\0", "").strip()


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).strftime("%Y%m%d") if len(text) == 8 else ""
    except ValueError:
        return ""


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
