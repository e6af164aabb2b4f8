"""What an audit over an archive keeps of each study: enough to run every rule again at any time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dicom_ai_node.rules.header import Header


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """One study as a source gave it. Holds patient data: for the database, never for a log."""

    study_instance_uid: str
    """'' where the source named none."""
    headers: tuple[Header, ...]
    """The different headers of its instances; of the listing alone where nothing better was had."""
    listed: Header | None = None
    """What C-FIND or QIDO-RS answered for the study; None for sources that hold files."""
    from_files: bool = True
    """Whether ``headers`` are whole headers of the instances (files or WADO-RS metadata)."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts for the database."""
        return {
            "study_instance_uid": self.study_instance_uid,
            "headers": [_dump(header) for header in self.headers],
            "listed": _dump(self.listed) if self.listed else None,
            "from_files": self.from_files,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StudyFacts":
        """Read what :meth:`to_json` wrote."""
        return cls(
            study_instance_uid=values["study_instance_uid"],
            headers=tuple(_load(header) for header in values["headers"]),
            listed=_load(values["listed"]) if values["listed"] else None,
            from_files=values["from_files"],
        )


def _dump(header: Header) -> dict[str, Any]:
    return {
        "values": dict(header.values),
        "undecodable": sorted(header.undecodable),
        "transfer_syntax_uid": header.transfer_syntax_uid,
    }


def _load(values: Mapping[str, Any]) -> Header:
    return Header(values["values"], frozenset(values["undecodable"]), values["transfer_syntax_uid"])
