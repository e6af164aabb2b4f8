"""Applies the life-cycle table to the study's row, and writes each transition down."""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.store.tables import study, transition
from dicom_ai_node.study import Effect, Event, State, closing_time, step
from dicom_ai_node.types import Reason

_NO_LEASE = {"lease_owner": "", "lease_until": 0.0}


def lock_study(connection: Connection, uid: str) -> None:
    """Hold the study's row until the transaction ends (SQLite holds everything already)."""
    connection.execute(
        select(study.c.state).where(study.c.study_instance_uid == uid).with_for_update()
    )


def apply_event(
    connection: Connection,
    uid: str,
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
    row = connection.execute(select(study).where(study.c.study_instance_uid == uid)).one()
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
            changes |= {
                "last_at": now,
                "opened_at": opened_at,
                "closes_at": closing_time(opened_at=opened_at, last_at=now, settings=settings),
            }
            if reopened:
                changes |= {"revision": row.revision + 1, "attempts": 0, "not_before": 0.0}
                changes |= _NO_LEASE | {"reason_code": "", "reason": ""}
        case Effect.RELEASE:
            changes |= _NO_LEASE
        case Effect.RESET:
            changes |= _NO_LEASE | {"attempts": 0, "not_before": 0.0}
            if reason is None:
                changes |= {"reason_code": "", "reason": ""}
        case Effect.NONE:
            pass
    connection.execute(update(study).where(study.c.study_instance_uid == uid).values(changes))
    if after is not before:
        connection.execute(
            insert(transition).values(
                study_instance_uid=uid,
                at=now,
                event=event,
                from_state=before,
                to_state=after,
                reason=reason.text if reason else "",
            )
        )
    return after
