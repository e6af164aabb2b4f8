"""What ``monitor/`` works on: observations, references and flags of the charts, the mode.

References, flags and decisions about the mode are never erased.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from dicom_ai_node.answers import Measured, Outcome
from dicom_ai_node.monitor.charts import Point, Reference, Sums
from dicom_ai_node.monitor.observation import Observation, ObservedHead, Role
from dicom_ai_node.store.database import Database, insert_missing, upsert
from dicom_ai_node.store.tables import (
    drift_flag,
    drift_reference,
    mode_switch,
    observation,
    study_header,
)
from dicom_ai_node.store.tallies import tallies

_COLUMNS = (
    observation.c.study_instance_uid,
    *(observation.c[field.name] for field in fields(Observation)[1:-1]),
    study_header.c.patient_key,
)
"""In the order of the fields of an observation."""
_LONGEST = {"manufacturer": 64, "model_name": 64, "station": 64, "software": 64, "view": 16}


def save_observations(
    connection: Connection, uid: str, observations: Sequence[Observation], *, received_at: float
) -> None:
    """Keep what was observed of a study, in place of what the same bundles said earlier.

    ``received_at`` is when the study first came.
    """
    for observed in observations:
        values = row_of(observed) | {"received_at": received_at, "study_instance_uid": uid}
        values |= {name: values[name][:length] for name, length in _LONGEST.items()}
        upsert(connection, observation, **values)


def row_of(observed: Observation) -> dict[str, Any]:
    """Return an observation as a row of its table."""
    values = asdict(observed)
    del values["patient"]
    return values | {"study_instance_uid": values.pop("study_uid")}


def load_observations(
    db: Database,
    *,
    since: float = 0.0,
    model_sha256: str | None = None,
    role: Role | None = None,
) -> list[Observation]:
    """Return the observations of studies that came at ``since`` or later, in order of time."""
    query = (
        select(*_COLUMNS)
        .outerjoin(
            study_header, study_header.c.study_instance_uid == observation.c.study_instance_uid
        )
        .where(observation.c.received_at >= since)
        .order_by(observation.c.received_at, observation.c.study_instance_uid)
    )
    if model_sha256 is not None:
        query = query.where(observation.c.model_sha256 == model_sha256)
    if role is not None:
        query = query.where(observation.c.role == role)
    with db.read() as connection:
        return [_observation(row) for row in connection.execute(query)]


def newest_bundle(db: Database, role: Role) -> tuple[str, Mapping[str, ObservedHead]]:
    """Return the weights' SHA-256 and the heads of the bundle that observed last in ``role``.

    '' and no head when none has.
    """
    with db.read() as connection:
        _, last = _observers(connection, role)
        if not last:
            return "", {}
        newest = max(last, key=lambda sha256: last[sha256])
        return newest, _heads_at(connection, newest, role, last[newest])


def further_bundles(db: Database) -> dict[str, Mapping[str, ObservedHead]]:
    """Return the heads of each further bundle that has observed, by its weights' SHA-256.

    In the order in which they first did; the heads are those of its last observation. A bundle that
    is the live one by now is none.
    """
    live = newest_bundle(db, Role.LIVE)[0]
    with db.read() as connection:
        first, last = _observers(connection, Role.FURTHER)
        return {
            sha256: _heads_at(connection, sha256, Role.FURTHER, last[sha256])
            for sha256 in sorted(first, key=lambda name: (first[name], name))
            if sha256 != live
        }


def _observers(connection: Connection, role: Role) -> tuple[dict[str, float], dict[str, float]]:
    """Return when each bundle first and last observed in ``role``, by its weights' SHA-256."""
    counted = tallies(connection, "observation")["observation"]
    first, last = {}, {}
    for sha256 in (name for name, state in counted if state == role):
        at = select(observation.c.received_at).where(
            observation.c.model_sha256 == sha256, observation.c.role == role
        )
        ends = (observation.c.received_at, observation.c.received_at.desc())
        first[sha256], last[sha256] = (
            connection.execute(at.order_by(end).limit(1)).scalar_one() for end in ends
        )
    return first, last


def _heads_at(
    connection: Connection, sha256: str, role: Role, at: float
) -> dict[str, ObservedHead]:
    query = (
        select(observation.c.heads)
        .where(observation.c.model_sha256 == sha256, observation.c.received_at == at)
        .where(observation.c.role == role)
        .order_by(observation.c.study_instance_uid)
        .limit(1)
    )
    return _heads(connection.execute(query).scalar_one())


def drop_observations(db: Database, *, before: float) -> int:
    """Remove the observations of studies that came before ``before``; return how many."""
    with db.read() as connection:
        old = observation.c.received_at < before
        if connection.execute(select(observation.c.role).where(old).limit(1)).first() is None:
            return 0
    with db.write() as connection:
        return connection.execute(delete(observation).where(old)).rowcount


def _observation(row: Sequence[Any]) -> Observation:
    uid, sha256, role, outcome, *words, heads, measured, received, patient = row
    of_image = [_heads(heads), _measured(measured)]
    read: list[Any] = [Role(role), Outcome(outcome), *words, *of_image, received, patient or ""]
    return Observation(uid, sha256, *read)


