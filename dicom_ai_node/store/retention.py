"""What is removed of studies that are long done: files, then reports, and at last their rows.

Never what is unsent or a dead letter, what was withheld, or what a proposal was made for: who
decided what about it, and where a filled value came from, stays for good.

Files are taken away by a ``remove`` that returns whether a file is gone, and that must not mind one
that is gone already: killed in between, the next call finds the same rows again. The rows are held
meanwhile, so that no late image can reopen a study half of whose files are gone.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, func, select, update

from dicom_ai_node.store.database import AnySelect, Database, upsert
from dicom_ai_node.store.node import value_of
from dicom_ai_node.store.reports import COERCED, COPY, FORWARDED
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
    worklist_answer,
)
from dicom_ai_node.study import DeliveryState, State
from dicom_ai_node.study.proposals import ProposalState

_FORGOTTEN = "forgotten"
_UNDECIDED = (ProposalState.OPEN, ProposalState.ACCEPTED)
_DELIVERED = delivery.c.state == DeliveryState.DELIVERED


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
    query = (
        select(instance.c.id, instance.c.path)
        .join(study)
        .where(instance.c.dropped_at.is_(None), _done(before), ~to_be_forwarded, ~undecided)
        .order_by(study.c.updated_at)
    )
    return _drop_files(db, query, study, limit, remove, {"dropped_at": now})


def drop_sent(db: Database, *, before: float, limit: int, remove: Callable[[str], bool]) -> int:
    """Let ``remove`` take away copies, coerced images among them, that all their destinations had
    before ``before``; return how many went.

    A copy is as large as its image, and can be made again as long as that is kept.
    """
    unsent = exists().where(delivery.c.report_id == report.c.id, _not_delivered(before))
    query = (
        select(report_file.c.sop_instance_uid, report_file.c.path)
        .join(report, report.c.id == report_file.c.report_id)
        .where(report.c.kind.in_((COPY, COERCED)), report_file.c.path != "", ~unsent)
    )
    return _drop_files(db, query, report_file, limit, remove, {"path": ""})


def drop_reports(db: Database, *, before: float, limit: int, remove: Callable[[str], bool]) -> int:
    """Let ``remove`` take away report files that every destination had before ``before``.

    The rows stay, without a path. What was made and never sent to anybody stays as well. Returns
    how many files went.
    """
    mine = delivery.c.study_instance_uid == study.c.study_instance_uid
    sent, unsent = exists().where(mine, _DELIVERED), exists().where(mine, _not_delivered(before))
    query = (
        select(report_file.c.sop_instance_uid, report_file.c.path)
        .join(report, report.c.id == report_file.c.report_id)
        .join(study, study.c.study_instance_uid == report.c.study_instance_uid)
        .where(report_file.c.path != "", report.c.quarantined == "")
        .where(report.c.kind.not_in((COPY, *FORWARDED)), _done(before), sent, ~unsent)
    )
    return _drop_files(db, query, study, limit, remove, {"path": ""})


def report_paths(db: Database) -> frozenset[str]:
    """Return the files of the outbox that rows name."""
    return frozenset(db.scalars(select(report_file.c.path).where(report_file.c.path != "")))


def forget_studies(db: Database, *, before: float, limit: int) -> int:
    """Remove all rows of studies that were done before ``before``; return of how many.

    Only of such as have no file left, nothing unsent, no proposal, no forwarded image and no
    observation. What later studies of the patient are compared with stays (``study_header``), but
    for the chest, which is biometric.
    """
    uid = study.c.study_instance_uid
    has_file = exists().where(instance.c.study_instance_uid == uid, instance.c.dropped_at.is_(None))
    made = exists().where(
        report.c.study_instance_uid == uid,
        report.c.id == report_file.c.report_id,
        report_file.c.path != "",
    )
    unsent = exists().where(delivery.c.study_instance_uid == uid, ~_DELIVERED)
    tied = [
        exists().where(table.c.study_instance_uid == uid)
        for table in (proposal, forward, observation)
    ]
    query = (
        select(uid)
        .where(_done(before), *(~condition for condition in (has_file, made, unsent, *tied)))
        .order_by(study.c.updated_at)
        .limit(limit)
    )
    if not db.first(query.limit(1)):
        return 0
    with db.write() as connection:
        locked = query.with_for_update(of=study, skip_locked=True)
        uids = list(connection.scalars(locked))
        _count_forgotten(connection, uids)
        reports = select(report.c.id).where(report.c.study_instance_uid.in_(uids))
        connection.execute(delete(report_file).where(report_file.c.report_id.in_(reports)))
        # In an order in which no row points to one that is gone.
        for table in (
            delivery, report, analysis, transition, worklist_answer, stuck_fill,
            study_chest, association_study, instance, study,
        ):  # fmt: skip
            connection.execute(delete(table).where(table.c.study_instance_uid.in_(uids)))
        return len(uids)


def forgotten(connection: Connection) -> tuple[int, int]:
    """Return how many instances and reports were of studies that are forgotten."""
    found = value_of(connection, _FORGOTTEN)
    instances, reports = map(int, found.value.split()) if found else (0, 0)
    return instances, reports


def _count_forgotten(connection: Connection, uids: list[str]) -> None:
    """Keep the totals of what ever was: a counter that falls says that the node began anew."""
    instances, reports = forgotten(connection)
    counted = select(func.count()).where(instance.c.study_instance_uid.in_(uids))
    own = report.c.kind.not_in(FORWARDED) & report.c.study_instance_uid.in_(uids)
    instances += connection.execute(counted).scalar_one()
    reports += connection.execute(select(func.count()).where(own)).scalar_one()
    text = f"{instances} {reports}"
    upsert(connection, node_value, name=_FORGOTTEN, value=text, at=0.0)


def _done(before: float) -> ColumnElement[bool]:
    done = study.c.state.in_((State.DELIVERED, State.SKIPPED))
    return done & (study.c.updated_at < before)


def _not_delivered(before: float) -> ColumnElement[bool]:
    return ~_DELIVERED | delivery.c.settled_at.is_(None) | (delivery.c.settled_at >= before)


def _drop_files(
    db: Database,
    query: AnySelect,
    locked: Table,
    limit: int,
    remove: Callable[[str], bool],
    gone: dict[str, Any],
) -> int:
    """Let ``remove`` take away the files of ``query`` and write ``gone`` into their rows.

    ``query`` selects the key of each row, and its path.
    """
    query = query.limit(limit)
    if not db.first(query.limit(1)):
        return 0
    key = query.selected_columns[0]
    with db.write() as connection:
        rows = connection.execute(query.with_for_update(of=locked, skip_locked=True)).all()
        keys = [row[0] for row in rows if remove(row.path)]
        connection.execute(update(key.table).where(key.in_(keys)).values(gone))
        return len(keys)
