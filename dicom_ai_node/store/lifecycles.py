"""The one writer of a state, for studies and for their deliveries: by the tables of ``study/``."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    bindparam,
    case,
    insert,
    select,
    update,
)

from dicom_ai_node.answers import Reason
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.store.database import AnyRow
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

_READ = select(study).where(study.c.study_instance_uid == bindparam("uid"))
_LOCKED = _READ.with_for_update()
_MOVED = update(study).where(study.c.study_instance_uid.in_(bindparam("held", expanding=True)))
_TRANSITION = insert(transition)
_STATES = select(delivery.c.state).where(delivery.c.study_instance_uid == bindparam("uid"))


def lock_study(connection: Connection, study_uid: str) -> AnyRow | None:
    """Hold the study's row until the transaction ends (SQLite holds everything already).

    Returns it, None where the study is unknown.
    """
    return connection.execute(_LOCKED, {"uid": study_uid}).first()


def apply_event(
    connection: Connection,
    study_uid: str,
    event: Event,
    *,
    now: float,
    settings: StudySettings | None = None,
    reason: Reason | None = None,
    held: AnyRow | None = None,
    **values: Any,
) -> State:
    """Move the study on by ``event``, with ``values`` for further columns; return its state.

    ``settings`` is needed by events that set a closing time. The caller holds the row: ``held`` is
    what :func:`lock_study` returned, where nothing has changed it since.
    """
    row = connection.execute(_READ, {"uid": study_uid}).one() if held is None else held
    before = State(row.state)
    after, effect = step(before, event)
    if effect in (Effect.WAIT, Effect.REOPEN):
        if settings is None:
            raise TypeError(f"{event} needs the study settings")
        reopened = effect is Effect.REOPEN
        opened_at = now if reopened else row.opened_at
        closes_at = closing_time(opened_at=opened_at, last_at=now, settings=settings)
        values |= {"last_at": now, "opened_at": opened_at, "closes_at": closes_at}
        if reopened:
            values["revision"] = row.revision + 1
    apply_to_all(connection, [study_uid], before, event, now=now, reason=reason, **values)
    return after


def apply_to_all(
    connection: Connection,
    study_uids: Sequence[str],
    before: State,
    event: Event,
    *,
    now: float,
    reason: Reason | None = None,
    **values: Any,
) -> None:
    """Move studies in the state ``before`` on by an event that means the same to each of them.

    ``values`` are for further columns. The caller holds their rows.
    """
    after, effect = step(before, event)
    if effect is Effect.IGNORE or not study_uids:
        return
    changes: dict[str, Any] = {"state": after, "updated_at": now, "trimmed_at": None}
    changes |= _effects(effect, reason) | values
    computed = {name: value for name, value in changes.items() if isinstance(value, ClauseElement)}
    moved = _MOVED.values(computed) if computed else _MOVED
    plain = {name: value for name, value in changes.items() if name not in computed}
    connection.execute(moved, plain | {"held": study_uids})
    if after is not before:
        made = {"at": now, "event": event, "from_state": before, "to_state": after}
        made["reason"] = reason.text if reason else ""
        steps = [{"study_instance_uid": study_uid, **made} for study_uid in study_uids]
        connection.execute(_TRANSITION, steps)


def _effects(effect: Effect, reason: Reason | None) -> dict[str, Any]:
    """Return what ``effect`` does to columns, whatever stands in them."""
    why = {"reason_code": reason.code, "reason": reason.text} if reason else {}
    forgotten = {"attempts": 0, "not_before": 0.0, "reason_code": "", "reason": ""} | why
    match effect:
        case Effect.RELEASE:
            return NO_LEASE | why
        case Effect.RESET | Effect.REOPEN:
            return NO_LEASE | forgotten
        case _:
            return why


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


def settle(
    connection: Connection, study_uid: str, *, now: float, held: AnyRow | None = None
) -> None:
    """Close the study's life cycle when no delivery of it is open any more.

    ``held`` as in :func:`apply_event`.
    """
    states = set(connection.scalars(_STATES, {"uid": study_uid}))
    if not states & OPEN_DELIVERIES:
        event = Event.DEAD_LETTER if DeliveryState.DEAD in states else Event.SETTLED
        apply_event(connection, study_uid, event, now=now, held=held)
