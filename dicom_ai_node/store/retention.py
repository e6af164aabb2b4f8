"""What is removed of studies that are long done: their report files, and at last their rows.

Never what is unsent or a dead letter, what was withheld, or what a proposal was made for: who
decided what about it, and where a filled value came from, stays for good.
"""

from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, delete, exists, func, or_, select, update

from dicom_ai_node.store import forwards, node
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.reports import (
    COERCED,
    COPY,
    FORWARDED,
)
from dicom_ai_node.store.tables import (
    analysis,
    association_study,
    delivery,
    forward,
    instance,
    observation,
    proposal,
    report,
    report_file,
    stuck_fill,
    study,
    transition,
    worklist_answer,
)
from dicom_ai_node.study import State
from dicom_ai_node.study.proposals import ProposalState

_FORGOTTEN = "forgotten"


_DONE = (State.DELIVERED, State.SKIPPED)


_UNDECIDED = (ProposalState.OPEN, ProposalState.ACCEPTED)


def needed_by_proposal() -> ColumnElement[bool]:
    """Return the condition that a study has a proposal that is not applied and may yet be."""
    return exists().where(
        proposal.c.study_instance_uid == study.c.study_instance_uid,
        proposal.c.state.in_(_UNDECIDED),
    )


def drop_reports(db: Database, *, before: float, limit: int, remove: Callable[[str], bool]) -> int:
    """Let ``remove`` take away report files that every destination had before ``before``.

    The rows stay, without a path. What was made and never sent to anybody stays as well. Returns
    how many files went; ``remove`` is as in :func:`drop_expired`.
    """
    mine = delivery.c.study_instance_uid == study.c.study_instance_uid
    sent = exists().where(mine, delivery.c.state == "delivered")
    unsent = exists().where(mine, (delivery.c.state != "delivered") | _not_settled(before))
    query = (
        select(report_file.c.sop_instance_uid, report_file.c.path)
        .join(report, report.c.id == report_file.c.report_id)
        .join(study, study.c.study_instance_uid == report.c.study_instance_uid)
        .where(report_file.c.path != "", report.c.quarantined == "")
        .where(report.c.kind.not_in((COPY, *FORWARDED)))
        .where(study.c.state.in_(_DONE), study.c.updated_at < before)
        .where(sent, ~unsent)
        .limit(limit)
    )
    with db.read() as connection:
        if not connection.execute(query.limit(1)).first():
            return 0
    with db.write() as connection:
        locked = query.with_for_update(of=study, skip_locked=True)
        rows = connection.execute(locked).all()
        gone = [row.sop_instance_uid for row in rows if remove(row.path)]
        of_these = report_file.c.sop_instance_uid.in_(gone)
        connection.execute(update(report_file).where(of_these).values(path=""))
        return len(gone)


def report_paths(db: Database) -> frozenset[str]:
    """Return the files of the outbox that rows name."""
    query = select(report_file.c.path).where(report_file.c.path != "")
    with db.read() as connection:
        return frozenset(connection.execute(query).scalars())


def forget_studies(db: Database, *, before: float, limit: int) -> int:
    """Remove all rows of studies that were done before ``before``; return of how many.

    Only of such as have no file left, nothing unsent, no proposal, no forwarded image and no
    observation. What later studies of the patient are compared with stays (``study_header``).
    """
    uid = study.c.study_instance_uid
    kept = exists().where(instance.c.study_instance_uid == uid, instance.c.dropped_at.is_(None))
    made = exists().where(
        report.c.study_instance_uid == uid,
        report.c.id == report_file.c.report_id,
        report_file.c.path != "",
    )
    unsent = exists().where(delivery.c.study_instance_uid == uid, delivery.c.state != "delivered")
    tied = [
        ~exists().where(table.c.study_instance_uid == uid)
        for table in (proposal, forward, observation)
    ]
    query = (
        select(uid)
        .where(study.c.state.in_(_DONE), study.c.updated_at < before)
        .where(~kept, ~made, ~unsent, *tied)
        .order_by(study.c.updated_at)
        .limit(limit)
    )
    with db.read() as connection:
        if not connection.execute(query.limit(1)).first():
            return 0
    with db.write() as connection:
        locked = query.with_for_update(of=study, skip_locked=True)
        uids = list(connection.execute(locked).scalars())
        _count_forgotten(db, connection, uids)
        reports = select(report.c.id).where(report.c.study_instance_uid.in_(uids))
        connection.execute(delete(report_file).where(report_file.c.report_id.in_(reports)))
        # In an order in which no row points to one that is gone.
        for table in (
            delivery, report, analysis, transition, worklist_answer, stuck_fill,
            association_study, instance, study,
        ):  # fmt: skip
            connection.execute(delete(table).where(table.c.study_instance_uid.in_(uids)))
        return len(uids)


