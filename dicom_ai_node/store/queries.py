"""What a person or a program asks: studies one by one, and what there is in numbers. Reads only."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_, union_all

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
    report,
    study,
    study_header,
    transition,
    word,
)
from dicom_ai_node.store.tallies import tallies
from dicom_ai_node.study import OPEN_DELIVERIES, OPEN_STATES, State

_ENDED = tuple(state for state in State if state not in OPEN_STATES)
"""The states of ``ix_study_listed``, in its words."""

_STUDIES_A_QUERY = 500


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
    after: tuple[float, str] | None = None,
    limit: int = 100,
) -> list[StudyRow]:
    """Return studies, the newest first; ``since`` and ``until`` bound when they first came.

    ``after`` is the place of a study (:func:`place_of`): those that follow it in the list.
    """
    place = _PLACE
    within = [study.c.first_at >= since] if since is not None else []
    within += [study.c.first_at < until] if until is not None else []
    if after is not None:
        within.append(tuple_(*place) < tuple_(*after))
    parts = [
        select(*place).where(*which, *within).order_by(*order).limit(limit)
        for order, which in _ranges(states, flagged)
    ]
    found: list[StudyRow] = []
    with db.read() as connection:
        listed = [tuple(row) for part in parts for row in connection.execute(part)]
        uids = [uid for _, uid in sorted(listed, reverse=True)[:limit]]
        for start in range(0, len(uids), _STUDIES_A_QUERY):
            some = uids[start : start + _STUDIES_A_QUERY]
            rows = connection.execute(_studies().where(study.c.study_instance_uid.in_(some)))
            known = {row.study_instance_uid: row for row in rows}
            found += [StudyRow(**known[uid]._mapping) for uid in some]
    return found


def place_of(db: Database, study_uid: str) -> tuple[float, str] | None:
    """Return where a study stands in the list, None when it is unknown."""
    first_at = db.scalar(select(study.c.first_at).where(study.c.study_instance_uid == study_uid))
    return None if first_at is None else (first_at, study_uid)


_PLACE = (study.c.first_at, study.c.study_instance_uid)
_NEWEST = tuple(column.desc() for column in _PLACE)


def _ranges(
    states: Sequence[State], flagged: bool | None
) -> Iterator[tuple[Sequence[ColumnElement[Any]], Sequence[ColumnElement[bool]]]]:
    """Yield order and conditions of the parts of a list, each of which is a range of an index."""
    if not states and flagged is None:
        yield _NEWEST, ()
        return
    ended = study.c.state.in_([word(state) for state in _ENDED])
    for state in states or State:
        of_state = study.c.state == word(state)
        if state in _ENDED:
            for value in (True, False, None) if flagged is None else (flagged,):
                yield _NEWEST, (of_state, ended, study.c.flagged.is_(value))
        else:  # few at any time: found by their own index and sorted, not looked for by age
            order = ((study.c.first_at + 0.0).desc(), study.c.study_instance_uid.desc())
            yield (
                order,
                (of_state,) if flagged is None else (of_state, study.c.flagged.is_(flagged)),
            )


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
    """Count everything in one transaction. Nothing of it costs more the more is done."""
    with db.read() as connection:
        known = tallies(connection, "study", "delivery", "instance", "report", "quarantine")
        waits = connection.execute(_waits(now)).one()
        oldest: dict[str, float] = {}
        for name, at in connection.execute(_OLDEST):
            oldest[name] = min(at, oldest.get(name, at))
        failures = {row.name: row.failures for row in connection.execute(select(destination))}
        images, reports = forgotten(connection)
    studies = {state: known["study"].get(("", state), 0) for state in State}
    files = {state: known["instance"].get(("", state), 0) for state in ("kept", "dropped")}
    made: Counter[str] = Counter()
    for (kind, state), count in known["report"].items():
        made["invalid"] += count if state == "invalid" else 0
        made["own"] += count if kind not in FORWARDED else 0
    since = zip(OPEN_STATES, waits[: len(OPEN_STATES)], strict=True)
    return Overview(
        studies=studies,
        deliveries={(name, state): count for (name, state), count in known["delivery"].items()},
        oldest_study={state: at for state, at in since if at is not None},
        oldest_delivery=oldest,
        failures=failures,
        instances=files["kept"] + files["dropped"] + images,
        dropped=files["dropped"] + images,
        quarantined=sum(known["quarantine"].values()),
        forwards_waiting=waits.forwards,
        reports=made["own"] + reports,
        invalid_reports=made["invalid"],
        associations=waits.associations,
    )


_OLDEST = union_all(
    *(
        select(delivery.c.destination, func.min(delivery.c.created_at))
        .where(delivery.c.state == word(state))
        .group_by(delivery.c.destination)
        for state in OPEN_DELIVERIES
    )
)
"""When the oldest of each destination was queued, in each open state."""


def _waits(now: float) -> AnySelect:
    """Return the query for when the oldest study of each open state began to wait, and for what
    else there is only little of at any time."""
    count = func.count()
    waiting = select(count).where(forward.c.report_id.is_(None))
    connected = select(count).where(association.c.alive_until >= now)
    return select(
        *(
            # Collecting counts from when the study was opened, the rest from its last instance.
            select(func.min(study.c.opened_at if state is State.COLLECTING else study.c.last_at))
            .where(study.c.state == word(state))
            .scalar_subquery()
            for state in OPEN_STATES
        ),
        waiting.scalar_subquery().label("forwards"),
        connected.scalar_subquery().label("associations"),
    )


def newest_model(db: Database) -> Mapping[str, str]:
    """Return name, version and sha256 of the network that answered last, {} when none has."""
    result: Any = db.scalar(select(analysis.c.result).order_by(analysis.c.id.desc()).limit(1))
    model = result.get("model") if isinstance(result, dict) else None
    if not isinstance(model, dict):
        return {}
    return {key: str(model.get(key, "")) for key in ("name", "version", "sha256")}
