"""What names a study or patient in the hospital, for a CSV from which records are to be mended.

No part of the report itself, which knows patients by a pseudonym only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_ai_node.archive.member import Collected
from dicom_ai_node.rules.header import usual

COLUMNS = {"AccessionNumber": "accession_number", "PatientID": "patient_id"}
"""DICOM keyword -> column."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The values of some identifiers, by the key of the study."""

    keywords: tuple[str, ...] = ()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, collected: Iterable[Collected], keywords: Sequence[str]) -> "Identifiers":
        """Read ``keywords`` of what was collected; of the listing where no instance says them."""
        wanted = tuple(keyword for keyword in COLUMNS if keyword in keywords)
        values = {one.key: {name: _value(one, name) for name in wanted} for one in collected}
        return cls(wanted, values)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of their columns."""
        return tuple(COLUMNS[keyword] for keyword in self.keywords)

    def of_study(self, key: str) -> list[str]:
        """Return the values of one study, '' where it has none."""
        own = self.values.get(key, {})
        return [own.get(keyword, "") for keyword in self.keywords]

    def of_patient(self, keys: Iterable[str], keyword: str) -> str:
        """Return the first value that one of a patient's studies has."""
        return next((text for key in keys if (text := self.values.get(key, {}).get(keyword))), "")


def _value(one: Collected, keyword: str) -> str:
    if one.facts is None:
        return ""
    listed = one.facts.listed
    return usual(one.facts.headers, keyword) or (listed.clean(keyword) if listed else "")
