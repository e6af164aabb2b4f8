"""What is removed of studies that are long done: files, then reports, and at last their rows.

Never what is unsent or a dead letter, or what was withheld. Of a study that had a proposal or was
forwarded some rows stay for good: who decided what, where a filled value came from and who got it,
and which images must not go out a second time.

Files are taken away by a ``remove`` that returns whether a file is gone, and that must not mind one
that is gone already: killed in between, the next call finds the same rows again. The rows are held
meanwhile, so that no late image can reopen a study half of whose files are gone.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    delete,
    exists,
    literal_column,
    select,
    update,
)

from dicom_ai_node.store.database import AnySelect, Database, upsert
from dicom_ai_node.store.node import value_of
from dicom_ai_node.store.reports import COERCED, COPY, FORWARDED, RECEIVED
from dicom_ai_node.store.tables import (
    analysis,
    association_study,
    delivery,
    forward,
    instance,
    node_value,
    observation,
    proposal,
    report,
    report_file,
    stuck_fill,
    study,
    study_chest,
    transition,
    word,
    worklist_answer,
)
from dicom_ai_node.study import DeliveryState, State
from dicom_ai_node.study.proposals import ProposalState
from dicom_ai_node.types import ProposalSource

_FORGOTTEN = "forgotten"
_UNDECIDED = (ProposalState.OPEN, ProposalState.ACCEPTED)
_DELIVERED = delivery.c.state == DeliveryState.DELIVERED
_KEPT_FILE = report_file.c.path != literal_column("''")


def drop_expired(
    db: Database, *, before: float, now: float, limit: int, remove: Callable[[str], bool]
) -> int:
    """Let ``remove`` take away files whose study settled before ``before``; return how many went.

    Only studies whose last word is delivered or that had nothing to report: what is unsent, failed
    or still collecting keeps its pixels. So does an image that was not forwarded to all before
    ``before``, and one of a study with a proposal that is open or accepted: it is what a person
    looks at, and what a copy is made of.
    """
    to_be_forwarded = exists().where(
        forward.c.sop_instance_uid == instance.c.sop_instance_uid,
        forward.c.report_id.is_(None)
        | exists().where(delivery.c.report_id == forward.c.report_id, _not_delivered(before)),
    )
    undecided = exists().where(
        proposal.c.study_instance_uid == study.c.study_instance_uid,
        proposal.c.state.in_(_UNDECIDED),
    )
    of_study = instance.c.study_instance_uid == study.c.study_instance_uid
    is_kept = instance.c.dropped_at.is_(None)
    # From the few that are kept, not from all that are done; what rules out most comes first.
    some = select(instance.c.study_instance_uid).where(
        is_kept,
        exists().where(of_study, _done(before)),
        ~to_be_forwarded,
        exists().where(of_study, ~undecided),
    )
    query = (
        select(instance.c.id, instance.c.path)
        .join(study, of_study)
        .where(is_kept, _done(before), ~to_be_forwarded, ~undecided)
        .order_by(study.c.updated_at)
    )
    return _drop_files(db, some, query, study, limit, remove, {"dropped_at": now})


def drop_sent(db: Database, *, before: float, limit: int, remove: Callable[[str], bool]) -> int:
    """Let ``remove`` take away copies, coerced images among them, that all their destinations had
    before ``before``; return how many went.

    A copy is as large as its image, and can be made again as long as that is kept.
    """
    unsent = exists().where(delivery.c.report_id == report.c.id, _not_delivered(before))
    of_report = report.c.id == report_file.c.report_id
    sent = (report.c.kind.in_((COPY, COERCED)), ~unsent)
    some = select(report.c.study_instance_uid).join(report_file, of_report)
    query = select(report_file.c.sop_instance_uid, report_file.c.path).join(report, of_report)
    which = (_KEPT_FILE, *sent)
    some, query = some.where(*which), query.where(*which)
    return _drop_files(db, some, query, report_file, limit, remove, {"path": ""})


def drop_reports(db: Database, *, before: float, limit: int, remove: Callable[[str], bool]) -> int:
    """Let ``remove`` take away report files that every destination had before ``before``.

    The rows stay, without a path. What was made and never sent to anybody stays as well. Returns
    how many files went.
    """
    mine = delivery.c.study_instance_uid == report.c.study_instance_uid
    sent, unsent = exists().where(mine, _DELIVERED), exists().where(mine, _not_delivered(before))
    of_study = study.c.study_instance_uid == report.c.study_instance_uid
    kinds = report.c.kind.not_in((COPY, *FORWARDED))
    which = (report.c.quarantined == "", kinds, sent, ~unsent)
    some = (
        select(report.c.study_instance_uid)
        .join(report_file, report.c.id == report_file.c.report_id)
        .where(_KEPT_FILE, exists().where(of_study, _done(before)), *which)
    )
    query = (
        select(report_file.c.sop_instance_uid, report_file.c.path)
        .join(report, report.c.id == report_file.c.report_id)
        .join(study, of_study)
        .where(_KEPT_FILE, _done(before), *which)
    )
    return _drop_files(db, some, query, study, limit, remove, {"path": ""})


def report_paths(db: Database) -> frozenset[str]:
    """Return the files of the outbox that rows name."""
    return frozenset(db.scalars(select(report_file.c.path).where(report_file.c.path != "")))


def forget_studies(db: Database, *, before: float, now: float, limit: int) -> int:
    """Remove the rows of studies that were done before ``before``; return of how many.

    Only of such as have no file left, nothing unsent, no observation and nothing to decide. What
    later studies of the patient are compared with stays (``study_header``), but for the chest,
    which is biometric. Of a study with a proposal or a forwarded image that stays, too, with their
    decisions, and the copies and images that were sent (``trimmed_at`` says that the rest is gone).
    """
    uid = study.c.study_instance_uid
    has_file = exists().where(instance.c.study_instance_uid == uid, instance.c.dropped_at.is_(None))
    made = exists().where(
        report.c.study_instance_uid == uid,
        report.c.id == report_file.c.report_id,
        report_file.c.path != "",
        report.c.kind != RECEIVED,  # whose file is the instance's
    )
    unsent = exists().where(delivery.c.study_instance_uid == uid, ~_DELIVERED)
    observed = exists().where(observation.c.study_instance_uid == uid)
    needs_analysis = proposal.c.model.is_(None) & (proposal.c.source == ProposalSource.INFERENCE)
    undecided = exists().where(
        proposal.c.study_instance_uid == uid,
        proposal.c.state.in_(_UNDECIDED) | needs_analysis,
    )
    query = (
        select(uid)
        .where(_done(before), study.c.trimmed_at.is_(None))
        .where(*(~condition for condition in (has_file, made, unsent, observed, undecided)))
        .order_by(study.c.updated_at)
        .limit(limit)
    )
    if not db.first(query.limit(1)):
        return 0
    with db.write() as connection:
        uids = list(connection.scalars(query.with_for_update(of=study, skip_locked=True)))
        _remove_rows(connection, uids, now)
        return len(uids)


def _remove_rows(connection: Connection, uids: list[str], now: float) -> None:
    """Remove what :func:`forget_studies` does, in an order in which no row points to one gone."""

    def remove(table: Table, *which: ColumnElement[bool]) -> int:
        mine = table.c.study_instance_uid.in_(uids)
        return connection.execute(delete(table).where(mine, *which)).rowcount

    own = report.c.kind.not_in((COPY, *FORWARDED))
    of_own = select(report.c.id).where(report.c.study_instance_uid.in_(uids), own)
    of_received = select(report.c.id).where(
        report.c.study_instance_uid.in_(uids), report.c.kind == RECEIVED
    )
    connection.execute(delete(report_file).where(report_file.c.report_id.in_(of_own)))
    remove(delivery, delivery.c.report_id.in_(of_own.union_all(of_received)))
    reports = remove(report, own)
    copies = update(report).where(report.c.study_instance_uid.in_(uids))
    connection.execute(copies.values(analysis_id=None))
    for table in (
        analysis, transition, worklist_answer, stuck_fill, study_chest, association_study,
    ):  # fmt: skip
        remove(table)
    _count_forgotten(connection, remove(instance), reports)
    tied = [exists().where(table.c.study_instance_uid == study.c.study_instance_uid)
            for table in (proposal, forward)]  # fmt: skip
    remove(study, *(~condition for condition in tied))
    trimmed = update(study).where(study.c.study_instance_uid.in_(uids))
    connection.execute(trimmed.values(trimmed_at=now))


def forgotten(connection: Connection) -> tuple[int, int]:
    """Return how many instances and reports were of studies that are forgotten."""
    found = value_of(connection, _FORGOTTEN)
    instances, reports = map(int, found.value.split()) if found else (0, 0)
    return instances, reports


def _count_forgotten(connection: Connection, instances: int, reports: int) -> None:
    """Keep the totals of what ever was: a counter that falls says that the node began anew."""
    before = forgotten(connection)
    text = f"{before[0] + instances} {before[1] + reports}"
    upsert(connection, node_value, name=_FORGOTTEN, value=text, at=0.0)


def _done(before: float) -> ColumnElement[bool]:
    done = study.c.state.in_([word(State.DELIVERED), word(State.SKIPPED)])
    return done & (study.c.updated_at < before)


def _not_delivered(before: float) -> ColumnElement[bool]:
    return ~_DELIVERED | delivery.c.settled_at.is_(None) | (delivery.c.settled_at >= before)


def _drop_files(
    db: Database,
    some: Select[str],
    query: AnySelect,
    locked: Table,
    limit: int,
    remove: Callable[[str], bool],
    gone: dict[str, Any],
) -> int:
    """Let ``remove`` take away files and write ``gone`` into their rows.

    ``some`` finds studies that have such files, ``query`` the key of each row, and its path.
    """
    uids = set(db.scalars(some.limit(limit)))
    if not uids:
        return 0
    key = query.selected_columns[0]
    of_study = (study if locked is study else report).c.study_instance_uid
    query = query.where(of_study.in_(sorted(uids))).limit(limit)
    with db.write() as connection:
        rows = connection.execute(query.with_for_update(of=locked, skip_locked=True)).all()
        keys = [row[0] for row in rows if remove(row.path)]
        connection.execute(update(key.table).where(key.in_(keys)).values(gone))
        return len(keys)
