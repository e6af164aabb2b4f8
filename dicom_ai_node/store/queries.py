"""What a person or a program asks about studies. Read only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import (
    analysis,
    delivery,
    forward,
    instance,
    report,
    study,
    study_header,
    transition,
)
from dicom_ai_node.study import State


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One study in a list."""

    study_instance_uid: str
    state: str
    reason_code: str
    reason: str
    flagged: bool | None
    """Whether the header rules found age or sex missing or implausible; None before analysis."""
    revision: int
    """How often it was opened: 1, and one more for each late image after it had closed."""
    instances: int
    received_at: float
    updated_at: float
    study_date: str
    """As it was sent, '' when there is none, or before analysis."""
    result: dict[str, Any] | None
    """The newest StudyResult as JSON, None before analysis."""


@dataclass(frozen=True, slots=True)
class StudyDetail:
    """Everything that is known of one study."""

    study: StudyRow
    instances: tuple[dict[str, Any], ...]
    transitions: tuple[dict[str, Any], ...]
    reports: tuple[dict[str, Any], ...]
    deliveries: tuple[dict[str, Any], ...]

    @property
    def result(self) -> dict[str, Any] | None:
        """The newest StudyResult as JSON, None before analysis."""
        return self.study.result


def find(
    db: Database,
    *,
    states: Sequence[State] = (),
    flagged: bool | None = None,
    since: float | None = None,
    until: float | None = None,
    limit: int = 100,
) -> list[StudyRow]:
    """Return studies, the newest first; ``since`` and ``until`` bound when they first came."""
    query = _rows().order_by(study.c.first_at.desc()).limit(limit)
    if states:
        query = query.where(study.c.state.in_(states))
    if flagged is not None:
        query = query.where(study.c.flagged.is_(flagged))
    if since is not None:
        query = query.where(study.c.first_at >= since)
    if until is not None:
        query = query.where(study.c.first_at < until)
    with db.read() as connection:
        return [StudyRow(**row._mapping) for row in connection.execute(query)]


def show(db: Database, uid: str) -> StudyDetail | None:
    """Return one study, None when it is unknown."""
    with db.read() as connection:
        row = connection.execute(_rows().where(study.c.study_instance_uid == uid)).first()
        if row is None:
            return None
        return StudyDetail(
            study=StudyRow(**row._mapping),
            instances=_all(connection, _instances(uid)),
            transitions=_all(connection, _transitions(uid)),
            reports=_all(connection, _reports(uid)),
            deliveries=_all(connection, _deliveries(uid)),
        )


def _instances(uid: str) -> Select[Any]:
    return (
        select(
            instance.c.sop_instance_uid,
            instance.c.version,
            instance.c.sop_class_uid,
            instance.c.transfer_syntax_uid,
            instance.c.received_at,
            instance.c.calling_ae,
            instance.c.path,
            instance.c.dropped_at,
            report.c.kind.label("forwarded"),
            forward.c.note.label("forward_note"),
        )
        .outerjoin(forward, forward.c.sop_instance_uid == instance.c.sop_instance_uid)
        .outerjoin(report, report.c.id == forward.c.report_id)
        .where(instance.c.study_instance_uid == uid)
        .order_by(instance.c.id)
    )


def _transitions(uid: str) -> Select[Any]:
    return (
        select(
            transition.c.at,
            transition.c.event,
            transition.c.from_state,
            transition.c.to_state,
            transition.c.reason,
        )
        .where(transition.c.study_instance_uid == uid)
        .order_by(transition.c.id)
    )


def _reports(uid: str) -> Select[Any]:
    return (
        select(report.c.kind, analysis.c.created_at, report.c.quarantined)
        .join(analysis, analysis.c.id == report.c.analysis_id)
        .where(report.c.study_instance_uid == uid)
        .order_by(report.c.id)
    )


def _deliveries(uid: str) -> Select[Any]:
    return (
        select(
            delivery.c.destination,
            report.c.kind,
            delivery.c.state,
            delivery.c.attempts,
            delivery.c.created_at,
            delivery.c.settled_at,
            delivery.c.not_before,
            delivery.c.sop_class_uid,
            delivery.c.sop_instance_uid,
            delivery.c.status,
            delivery.c.error,
        )
        .join(report, report.c.id == delivery.c.report_id)
        .where(delivery.c.study_instance_uid == uid)
        .order_by(delivery.c.id)
    )


def _rows() -> Any:
    counted = (
        select(func.count(func.distinct(instance.c.sop_instance_uid)))
        .where(instance.c.study_instance_uid == study.c.study_instance_uid)
        .scalar_subquery()
    )
    every = analysis.alias()
    newest = (
        select(func.max(every.c.id))
        .where(every.c.study_instance_uid == study.c.study_instance_uid)
        .scalar_subquery()
    )
    columns = select(
        study.c.study_instance_uid,
        study.c.state,
        study.c.reason_code,
        study.c.reason,
        study.c.flagged,
        study.c.revision,
        counted.label("instances"),
        study.c.first_at.label("received_at"),
        study.c.updated_at,
        func.coalesce(study_header.c.study_date, "").label("study_date"),
        analysis.c.result,
    )
    return columns.outerjoin(
        study_header, study_header.c.study_instance_uid == study.c.study_instance_uid
    ).outerjoin(analysis, analysis.c.id == newest)


def _all(connection: Connection, query: Any) -> tuple[dict[str, Any], ...]:
    return tuple(dict(row._mapping) for row in connection.execute(query))
