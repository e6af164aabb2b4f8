"""What there is, in numbers: for ``status``, for metrics and for health. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.deliveries import count_deliveries
from dicom_ai_node.store.forwards import count_waiting
from dicom_ai_node.store.reports import FORWARDED
from dicom_ai_node.store.retention import forgotten
from dicom_ai_node.store.tables import (
    analysis,
    association,
    delivery,
    destination,
    instance,
    quarantine,
    report,
    study,
)
from dicom_ai_node.study import OPEN_DELIVERIES, OPEN_STATES, State


@dataclass(frozen=True, slots=True)
class DestinationContact:
    """A destination that could not be reached."""

    failures: int
    """Associations that failed in a row."""
    not_before: float
    contacted_at: float | None
    """When it last acknowledged something."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The numbers of one moment."""

    studies: Mapping[State, int]
    """Every state is listed."""
    deliveries: Mapping[tuple[str, str], int]
    """By (destination, state)."""
    oldest_study: Mapping[State, float]
    """When the oldest study in each open state began to wait, seconds since the epoch."""
    oldest_delivery: Mapping[str, float]
    """When the oldest unsent delivery to each destination was queued."""
    destinations: Mapping[str, DestinationContact]
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
    with db.read() as connection:
        images, reports = forgotten(connection)
        return Overview(
            studies=_studies(connection),
            deliveries=count_deliveries(connection),
            oldest_study=_oldest_studies(connection),
            oldest_delivery=_oldest_deliveries(connection),
            destinations=_destinations(connection),
            instances=_count(connection, select(func.count()).select_from(instance)) + images,
            dropped=_count(connection, select(func.count(instance.c.dropped_at))) + images,
            quarantined=_count(connection, select(func.count()).select_from(quarantine)),
            forwards_waiting=_count(connection, count_waiting()),
            reports=_count(connection, select(func.count()).where(report.c.kind.not_in(FORWARDED)))
            + reports,
            invalid_reports=_count(
                connection, select(func.count()).where(report.c.quarantined != "")
            ),
            associations=_count(
                connection, select(func.count()).where(association.c.alive_until >= now)
            ),
        )


def newest_model(db: Database) -> Mapping[str, str]:
    """Return name, version and sha256 of the network that answered last, {} when none has."""
    query = select(analysis.c.result).order_by(analysis.c.id.desc()).limit(1)
    with db.read() as connection:
        result: Any = connection.execute(query).scalar()
    model = result.get("model") if isinstance(result, dict) else None
    if not isinstance(model, dict):
        return {}
    return {key: str(model.get(key, "")) for key in ("name", "version", "sha256")}


def _count(connection: Connection, query: Select[int]) -> int:
    return connection.execute(query).scalar_one()


def _studies(connection: Connection) -> dict[State, int]:
    query = select(study.c.state, func.count()).group_by(study.c.state)
    counts = dict.fromkeys(State, 0)
    counts.update({State(state): count for state, count in connection.execute(query)})
    return counts


def _oldest_studies(connection: Connection) -> dict[State, float]:
    """Collecting counts from when the study was opened, the rest from its last instance."""
    oldest = {}
    for state in OPEN_STATES:
        since = study.c.opened_at if state is State.COLLECTING else study.c.last_at
        at = connection.execute(select(func.min(since)).where(study.c.state == state)).scalar()
        if at is not None:
            oldest[state] = float(at)
    return oldest


def _oldest_deliveries(connection: Connection) -> dict[str, float]:
    query = (
        select(delivery.c.destination, func.min(delivery.c.created_at))
        .where(delivery.c.state.in_(OPEN_DELIVERIES))
        .group_by(delivery.c.destination)
    )
    return {name: float(at) for name, at in connection.execute(query)}


def _destinations(connection: Connection) -> dict[str, DestinationContact]:
    return {
        row.name: DestinationContact(row.failures, row.not_before, row.contacted_at)
        for row in connection.execute(select(destination))
    }
