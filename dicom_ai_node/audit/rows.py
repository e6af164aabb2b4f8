"""What is stored of listed and collected studies, as rows with JSON and back."""

import hashlib
from collections.abc import Iterable
from typing import Any

from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.sources import Listed, Slice
from dicom_ai_node.decide.stored import result_from_json, result_to_json
from dicom_ai_node.store.audit_studies import NewListed, SettledStudy
from dicom_ai_node.types import StudyResult

NO_UID = "listed:"
"""Begins the key of a study for which the source named no StudyInstanceUID."""
LISTING = "listing:"
"""Begins the key of a part of the listing that could not be retrieved."""

_LONGEST_KEY = 80


def listed_to_row(listed: Listed) -> NewListed:
    """Return the row of a listed study; one of which nothing can be read is settled by that."""
    facts = StudyFacts(listed.key, (listed.header,), from_files=False)
    values = {**facts.to_json(), "instances": listed.instances}
    return NewListed(_row_key(listed.key), values, _plain(listed.fault))


def listed_from_row(values: dict[str, Any]) -> Listed:
    """Read what :func:`listed_to_row` made."""
    facts = StudyFacts.from_json(values)
    return Listed(facts.study_instance_uid, facts.headers[0], values["instances"])


def missing_part_to_row(part: Slice, fault: str) -> NewListed:
    """Return the row that stands for the studies of a part that could not be listed."""
    days = f"{part.first}-{part.last}".strip("-") or "all"
    return NewListed(f"{LISTING}{days}"[:_LONGEST_KEY], {}, fault=fault)


def collected_to_row(
    key: str,
    facts: StudyFacts | None,
    result: StudyResult | None,
    *,
    expected: int | None,
    arrived: int | None,
    fault: str,
) -> SettledStudy:
    """Return the row of a collected study. Numbers keep all their digits, unlike in reports."""
    return SettledStudy(
        key,
        facts.to_json() if facts else None,
        _plain(result_to_json(result)) if result else None,
        expected,
        arrived,
        fault,
    )


def collected_from_row(row: SettledStudy) -> Collected:
    """Read what :func:`collected_to_row` made."""
    return Collected(
        key=row.key,
        facts=StudyFacts.from_json(row.facts) if row.facts else None,
        result=result_from_json(row.result) if row.result else None,
        expected=row.expected,
        arrived=row.arrived,
        fault=row.fault,
    )


def models_of(collected: Iterable[Collected]) -> str:
    """Return name and version of the networks that answered, '' when none did."""
    models = {one.result.model for one in collected if one.result and one.result.model}
    return ", ".join(sorted({f"{model.name} {model.version}" for model in models}))


def _row_key(key: str) -> str:
    """Return a key that fits its column, whatever stood in StudyInstanceUID."""
    if len(key) <= _LONGEST_KEY and key.isprintable():
        return key
    return NO_UID + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    """Leave out what no database takes for text: NUL, and bytes of a file name that is none."""
    if isinstance(value, str):
        return value.replace("\0", " ").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
