"""A study's result as it is stored, and read back. The keys are a public format."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from dicom_ai_node.types import StudyResult

_RESULT = TypeAdapter(StudyResult)
_KEYS = {"check": "audit"}
_FIELDS = {key: name for name, key in _KEYS.items()}


def result_to_json(result: StudyResult) -> dict[str, Any]:
    """Return the result as JSON, numbers with all their digits."""
    values = _RESULT.dump_python(result, mode="json")
    return {_KEYS.get(name, name): value for name, value in values.items()}


def result_from_json(values: Mapping[str, Any]) -> StudyResult:
    """Read what :func:`result_to_json` wrote."""
    return _RESULT.validate_python({_FIELDS.get(key, key): item for key, item in values.items()})
