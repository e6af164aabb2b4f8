"""The header rules over one file: the public format of ``check-header``."""

from datetime import date
from pathlib import Path
from typing import Any

from dicom_ai_node import pixels
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.types import HeaderCheck


def check_file(
    path: Path, settings: RulesSettings, *, today: date, limits: Limits = DEFAULT
) -> dict[str, Any]:
    """Return ``path``, ``recorded``, ``status``, ``rules``, ``findings``, ``proposals``, ``error``.

    A file that is not DICOM has its reason under ``error`` and None elsewhere.
    """
    try:
        header = TextHeader.from_dataset(pixels.read_header(path, limits))
    except UnreadableInstance as error:
        return {
            "path": str(path),
            **_check_part(None),
            "findings": [],
            "error": without_name(error, path),
        }
    checked = check([header], settings=settings, today=today)
    return {
        "path": str(path),
        **_check_part(checked),
        "findings": [
            {"rule": one.rule, "severity": one.severity, "reason": one.reason}
            for one in checked.findings
        ],
        "error": None,
    }


def _check_part(checked: HeaderCheck | None) -> dict[str, Any]:
    return {
        "recorded": recorded_part(checked) if checked else None,
        "status": status_part(checked) if checked else None,
        "rules": list(checked.rules) if checked else [],
        "proposals": [
            {"keyword": one.keyword, "value": one.value, "source": one.source, "rule": one.rule}
            for one in (checked.proposals if checked else ())
        ],
    }


def without_name(error: UnreadableInstance, path: Path) -> str:
    """Return what is wrong with a file; its path, as it was given, stands beside that already."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")


def recorded_part(checked: HeaderCheck) -> dict[str, Any]:
    """Return what the header states, for JSON."""
    years = checked.birth_date_age
    recorded = {row.name: row.recorded for row in checked.attributes.values()}
    return recorded | {"birth_date_age": None if years is None else round(years, 2)}


def status_part(checked: HeaderCheck) -> dict[str, str]:
    """Return the status of each attribute, for JSON."""
    return dict(checked.statuses)
