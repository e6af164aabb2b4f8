"""What came of an analysis: its result, reports, observations and proposals, stored as one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, exists, insert, literal_column, select

from dicom_ai_node.answers import ModelIdentity, Reason
from dicom_ai_node.likeness import Embedding
from dicom_ai_node.monitor.observation import Observation
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.decisions import record as record_proposals
from dicom_ai_node.store.lifecycles import apply_event, settle
from dicom_ai_node.store.monitor import Mode, mode_now, save_observations
from dicom_ai_node.store.patients import StudyHeader, save_chest, save_header
from dicom_ai_node.store.reports import (
    QUEUED,
    NewReport,
    discard_quarantined,
    has_reports,
    insert_report,
    queue_missing,
    queue_report,
    restore_files,
)
from dicom_ai_node.store.study_queue import ClaimedStudy, hold
from dicom_ai_node.store.tables import analysis, instance, study
from dicom_ai_node.study import Event
from dicom_ai_node.types import FillProposal

WITHHELD = Reason("withheld", "the model is in shadow mode: the report is kept and not sent")


@dataclass(frozen=True, slots=True)
class NewAnalysis:
    """The result of one analysis, ready to be stored."""

    result_key: str
    """Digest of input, model, rules and answer: the same key is the same result."""
    result: dict[str, Any]
    """The StudyResult as JSON."""
    flagged: bool
    reports: tuple[NewReport, ...]
    observations: tuple[Observation, ...] = ()
    """What bundles said of the study, for :mod:`dicom_ai_node.monitor`."""
    inferred: bool = False
    """Whether the network took part: then the reports are withheld in shadow mode."""
    proposals: tuple[FillProposal, ...] | None = None
    """What it proposes for the header; None: nothing is proposed and nothing withdrawn."""
    networks: Mapping[str, ModelIdentity] = field(default_factory=dict)
    """Whose estimate a proposed value is, of those that were inferred, by keyword."""
    auto_accept: frozenset[FillProposal] = frozenset()
    """Those of ``proposals`` that policy accepts at once."""
    station: str = ""
    """StationName of the images, '' when they have none."""
    keeps_chest: bool = False
    """Whether the configuration asks for it."""
    chest: Embedding | None = None
    """What other studies of the patient are compared with."""


def finish(
    db: Database,
    claimed: ClaimedStudy,
    new: NewAnalysis,
    *,
    header: StudyHeader | None,
    destinations: Mapping[str, frozenset[str]],
    reason: Reason | None,
    now: float,
) -> bool:
    """Store a result and queue its reports, or do nothing when the lease was lost.

    ``destinations`` maps each name to the kinds of report it gets. A result whose key is known
    (a late duplicate, a requeue without change) is queued for new destinations only. In shadow
    mode nothing that the network took part in is queued. Returns whether it was ours to finish.
    """
    study_uid = claimed.study_uid
    with db.write() as connection:
        held = hold(connection, claimed)
        if held is None:
            return False
        if header is not None:
            save_header(connection, study_uid, header)
        if new.keeps_chest:
            save_chest(connection, study_uid, new.chest)
        save_observations(connection, study_uid, new.observations, received_at=held.first_at)
        withheld = new.inferred and mode_now(connection) is Mode.SHADOW
        sent_to = {} if withheld else destinations
        kept = _keep(connection, claimed, new, sent_to, now=now)
        faulty = any(report.quarantined for report in new.reports)
        if new.proposals is not None and not faulty:
            record_proposals(
                connection,
                study_uid,
                new.proposals,
                auto_accept=new.auto_accept,
                networks=new.networks,
                station=new.station,
                repeated=kept.is_repeated,
                now=now,
            )
        if faulty:
            event = Event.GIVE_UP
        elif kept.has_reports:
            event, reason = (Event.NOTHING, WITHHELD) if withheld else (Event.RESULT, reason)
        else:
            event = Event.NOTHING
        flagged = new.flagged
        apply_event(
            connection, study_uid, event, now=now, reason=reason, held=held, flagged=flagged
        )
        if not kept.is_queued:
            settle(connection, study_uid, now=now)
    if kept.is_queued:
        db.announce(QUEUED)
    return True


_RESULTS = (
    select(analysis.c.id, analysis.c.result_key)
    .where(analysis.c.study_instance_uid == bindparam("uid"))
    .order_by(analysis.c.id)
)
_NEW_RESULT = insert(analysis).returning(analysis.c.id)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What became of a result."""

    is_repeated: bool
    """It is the newest one of its study once more."""
    has_reports: bool
    is_queued: bool
    """Something of it was queued just now."""


def _keep(
    connection: Connection,
    claimed: ClaimedStudy,
    new: NewAnalysis,
    destinations: Mapping[str, frozenset[str]],
    *,
    now: float,
) -> _Kept:
    """Store a result and queue its reports.

    A result whose key is known is stored already, unless its reports were quarantined: those are
    made anew.
    """
    study_uid = claimed.study_uid
    results = connection.execute(_RESULTS, {"uid": study_uid}).all()
    known = next((row.id for row in results if row.result_key == new.result_key), None)
    is_repeated = known is not None and known == results[-1].id
    if known is not None and not discard_quarantined(connection, known):
        restore_files(connection, new.reports)
        is_queued = queue_missing(connection, known, study_uid, destinations, now=now)
        return _Kept(is_repeated, has_reports(connection, known), is_queued)
    row = {
        "study_instance_uid": study_uid,
        "result_key": new.result_key,
        "revision": claimed.revision,
        "created_at": now,
        "result": new.result,
    }
    created = int(connection.execute(_NEW_RESULT, row).scalar_one())
    is_queued = False
    for report in new.reports:
        report_id = insert_report(connection, study_uid, report, analysis_id=created)
        for name, kinds in destinations.items():
            if report.kind in kinds and not report.quarantined:
                is_queued |= queue_report(connection, report_id, study_uid, name, now=now)
    return _Kept(is_repeated, bool(new.reports), is_queued)


def requeue_withheld(db: Database, *, now: float) -> tuple[int, int]:
    """Have every study analysed again whose report was withheld, and that has its images still.

    An unchanged result is sent as it was kept. Returns how many there are, and how many others have
    lost their images to retention and stay as they are.
    """
    held = study.c.reason_code == literal_column(f"'{WITHHELD.code}'")
    has_images = exists().where(
        instance.c.study_instance_uid == study.c.study_instance_uid,
        instance.c.analysable,
        instance.c.dropped_at.is_(None),
    )
    with db.write() as connection:
        # Whatever became of its images since, where they are forwarded.
        query = select(study.c.study_instance_uid, has_images).where(held)
        rows = connection.execute(query.with_for_update(of=study)).all()
        reason = Reason("requeued", "a person asked for what was withheld")
        for study_uid, there in rows:
            if there:
                apply_event(connection, study_uid, Event.REQUEUE, now=now, reason=reason)
    count = sum(there for _, there in rows)
    return count, len(rows) - count
