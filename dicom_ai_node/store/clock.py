"""What becomes of times in the database when the clock of the machine is set.

Every time that the node writes is at most so far ahead of the moment of writing: a lease by its
length, a pause by the longest pause, what has happened not at all. A time that lies farther ahead
was written before the clock went back, and is brought to its bound, so that nothing waits longer
than it would have at most. What waits for its turn by how long ago it happened is moved along with
the clock where the jump was seen.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Column, ColumnElement, Connection, func, or_, select, true, update

from dicom_ai_node.backoff import LONGEST_RETRY
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.deliveries import DELIVERIES
from dicom_ai_node.store.fills import BACKOFF as FILL_BACKOFF
from dicom_ai_node.store.node import SLACK
from dicom_ai_node.store.study_queue import STUDIES
from dicom_ai_node.store.tables import (
    association,
    audit,
    audit_study,
    delivery,
    destination,
    forward,
    instance,
    stuck_fill,
    study,
    word,
)
from dicom_ai_node.study import OPEN_STATES, AuditedState, State, closing_time

_ASSOCIATION_LIFE = 60.0
_COLLECTS = study.c.state == word(State.COLLECTING)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far ahead of the clock a time may lie, in seconds."""

    study: StudySettings
    study_lease: float
    delivery_lease: float
    audit_lease: float
    audit_pause: float
    destinations: Mapping[str, float] = field(default_factory=dict)
    """The longest pause of each destination."""


def count_ahead(db: Database, bounds: Bounds, *, now: float) -> int:
    """Return how many times lie farther ahead of ``now`` than they were ever written."""
    counts = [
        select(func.count())
        .select_from(column.table)
        .where(column > now + most + SLACK, which)
        .scalar_subquery()
        for column, which, most in (*_bounded(bounds), *_collecting())
    ]
    return sum(db.rows(select(*counts))[0])


def bring_back(db: Database, bounds: Bounds, *, now: float) -> int:
    """Bring all times that lie too far ahead to their bounds; return how many there were."""
    found = count_ahead(db, bounds, now=now)
    if found:
        with db.write() as connection:
            for column, which, most in _bounded(bounds):
                late = (column > now + most + SLACK) & which
                connection.execute(
                    update(column.table).where(late).values({column.name: now + most})
                )
            ahead = or_(*(column > now + SLACK for column, _, _ in _collecting()))
            _set_collecting(connection, ahead, bounds.study, latest=now)
    return found


def move_along(db: Database, bounds: Bounds, *, jump: float, since: float, now: float) -> None:
    """Move what waits for its turn by ``jump`` seconds, by which the clock was set.

    What was written between ``since`` and ``now``, times of the new clock, was written after it.
    """
    for_turn = (
        (study.c.last_at, _COLLECTS),
        (forward.c.received_at, forward.c.report_id.is_(None)),
    )
    before = [((column < since) | (column > now)) & which for column, which in for_turn]
    with db.write() as connection:
        _set_collecting(connection, before[0], bounds.study, moved=jump)
        connection.execute(
            update(forward).where(before[1]).values(received_at=forward.c.received_at + jump)
        )
        if jump > 0:  # who is connected still is; who is not has been forgotten every few seconds
            alive_until = association.c.alive_until
            connection.execute(
                update(association)
                .where(alive_until < since)
                .values(alive_until=alive_until + jump)
            )


def _bounded(bounds: Bounds) -> Iterator[tuple[Column[float], ColumnElement[bool], float]]:
    """Yield each time with the rows of which it matters, and how far ahead it may lie."""
    queued, sending = DELIVERIES.waits, DELIVERIES.works
    waiting = audit_study.c.state == word(AuditedState.WAITING)
    yield study.c.not_before, STUDIES.waits, LONGEST_RETRY
    yield study.c.lease_until, STUDIES.works, bounds.study_lease
    yield association.c.alive_until, true(), _ASSOCIATION_LIFE
    for state in OPEN_STATES:  # each has an index of its own
        open_studies = select(study.c.study_instance_uid).where(study.c.state == word(state))
        yield instance.c.received_at, instance.c.study_instance_uid.in_(open_studies), 0.0
    yield forward.c.received_at, forward.c.report_id.is_(None), 0.0
    yield delivery.c.lease_until, sending, bounds.delivery_lease
    yield delivery.c.created_at, queued, 0.0
    yield delivery.c.created_at, sending, 0.0
    for name, longest in bounds.destinations.items():
        # A delivery waits as long as its destination, and then as long again.
        yield delivery.c.not_before, queued & (delivery.c.destination == name), 2 * longest
        yield destination.c.not_before, destination.c.name == name, longest
    yield stuck_fill.c.tried_at, true(), 0.0
    yield stuck_fill.c.not_before, true(), FILL_BACKOFF.longest
    yield audit.c.lease_until, audit.c.lease_owner != "", bounds.audit_lease
    yield audit_study.c.not_before, waiting, bounds.audit_pause


def _collecting() -> Iterator[tuple[Column[float], ColumnElement[bool], float]]:
    yield study.c.opened_at, _COLLECTS, 0.0
    yield study.c.last_at, _COLLECTS, 0.0


def _set_collecting(
    connection: Connection,
    which: ColumnElement[bool],
    settings: StudySettings,
    *,
    moved: float = 0.0,
    latest: float = float("inf"),
) -> None:
    """Write the times of collecting studies anew, and when they close."""
    query = select(study).where(_COLLECTS, which).with_for_update()
    for row in connection.execute(query).all():
        opened_at = min(row.opened_at + moved, latest)
        last_at = min(row.last_at + moved, latest)
        closes_at = closing_time(opened_at=opened_at, last_at=last_at, settings=settings)
        connection.execute(
            update(study)
            .where(study.c.study_instance_uid == row.study_instance_uid)
            .values(opened_at=opened_at, last_at=last_at, closes_at=closes_at)
        )
