"""The lease of every queue: studies to analyse, deliveries to send, audits to work on."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import case, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement

from dicom_ai_node.store import Database, audits, deliveries, study_queue
from dicom_ai_node.store.audits import AUDITS
from dicom_ai_node.store.deliveries import DELIVERIES
from dicom_ai_node.store.leases import Queue
from dicom_ai_node.store.lifecycles import move_deliveries
from dicom_ai_node.store.study_queue import STUDIES
from dicom_ai_node.store.tables import delivery
from dicom_ai_node.study import (
    DELIVERY_TRANSITIONS,
    AuditEvent,
    AuditState,
    DeliveryEvent,
    DeliveryState,
    State,
)
from tests.builders.rows import (
    TIMING,
    analysed_study,
    deliveries_of,
    file_instance,
    finish_one,
    state_of,
)

SECONDS = 60.0
"""Length of a lease."""


@dataclass(frozen=True)
class Work:
    """One queue, worked on in its own words."""

    fill: Callable[[Database, int], None]
    """Makes so many rows that may be claimed at 100."""
    claim: Callable[..., Mapping[str, Any]]
    """Leases up to ``limit`` of them; what was claimed, by what names it."""
    renew: Callable[..., None]
    finish: Callable[..., bool]
    """Ends the work on what was claimed; whether the lease was still held."""
    hand_back: Callable[..., None]


def fill_studies(db: Database, count: int) -> None:
    for number in range(count):
        file_instance(db, f"1.{number}", f"1.{number}.1", now=float(number))
    assert len(study_queue.close_due(db, now=50, settings=TIMING)) == count


def claim_studies(db: Database, *, owner: str, now: float, limit: int = 9) -> Mapping[str, Any]:
    found = study_queue.claim(
        db, owner=owner, now=now, lease_seconds=SECONDS, limit=limit, max_attempts=9
    )
    return {one.study_uid: one for one in found}


def fill_deliveries(db: Database, count: int) -> None:
    for number in range(count):
        analysed_study(db, f"1.{number}", now=90 + number)


def claim_some(db: Database, *, owner: str, now: float, limit: int = 9) -> Mapping[str, Any]:
    found = deliveries.claim(db, "pacs", owner=owner, now=now, lease_seconds=SECONDS, limit=limit)
    return {one.study_uid: one for one in found}


def finish_delivery(db: Database, claimed: Any, *, owner: str, now: float) -> bool:
    return deliveries.delivered(db, claimed, claimed.files[0], status=0, now=now)


def fill_audits(db: Database, count: int) -> None:
    for _ in range(count):
        audits.create(db, {"source": "node"}, now=0.0)


def take_audits(db: Database, *, owner: str, now: float, limit: int = 9) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    while len(found) < limit:
        number = audits.take(db, owner=owner, now=now, lease_seconds=SECONDS)
        if number is None:
            break
        found[str(number)] = number
    return found


def renew_audits(db: Database, *, owner: str, now: float, lease_seconds: float) -> None:
    for row in audits.find(db):
        audits.renew(db, row.id, owner=owner, now=now, lease_seconds=lease_seconds)


def finish_audit(db: Database, claimed: int, *, owner: str, now: float) -> bool:
    moved = audits.apply(db, claimed, AuditEvent.COMPLETE, owner=owner, now=now)
    return moved is not None and moved[1] is AuditState.DONE


def release_audits(db: Database, *, owner: str, now: float) -> None:
    for row in audits.find(db):
        audits.release(db, row.id, owner=owner, now=now)


QUEUES = {
    "studies": Work(
        fill_studies,
        claim_studies,
        STUDIES.renew,
        lambda db, claimed, *, owner, now: finish_one(db, claimed, now=now),
        study_queue.hand_back,
    ),
    "deliveries": Work(
        fill_deliveries,
        claim_some,
        DELIVERIES.renew,
        finish_delivery,
        lambda db, *, owner, now: deliveries.hand_back(db, owner=owner),
    ),
    "audits": Work(fill_audits, take_audits, renew_audits, finish_audit, release_audits),
}


@pytest.fixture(params=QUEUES)
def work(request: pytest.FixtureRequest) -> Work:
    return QUEUES[request.param]


def test_what_one_has_claimed_another_does_not_get(db: Database, work: Work) -> None:
    work.fill(db, 3)
    first = work.claim(db, owner="a", now=100, limit=2)
    second = work.claim(db, owner="b", now=100)
    assert (len(first), len(second)) == (2, 1)
    assert not first.keys() & second.keys()
    assert not work.claim(db, owner="c", now=100)


def test_a_lease_that_is_renewed_is_kept_and_another_is_lost(db: Database, work: Work) -> None:
    work.fill(db, 1)
    (claimed,) = work.claim(db, owner="a", now=100).values()
    work.renew(db, owner="a", now=150, lease_seconds=SECONDS)
    work.renew(db, owner="b", now=500, lease_seconds=SECONDS)
    assert not work.claim(db, owner="b", now=209)
    (taken,) = work.claim(db, owner="b", now=211).values()
    assert not work.finish(db, claimed, owner="a", now=212)
    assert work.finish(db, taken, owner="b", now=212)
    assert not work.claim(db, owner="c", now=999)


def test_what_is_handed_back_is_claimed_at_once_as_if_it_never_had_been(
    db: Database, work: Work
) -> None:
    work.fill(db, 2)
    before = work.claim(db, owner="a", now=100)
    work.hand_back(db, owner="b", now=101)
    assert not work.claim(db, owner="b", now=101)
    work.hand_back(db, owner="a", now=101)
    after = work.claim(db, owner="b", now=101)
    assert before.keys() == after.keys()
    attempts = [getattr(one, "attempts", 1) for one in after.values()]
    assert attempts == [1, 1]
    for claimed in before.values():
        assert not work.finish(db, claimed, owner="a", now=102)


def test_who_claim_at_once_never_get_the_same(db: Database, work: Work) -> None:
    work.fill(db, 8)
    together = threading.Barrier(4)

    def claim(owner: str) -> list[str]:
        together.wait(60)
        found: list[str] = []
        while some := work.claim(db, owner=owner, now=100, limit=1):
            found += some
        return found

    with ThreadPoolExecutor(4) as pool:
        claimed = [key for keys in pool.map(claim, "abcd") for key in keys]
    assert len(claimed) == len(set(claimed)) == 8


def test_a_study_that_is_tried_again_is_claimed_alone(db: Database) -> None:
    fill_studies(db, 3)
    claim_studies(db, owner="dead", now=100, limit=1)
    assert [one.attempts for one in claim_studies(db, owner="a", now=161).values()] == [2]
    assert [one.attempts for one in claim_studies(db, owner="a", now=161).values()] == [1, 1]


@pytest.mark.parametrize("state", DeliveryState)
@pytest.mark.parametrize("event", DeliveryEvent)
def test_a_delivery_moves_by_its_table_alone(
    sqlite_db: Database, state: DeliveryState, event: DeliveryEvent
) -> None:
    fill_deliveries(sqlite_db, 1)
    with sqlite_db.write() as connection:
        connection.execute(update(delivery).values(state=state))
        count = move_deliveries(connection, delivery.c.id > 0, event, error="moved")
    (row,) = deliveries_of(sqlite_db)
    after = DELIVERY_TRANSITIONS.get((state, event))
    assert (row.state, row.error, count) == (
        (after, "moved", 1) if after is not None else (state, "", 0)
    )


def plan_of(db: Database, query: ClauseElement) -> str:
    """How SQLite would look for the rows."""
    compiled: Any = query.compile(
        dialect=sqlite.dialect(paramstyle="qmark"), compile_kwargs={"render_postcompile": True}
    )
    values = tuple(compiled.params[name] for name in compiled.positiontup or ())
    with db.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)
        return "; ".join(row[-1] for row in rows)


@pytest.mark.parametrize(
    ("queue", "waits", "works"),
    [
        (STUDIES, "ix_study_claim", "ix_study_lease"),
        (DELIVERIES, "ix_delivery_open", "ix_delivery_lease"),
    ],
    ids=["studies", "deliveries"],
)
def test_a_claim_costs_no_more_when_millions_are_done(
    sqlite_db: Database, queue: Queue, waits: str, works: str
) -> None:
    due, lost = queue.due(5.0), queue.lost(5.0)
    if queue is DELIVERIES:
        due &= delivery.c.destination == "pacs"
    table = queue.table
    searches = {
        "due": select(table).where(due).order_by(table.c.not_before).limit(9),
        "lost": select(table).where(lost),
        "any": select(table.c.state).where(due | lost).limit(1),
        "renewed": update(table).where(queue.held_by("a")).values(lease_until=9.0),
    }
    plans = {name: plan_of(sqlite_db, query) for name, query in searches.items()}
    assert f"USING INDEX {waits}" in plans["due"]
    assert f"USING INDEX {works}" in plans["lost"]
    assert waits in plans["any"]
    assert works in plans["any"]
    assert f"USING INDEX {works}" in plans["renewed"]
    if queue is DELIVERIES:
        steps = {DeliveryState.SENDING: DeliveryState.QUEUED}
        expired = update(table).where(lost, table.c.state.in_(steps))
        plan = plan_of(sqlite_db, expired.values(state=case(steps, value=table.c.state)))
        assert f"USING INDEX {works}" in plan


def test_an_audit_waits_as_long_as_its_lease_lasts(db: Database) -> None:
    """Nothing marks an audit that is being worked on but its lease."""
    number = audits.create(db, {"source": "node"}, now=0.0, owner="a", lease_seconds=10)
    assert not db.scalar(AUDITS.any(AUDITS.lost(9.0)))
    assert db.scalar(AUDITS.any(AUDITS.lost(11.0)))
    assert audits.in_use(db, now=9.0) == {number}


def test_the_queue_of_studies_ends_in_reports(db: Database) -> None:
    fill_studies(db, 2)
    for claimed in claim_studies(db, owner="a", now=100).values():
        assert finish_one(db, claimed, now=101)
    assert {state_of(db, uid) for uid in ("1.0", "1.1")} == {State.REPORTED}
    assert len(deliveries_of(db)) == 2
