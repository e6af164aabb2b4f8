"""What a person or a program asks: studies one by one, and what there is in numbers. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select

from dicom_ai_node.store.database import AnySelect, Database
from dicom_ai_node.store.reports import FORWARDED
from dicom_ai_node.store.retention import forgotten
from dicom_ai_node.store.tables import (
    analysis,
    association,
    delivery,
    destination,
    forward,
    instance,
    quarantine,
    report,
    study,
    study_header,
    transition,
)
from dicom_ai_node.study import OPEN_DELIVERIES, OPEN_STATES, State


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
    """Everything that is known of one study; the parts are rows in the order of their making."""

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
    query = _studies().order_by(study.c.first_at.desc()).limit(limit)
    if states:
        query = query.where(study.c.state.in_(states))
    if flagged is not None:
        query = query.where(study.c.flagged.is_(flagged))
    if since is not None:
        query = query.where(study.c.first_at >= since)
    if until is not None:
        query = query.where(study.c.first_at < until)
    return [StudyRow(**row._mapping) for row in db.rows(query)]


def show(db: Database, study_uid: str) -> StudyDetail | None:
    """Return one study, None when it is unknown."""
    images = (
        select(
            *instance.c["sop_instance_uid", "series_instance_uid", "version"],
            *instance.c["sop_class_uid", "transfer_syntax_uid"],
            *instance.c["received_at", "calling_ae", "path", "dropped_at"],
            report.c.kind.label("forwarded"),
            forward.c.note.label("forward_note"),
        )
        .outerjoin(forward, forward.c.sop_instance_uid == instance.c.sop_instance_uid)
        .outerjoin(report, report.c.id == forward.c.report_id)
        .where(instance.c.study_instance_uid == study_uid)
        .order_by(instance.c.id)
    )
    transitions = (
        select(*transition.c["at", "event", "from_state", "to_state", "reason"])
        .where(transition.c.study_instance_uid == study_uid)
        .order_by(transition.c.id)
    )
    reports = (
        select(report.c.kind, analysis.c.created_at, report.c.quarantined)
        .join(analysis, analysis.c.id == report.c.analysis_id)
        .where(report.c.study_instance_uid == study_uid)
        .order_by(report.c.id)
    )
    deliveries = (
        select(
            delivery.c.destination,
            report.c.kind,
            *delivery.c["state", "attempts", "created_at", "settled_at", "not_before"],
            *delivery.c["sop_class_uid", "sop_instance_uid", "status", "error"],
        )
        .join(report, report.c.id == delivery.c.report_id)
        .where(delivery.c.study_instance_uid == study_uid)
        .order_by(delivery.c.id)
    )
    with db.read() as connection:
        row = connection.execute(_studies().where(study.c.study_instance_uid == study_uid)).first()
        if row is None:
            return None
        parts = [
            tuple(dict(part) for part in connection.execute(query).mappings())
            for query in (images, transitions, reports, deliveries)
        ]
        return StudyDetail(StudyRow(**row._mapping), *parts)


def _studies() -> AnySelect:
    """Return the query whose rows are :class:`StudyRow`."""
    images = func.count(func.distinct(instance.c.sop_instance_uid))
    every = analysis.alias()
    newest = func.max(every.c.id)
    return (
        select(
            *study.c["study_instance_uid", "state", "reason_code", "reason", "flagged", "revision"],
            _of_study(images, instance.c.study_instance_uid).label("instances"),
            study.c.first_at.label("received_at"),
            study.c.updated_at,
            func.coalesce(study_header.c.study_date, "").label("study_date"),
            analysis.c.result,
        )
        .outerjoin(study_header, study_header.c.study_instance_uid == study.c.study_instance_uid)
        .outerjoin(analysis, analysis.c.id == _of_study(newest, every.c.study_instance_uid))
    )


def _of_study(value: ColumnElement[int], study_uid: ColumnElement[str]) -> Any:
    return select(value).where(study_uid == study.c.study_instance_uid).scalar_subquery()


@dataclass(frozen=True, slots=True)
class Overview:
    """The numbers of one moment, for ``status``, for metrics and for health."""

    studies: Mapping[State, int]
    """Every state is listed."""
    deliveries: Mapping[tuple[str, str], int]
    """By (destination, state)."""
    oldest_study: Mapping[State, float]
    """When the oldest study in each open state began to wait, seconds since the epoch."""
    oldest_delivery: Mapping[str, float]
    """When the oldest unsent delivery to each destination was queued."""
    failures: Mapping[str, int]
    """Associations with each destination that failed in a row."""
    instances: int
    """Filed since the beginning; their files may be gone since."""
    dropped: int
    """Of these, how many files retention has removed."""
    quarantined: int
    """Files that were received and could not be filed."""
    forwards_waiting: int
    """Images that are not yet queued for the archives they are forwarded to."""
    reports: int
    invalid_reports: int
    """Reports that failed their own check and were never sent."""
    associations: int
    """Peers connected now."""


def overview(db: Database, *, now: float) -> Overview:
    """Count everything in one transaction."""
    count = func.count()
    # Collecting counts from when the study was opened, the rest from its last instance.
    collecting = study.c.state == State.COLLECTING
    since = func.min(case((collecting, study.c.opened_at), else_=study.c.last_at))
    studies = select(study.c.state, count, since).group_by(study.c.state)
    queues = select(
        delivery.c.destination, delivery.c.state, count, func.min(delivery.c.created_at)
    ).group_by(delivery.c.destination, delivery.c.state)
    with db.read() as connection:

        def number(query: Select[int]) -> int:
            return connection.execute(query).scalar_one()

        by_state = {row[0]: row for row in connection.execute(studies)}
        queued = connection.execute(queues).all()
        oldest: dict[str, float] = {}
        for name, state, _, at in queued:
            if state in OPEN_DELIVERIES:
                oldest[name] = min(at, oldest.get(name, at))
        images, reports = forgotten(connection)
        own = report.c.kind.not_in(FORWARDED)
        return Overview(
            studies={state: by_state[state][1] if state in by_state else 0 for state in State},
            deliveries={(name, state): number for name, state, number, _ in queued},
            oldest_study={state: by_state[state][2] for state in OPEN_STATES if state in by_state},
            oldest_delivery=oldest,
            failures={row.name: row.failures for row in connection.execute(select(destination))},
            instances=number(select(count).select_from(instance)) + images,
            dropped=number(select(func.count(instance.c.dropped_at))) + images,
            quarantined=number(select(count).select_from(quarantine)),
            forwards_waiting=number(select(count).where(forward.c.report_id.is_(None))),
            reports=number(select(count).where(own)) + reports,
            invalid_reports=number(select(count).where(report.c.quarantined != "")),
            associations=number(select(count).where(association.c.alive_until >= now)),
        )


def newest_model(db: Database) -> Mapping[str, str]:
    """Return name, version and sha256 of the network that answered last, {} when none has."""
    result: Any = db.scalar(select(analysis.c.result).order_by(analysis.c.id.desc()).limit(1))
    model = result.get("model") if isinstance(result, dict) else None
    if not isinstance(model, dict):
        return {}
    return {key: str(model.get(key, "")) for key in ("name", "version", "sha256")}
