"""One study of an audit: its rows, what is asked for, and the files that are fetched meanwhile."""

import hashlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.audit.sources import BrokenOff, Fetched, Listed, OtherStudy, Slice, Source
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.decide.stored import result_from_json, result_to_json
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.rules.header import distinct
from dicom_ai_node.spool import storage_error
from dicom_ai_node.store import Database, audits
from dicom_ai_node.store.audit_studies import NewListed, SettledStudy
from dicom_ai_node.types import StudyResult

NO_UID = "listed:"
"""Begins the key of a study for which the source named no StudyInstanceUID."""
LISTING = "listing:"
"""Begins the key of a part of the listing that could not be retrieved."""

_LONGEST_KEY = 80
_MOST_REASONS = 3

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
        return SettledStudy(self.key, facts, result, self.expected, self.arrived, fault)


def gather(
    source: Source,
    listed: Listed,
    into: Attempt,
    *,
    spec: AuditSpec,
    rules: RulesSettings,
    analyse: Analyse | None,
    folder: Path,
) -> None:
    """Ask for as much of the study as the audit's depth wants.

    What is fetched lies below ``folder`` and is removed before this returns. Raises what the source
    raises, and StorageError where ``folder`` cannot be written.
    """
    if spec.depth is not Depth.ALL:
        try:
            _use(into, source.headers(listed), whole=source.whole_headers)
        except OtherStudy as error:
            _use(into, error.headers, whole=source.whole_headers)
            into.fault, into.incomplete = str(error), True
    if analyse is None or not _wants_images(into, spec, rules):
        return
    fetched = _made_below(folder)
    try:
        _look(source.fetch(listed, fetched), into, analyse)
    except BrokenOff as error:
        _look(error.fetched, into, analyse)
        raise
    finally:
        shutil.rmtree(fetched, ignore_errors=True)


def _made_below(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise storage_error(error) from error


def _wants_images(into: Attempt, spec: AuditSpec, rules: RulesSettings) -> bool:
    if spec.depth is Depth.FLAGGED:
        return check(into.facts.headers, settings=rules, today=spec.today).flagged
    return spec.depth is Depth.ALL


def _look(fetched: Fetched, into: Attempt, analyse: Analyse) -> None:
    if fetched.expected is not None:
        into.expected = fetched.expected
    into.arrived = len(fetched.files)
    missing = into.expected is not None and into.arrived < into.expected
    into.incomplete = missing or bool(fetched.faults)
    faults = [f"{into.arrived} of {into.expected} instances arrived"] if missing else []
    faults += _reasons(fetched.faults)
    if fetched.files:
        seen = analyse(into.facts.study_instance_uid, fetched.files)
        _use(into, seen.headers, whole=True)
        into.result = seen.result
        if seen.unreadable:
            faults.append(f"{seen.unreadable} of {into.arrived} files cannot be read as DICOM")
    elif not faults and into.expected != 0:
        into.incomplete = True
        faults.append("the source sent nothing")
    into.fault = "; ".join(faults)


def _use(into: Attempt, headers: Sequence[TextHeader], *, whole: bool) -> None:
    """Let headers of instances take the place of what the listing said."""
    if headers:
        facts = into.facts
        uid = facts.study_instance_uid or headers[0].clean("StudyInstanceUID")
        into.facts = StudyFacts(uid, distinct(headers), facts.listed, from_files=whole)


def _reasons(faults: Mapping[str, str]) -> list[str]:
    """Return why instances did not come, the most frequent first, without naming them."""
    counted = Counter(faults.values()).most_common()
    texts = [f"{reason} ({count})" for reason, count in counted[:_MOST_REASONS]]
    return [*texts, *(["and other faults"] if len(counted) > _MOST_REASONS else [])]


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