def _measured(stored: Mapping[str, Any] | None) -> Measured | None:
    if stored is None:
        return None
    raw = {name: tuple(values) for name, values in stored["raw"].items()}
    return Measured(raw, stored["content"], stored["texture"])


def _heads(stored: Mapping[str, Any]) -> dict[str, ObservedHead]:
    return {
        name: ObservedHead(
            head["kind"], head["attribute"], head["unit"], tuple(head["values"]), head["answer"]
        )
        for name, head in stored.items()
    }


class Mode(StrEnum):
    """What becomes of results that the network took part in."""

    LIVE = "live"
    """Their reports are sent."""
    SHADOW = "shadow"
    """Their reports are kept and not sent."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One decision about the mode: to change it, or to let it be in spite of a flag."""

    at: float
    mode: Mode
    actor: str
    """Who decided; ``node`` for the node itself."""
    reason: str
    new_reference: bool
    """Whether the weeks from then on are a new reference."""
    account: str = ""
    """The account of the system that ran the command, '' for the node itself."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One point of a chart that lay beyond its limit."""

    model_sha256: str
    quantity: str
    found_at: float
    text: str


def mode(db: Database) -> Mode:
    """Return the mode of the model."""
    with db.read() as connection:
        return mode_now(connection)


def mode_now(connection: Connection) -> Mode:
    """Return the mode of the model, live unless somebody has decided otherwise."""
    return Mode(connection.execute(_MODE).scalar() or Mode.LIVE)


_MODE = select(mode_switch.c.mode).order_by(mode_switch.c.id.desc()).limit(1)


def switch(
    db: Database,
    wanted: Mode,
    *,
    actor: str,
    reason: str,
    now: float,
    new_reference: bool = False,
    unless: Mode | None = None,
    account: str = "",
) -> bool:
    """Write down that ``actor`` sets the mode; nothing happens where it is ``unless`` already.

    ``account`` is the account of the system that ran the command.
    """
    with db.write() as connection:
        if unless is not None and mode_now(connection) is unless:
            return False
        connection.execute(
            insert(mode_switch).values(
                at=now,
                mode=wanted,
                actor=actor[:128],
                account=account,
                reason=reason,
                new_reference=new_reference,
            )
        )
        return True


def switches(db: Database) -> list[Switch]:
    """Return every decision, the oldest first."""
    with db.read() as connection:
        return [
            Switch(row.at, Mode(row.mode), row.actor, row.reason, row.new_reference, row.account)
            for row in connection.execute(select(mode_switch).order_by(mode_switch.c.id))
        ]


def accepted_at(db: Database) -> float:
    """Return when a person last said that the node is to go on as it is; 0 when never."""
    return _last_switch(db, mode_switch.c.mode == Mode.LIVE)


def learning_since(db: Database) -> float:
    """Return from when on a reference may be learned: 0, or the last time a new one was asked."""
    return _last_switch(db, mode_switch.c.new_reference.is_(True))


def _last_switch(db: Database, which: ColumnElement[bool]) -> float:
    with db.read() as connection:
        return connection.execute(select(func.max(mode_switch.c.at)).where(which)).scalar() or 0.0


def reference_of(db: Database, model_sha256: str) -> Reference | None:
    """Return the reference that is in force for a bundle, None while it is being learned."""
    query = (
        select(drift_reference)
        .where(drift_reference.c.model_sha256 == model_sha256)
        .where(drift_reference.c.set_at >= learning_since(db))
        .order_by(drift_reference.c.id)
        .limit(1)
    )
    with db.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    tally = {name: Sums(**sums) for name, sums in row.tally.items()}
    return Reference(row.begin, row.end, tally)


def set_reference(db: Database, model_sha256: str, reference: Reference, *, now: float) -> None:
    """Keep a reference for as long as the node lives: its observations are not kept so long."""
    with db.write() as connection:
        connection.execute(
            insert(drift_reference).values(
                model_sha256=model_sha256,
                set_at=now,
                begin=reference.begin,
                end=reference.end,
                tally={name: asdict(sums) for name, sums in reference.tally.items()},
            )
        )


def raise_flags(
    db: Database, model_sha256: str, points: Iterable[Point], *, now: float
) -> list[Point]:
    """Keep a flag for each flagged point; return those that are new."""
    new = []
    with db.write() as connection:
        for point in points:
            if point.flagged:
                added = insert_missing(
                    connection,
                    drift_flag,
                    model_sha256=model_sha256,
                    quantity=point.measure.name,
                    end=point.end,
                    found_at=now,
                    text=point.sentence,
                )
                new += [point] if added else []
    return new


def open_flags(db: Database, model_sha256: str) -> list[Flag]:
    """Return the flags of a bundle that no person has accepted yet, the oldest first."""
    c = drift_flag.c
    query = (
        select(c.model_sha256, c.quantity, c.found_at, c.text)
        .where(c.model_sha256 == model_sha256, c.found_at > accepted_at(db))
        .order_by(c.id)
    )
    with db.read() as connection:
        return [Flag(*row) for row in connection.execute(query)]