def forgotten(connection: Connection) -> tuple[int, int]:
    """Return how many instances and reports were of studies that are forgotten."""
    found = node.get_now(connection, _FORGOTTEN)
    if found is None:
        return 0, 0
    instances, reports = map(int, found.value.split())
    return instances, reports


def _count_forgotten(db: Database, connection: Connection, uids: list[str]) -> None:
    """Keep the totals of what ever was: a counter that falls says that the node began anew."""
    instances, reports = forgotten(connection)
    counted = select(func.count()).select_from(instance)
    instances += connection.execute(
        counted.where(instance.c.study_instance_uid.in_(uids))
    ).scalar_one()
    made = select(func.count()).select_from(report).where(report.c.kind.not_in(FORWARDED))
    reports += connection.execute(made.where(report.c.study_instance_uid.in_(uids))).scalar_one()
    row = node.get_now(connection, _FORGOTTEN)
    at = row.at if row else 0.0
    node.put_now(db, connection, _FORGOTTEN, f"{instances} {reports}", now=at)


def _not_settled(before: float) -> ColumnElement[bool]:
    return delivery.c.settled_at.is_(None) | (delivery.c.settled_at >= before)


def drop_expired(
    db: Database, *, before: float, now: float, limit: int, remove: Callable[[str], bool]
) -> int:
    """Let ``remove`` take away files whose study settled before ``before``; return how many went.

    Only studies whose last word is delivered or that had nothing to report: what is unsent, failed
    or still collecting keeps its pixels. So does an image that was not forwarded to all before
    ``before``, and one of a study with a proposal that is open or accepted: it is what a person
    looks at, and what a copy is made of. The rows are held meanwhile, so that no late image can
    reopen a study half of whose files are gone. Killed in between, the next call finds the same
    rows again: ``remove`` must not mind a file that is gone. It returns False for one to keep.
    """
    done = (State.DELIVERED, State.SKIPPED)
    query = (
        select(instance.c.id, instance.c.path)
        .join(study)
        .where(instance.c.dropped_at.is_(None))
        .where(study.c.state.in_(done), study.c.updated_at < before)
        .where(~forwards.needs_its_file(before), ~needed_by_proposal())
        .order_by(study.c.updated_at)
        .limit(limit)
    )
    with db.read() as connection:
        if not connection.execute(query.limit(1)).first():
            return 0
    with db.write() as connection:
        locked = query.with_for_update(of=study, skip_locked=True)
        gone = [row.id for row in connection.execute(locked).all() if remove(row.path)]
        connection.execute(update(instance).where(instance.c.id.in_(gone)).values(dropped_at=now))
        return len(gone)


def drop_sent(db: Database, *, before: float, limit: int, remove: Callable[[str], bool]) -> int:
    """Let ``remove`` take away copies, coerced images among them, that all their destinations had
    before ``before``.

    A copy is as large as its image, and can be made again as long as that is kept. Returns how many
    went; ``remove`` is as in :func:`drop_expired`.
    """
    unsent = exists().where(
        delivery.c.report_id == report.c.id,
        or_(delivery.c.state != "delivered", delivery.c.settled_at >= before),
    )
    query = (
        select(report_file.c.sop_instance_uid, report_file.c.path)
        .join(report, report.c.id == report_file.c.report_id)
        .where(report.c.kind.in_((COPY, COERCED)), report_file.c.path != "", ~unsent)
        .limit(limit)
    )
    with db.write() as connection:
        rows = connection.execute(query.with_for_update(skip_locked=True)).all()
        gone = [row.sop_instance_uid for row in rows if remove(row.path)]
        mine = report_file.c.sop_instance_uid.in_(gone)
        connection.execute(update(report_file).where(mine).values(path=""))
        return len(gone)
