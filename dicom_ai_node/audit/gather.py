"""One study of an audit: what is asked for, and what comes of it."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_ai_node.archive.member import StudyFacts
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.audit.rows import NO_UID
from dicom_ai_node.audit.sources import BrokenOff, Fetched, Listed, OtherStudy, Source
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import Header, check
from dicom_ai_node.rules.header import distinct
from dicom_ai_node.spool import storage_error
from dicom_ai_node.types import StudyResult

_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """What was made of the files of a study."""

    headers: tuple[Header, ...]
    """Of the files that could be read."""
    unreadable: int = 0
    result: StudyResult | None = None
    """None where the network was not asked."""


Analyse = Callable[[str, Sequence[Path]], Seen]
"""Reads and analyses the files of the study with that UID."""


@dataclass(slots=True)
class Gathered:
    """One attempt at a study. Grows while it is asked for: what came before an error stays."""

    facts: StudyFacts
    result: StudyResult | None = None
    expected: int | None = None
    arrived: int | None = None
    fault: str = ""
    incomplete: bool = False
    """Whether another attempt may bring what is missing."""


def begin(source: Source, listed: Listed) -> Gathered:
    """Return what the listing alone says."""
    uid = "" if listed.key.startswith(NO_UID) else listed.key
    facts = StudyFacts(
        study_instance_uid=uid,
        headers=(listed.header,),
        listed=None if source.holds_files else listed.header,
        from_files=source.holds_files,
    )
    return Gathered(facts, expected=listed.instances)


def gather(
    source: Source,
    listed: Listed,
    into: Gathered,
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
    own = _made_below(folder)
    try:
        _look(source.fetch(listed, own), into, analyse)
    except BrokenOff as error:
        _look(error.fetched, into, analyse)
        raise
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _made_below(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise storage_error(error) from error


def _wants_images(into: Gathered, spec: AuditSpec, rules: RulesSettings) -> bool:
    if spec.depth is Depth.FLAGGED:
        return check(into.facts.headers, settings=rules, today=spec.today).flagged
    return spec.depth is Depth.ALL


def _look(fetched: Fetched, into: Gathered, analyse: Analyse) -> None:
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


def _use(into: Gathered, headers: Sequence[Header], *, whole: bool) -> None:
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
