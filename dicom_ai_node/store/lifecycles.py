"""The one writer of a state, for studies and for their deliveries: by the tables of ``study/``."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, case, insert, select, update

from dicom_ai_node.answers import Reason
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.store.leases import NO_LEASE
from dicom_ai_node.store.tables import delivery, study, transition
from dicom_ai_node.study import (
    OPEN_DELIVERIES,
    DeliveryEvent,
    DeliveryState,
    Effect,
    Event,
    State,
    closing_time,
    delivery_steps,
    step,
)


def lock_study(connection: Connection, study_uid: str) -> str | None:
    """Hold the study's row until the transaction ends (SQLite holds everything already).

    Returns its state, None where it is unknown.
    """
    query = select(study.c.state).where(study.c.study_instance_uid == study_uid)
    return connection.scalar(query.with_for_update())


def apply_event(
    connection: Connection,
    study_uid: str,
    event: Event,
    *,
    now: float,
    settings: StudySettings | None = None,
    reason: Reason | None = None,
    **values: Any,
) -> State:
    """Move the study on by ``event``, with ``values`` for further columns; return its state.

    ``settings`` is needed by events that set a closing time. The caller holds the row.
    """
    row = connection.execute(select(study).where(study.c.study_instance_uid == study_uid)).one()
    before = State(row.state)
    after, effect = step(before, event)
    if effect is Effect.IGNORE:
        return before
    changes: dict[str, Any] = {"state": after, "updated_at": now, **values}
    if reason is not None:
        changes |= {"reason_code": reason.code, "reason": reason.text}
    match effect:
        case Effect.WAIT | Effect.REOPEN:
            if settings is None:
                raise TypeError(f"{event} needs the study settings")
            reopened = effect is Effect.REOPEN
            opened_at = now if reopened else row.opened_at
            closes_at = closing_time(opened_at=opened_at, last_at=now, settings=settings)
            changes |= {"last_at": now, "opened_at": opened_at, "closes_at": closes_at}
            if reopened:
                changes |= {"revision": row.revision + 1, "attempts": 0, "not_before": 0.0}
                changes |= NO_LEASE | {"reason_code": "", "reason": ""}
        case Effect.RELEASE:
            changes |= NO_LEASE
        case Effect.RESET:
            changes |= NO_LEASE | {"attempts": 0, "not_before": 0.0}
            if reason is None:
                changes |= {"reason_code": "", "reason": ""}
    connection.execute(update(study).where(study.c.study_instance_uid == study_uid).values(changes))
    if after is not before:
        made = {"event": event, "from_state": before, "to_state": after}
        text = reason.text if reason else ""
        new = insert(transition).values(study_instance_uid=study_uid, at=now, reason=text, **made)
        connection.execute(new)
    return after


def move_deliveries(
    connection: Connection, which: ColumnElement[bool], event: DeliveryEvent, **values: Any
) -> int:
    """Move on by ``event`` those of the deliveries that it means something to; return how many.

    ``values`` are for further columns.
    """
    steps = delivery_steps(event)
    after = case(steps, value=delivery.c.state)
    moved = update(delivery).where(which, delivery.c.state.in_(steps)).values(state=after, **values)
    return connection.execute(moved).rowcount


def settle(connection: Connection, study_uid: str, *, now: float) -> None:
    """Close the study's life cycle when no delivery of it is open any more."""
    query = select(delivery.c.state).where(delivery.c.study_instance_uid == study_uid).distinct()
    states = set(connection.scalars(query))
    if not states & OPEN_DELIVERIES:
        event = Event.DEAD_LETTER if DeliveryState.DEAD in states else Event.SETTLED
        apply_event(connection, study_uid, event, now=now)
