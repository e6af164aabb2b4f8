"""One study of an audit: its rows, an attempt at it, and where its files are meanwhile."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from dicom_ai_node.answers import StudyResult
from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.sources import Listed, Slice, Source
from dicom_ai_node.decide.images import embedding_of
from dicom_ai_node.decide.stored import result_from_json, result_to_json
from dicom_ai_node.likeness import Embedding
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.store import Database, audits
from dicom_ai_node.store.audit_studies import NewListed, SettledStudy

NO_UID = "listed:"
"""Begins the key of a study for which the source named no StudyInstanceUID."""
LISTING = "listing:"
"""Begins the key of a part of the listing that could not be retrieved."""

_LONGEST_KEY = 80

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was made of the files of a study."""

    headers: tuple[TextHeader, ...]
    """Of the files that could be read."""
    unreadable: int = 0
    result: StudyResult | None = None
    """None where the network was not asked."""


Analyse = Callable[[str, Sequence[Path]], Seen]
"""Reads and analyses the files of the study with that UID."""


@dataclass(slots=True)
class Attempt:
    """One attempt at a study. Grows while it is asked for: what came before an error stays."""

    key: str
    facts: StudyFacts
    result: StudyResult | None = None
    expected: int | None = None
    arrived: int | None = None
    fault: str = ""
    incomplete: bool = False
    """Whether another attempt may bring what is missing."""

    @classmethod
    def of(cls, source: Source, listed: Listed, key: str) -> "Attempt":
        """Begin with what the listing alone says; ``key`` is that of the study's row."""
        facts = StudyFacts(
            study_instance_uid="" if listed.key.startswith(NO_UID) else listed.key,
            headers=(listed.header,),
            listed=None if source.holds_files else listed.header,
            from_files=source.holds_files,
        )
        return cls(key, facts, expected=listed.instances)

    def row(self, fault: str) -> SettledStudy:
        """Return the row that settles it. Numbers keep all their digits, unlike in reports."""
        # Made of the moment: a call that was given up may still write into the attempt.
        result = _plain(result_to_json(self.result)) if self.result else None
        facts = self.facts.to_json()
        chest = embedding_of(self.result.parts) if self.result else None
        embedding = chest.to_json() if chest else None
        return SettledStudy(self.key, facts, result, self.expected, self.arrived, fault, embedding)


def folder_of(spool: Path, audit_id: int) -> Path:
    """Return where an audit keeps what it fetches."""
    return _root(spool) / str(audit_id)


def remove_abandoned(db: Database, spool: Path) -> int:
    """Remove what audits left that nobody works on; return how many studies that was of.

    The files of an audit that was killed and still is running are removed by who takes it over.
    """
    # Looked for first: who takes an audit from now on makes a new folder for each study.
    studies = sorted(_root(spool).glob("*/*"))
    in_use = (
        {str(audit_id) for audit_id in audits.in_use(db, now=time.time())} if studies else set()
    )
    left = [study for study in studies if study.parent.name not in in_use]
    for study in left:
        shutil.rmtree(study, ignore_errors=True)
        with suppress(OSError):
            study.parent.rmdir()
        if study.exists():
            log.error("audit_files_not_removed", audit=study.parent.name)
    return sum(not study.exists() for study in left)


def _root(spool: Path) -> Path:
    return spool.absolute() / "audit"


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


def collected_from_row(row: SettledStudy) -> Collected:
    """Read what :meth:`Attempt.row` made."""
    return Collected(
        key=row.key,
        facts=StudyFacts.from_json(row.facts) if row.facts else None,
        result=result_from_json(row.result) if row.result else None,
        expected=row.expected,
        arrived=row.arrived,
        fault=row.fault,
        chest=Embedding.from_json(row.embedding) if row.embedding else None,
    )


def models_of(collected: Iterable[Collected]) -> str:
    """Return name and version of the networks that answered, '' when none did."""
    models = {model for study in collected if study.result for model in study.result.asked}
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
