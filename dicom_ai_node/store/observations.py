"""Observations: one row per study and bundle, written with the result of the study."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select

from dicom_ai_node.monitor.observation import Observation, Role
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import observation, study, study_header
from dicom_ai_node.types import Outcome

_FILLED = ("received_at", "patient")
_LONGEST = {"manufacturer": 64, "model_name": 64, "station": 64, "software": 64, "view": 16}


def save_observations(
    connection: Connection, uid: str, observations: Sequence[Observation]
) -> None:
    """Keep what was observed of a study, in place of what the same bundles said earlier."""
    if not observations:
        return
    received = connection.execute(
        select(study.c.first_at).where(study.c.study_instance_uid == uid)
    ).scalar_one()
    for one in observations:
        values: dict[str, Any] = {k: v for k, v in asdict(one).items() if k not in _FILLED}
        values |= {name: values[name][:length] for name, length in _LONGEST.items()}
        same = and_(
            observation.c.study_instance_uid == uid,
            observation.c.model_sha256 == one.model_sha256,
        )
        connection.execute(delete(observation).where(same))
        connection.execute(insert(observation).values(values | {"received_at": received}))


def load_observations(
    db: Database,
    *,
    since: float = 0.0,
    model_sha256: str | None = None,
    role: Role | None = None,
) -> list[Observation]:
    """Return the observations of studies that came at ``since`` or later, in order of time."""
    query = (
        select(observation, study_header.c.patient_key)
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


def newest_bundle(db: Database, role: Role) -> str:
    """Return the weights' SHA-256 of the bundle that observed last in ``role``, '' when none."""
    query = (
        select(observation.c.model_sha256)
        .where(observation.c.role == role)
        .order_by(observation.c.received_at.desc(), observation.c.study_instance_uid)
        .limit(1)
    )
    with db.read() as connection:
        return connection.execute(query).scalar() or ""


def drop_observations(db: Database, *, before: float) -> int:
    """Remove the observations of studies that came before ``before``; return how many."""
    with db.read() as connection:
        old = observation.c.received_at < before
        if connection.execute(select(observation.c.role).where(old).limit(1)).first() is None:
            return 0
    with db.write() as connection:
        return connection.execute(delete(observation).where(old)).rowcount


def _observation(row: Row[Any]) -> Observation:
    values = dict(row._mapping)
    return Observation(
        **values
        | {
            "role": Role(values["role"]),
            "outcome": Outcome(values["outcome"]),
            "patient": values.pop("patient_key") or "",
        }
    )
