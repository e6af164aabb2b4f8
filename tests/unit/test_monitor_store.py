"""Observations, flags and switches in the database, and what shadow mode does to a result."""

from dataclasses import replace
from pathlib import Path

import pytest

from dicom_ai_node.answers import Measured
from dicom_ai_node.config import parse_config
from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.observation import Role, week_begin
from dicom_ai_node.ops import drift
from dicom_ai_node.ops.maintenance import Maintenance
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, deliveries, results, study_queue
from dicom_ai_node.store.monitor import (
    Mode,
    drop_observations,
    load_observations,
    mode,
    newest_bundle,
    open_flags,
    reference_of,
    switch,
    switches,
)
from dicom_ai_node.store.patients import StudyHeader
from dicom_ai_node.store.queries import find
from dicom_ai_node.store.retention import drop_expired
from dicom_ai_node.study import State
from tests.builders.observations import FIRST_WEEK, LIVE, SHADOW, age_said, put, seen, site
from tests.builders.rows import TIMING, analysis, claim_one, file_instance

TO_PACS = {"pacs": frozenset({"sr"})}


@pytest.fixture
def db(any_db: Database) -> Database:
    return any_db


def finish(
    db: Database, uid: str, new: results.NewAnalysis, *, now: float, patient: str = ""
) -> None:
    """Bring a study from where it is to the end of its analysis."""
    if not find(db, limit=1000) or uid not in {one.study_instance_uid for one in find(db)}:
        file_instance(db, uid, f"{uid}.1", now=now - 50)
        study_queue.close_due(db, now=now, settings=TIMING)
    header = StudyHeader(patient, "20260101", "F", "", 60.0)
    assert results.finish(
        db, claim_one(db, now=now), new, header=header, destinations=TO_PACS, reason=None, now=now
    )


def row(db: Database, uid: str = "1.1") -> tuple[str, str]:
    (found,) = [one for one in find(db) if one.study_instance_uid == uid]
    return found.state, found.reason_code


def queued(db: Database) -> int:
    return len(deliveries.claim(db, "pacs", owner="d", now=1e9, lease_seconds=60, limit=9))


def test_an_observation_comes_with_the_result_and_takes_the_place_of_an_earlier_one(
    db: Database,
) -> None:
    both = (seen("1.1", station="R" * 99), seen("1.1", model_sha256=SHADOW, role=Role.SHADOW))
    finish(db, "1.1", replace(analysis("1.1"), observations=both), now=100, patient="hash")
    live, shadow = sorted(load_observations(db), key=lambda one: one.role)
    assert live == replace(both[0], station="R" * 64, received_at=50.0, patient="hash")
    assert shadow.role is Role.SHADOW
    assert newest_bundle(db, Role.SHADOW) == (SHADOW, both[1].heads)
    study_queue.requeue(db, "1.1", now=200)
    again = replace(analysis("1.1"), observations=(seen("1.1", mu=70.0),))
    finish(db, "1.1", again, now=201)
    (found,) = load_observations(db, model_sha256=LIVE)
    assert age_said(found) == {"mu": 70.0, "low90": 51.0, "high90": 71.0}
    assert len(load_observations(db)) == 2


def test_what_was_measured_of_an_image_is_kept_or_that_nothing_was(db: Database) -> None:
    said = Measured({"age": (61.5, 5.25), "sex": (3.5,)}, 70.0, 55.5)
    put(db, [seen("1.1", measured=said), seen("1.2")])
    assert [one.measured for one in load_observations(db)] == [said, None]


def test_a_result_that_was_lost_leaves_no_observation(db: Database) -> None:
    file_instance(db, "1.1")
    study_queue.close_due(db, now=20, settings=TIMING)
    claimed = claim_one(db, now=20)
    study_queue.hand_back(db, owner="worker", now=21)
    new = replace(analysis("1.1"), observations=(seen("1.1"),))
    assert not results.finish(
        db, claimed, new, header=None, destinations=TO_PACS, reason=None, now=22
    )
    assert load_observations(db) == []


def test_observations_are_removed_in_time(db: Database) -> None:
    put(db, [seen("1.1", received_at=10.0), seen("1.2", received_at=20.0)])
    assert drop_observations(db, before=15) == 1
    assert drop_observations(db, before=15) == 0
    assert [one.study_uid for one in load_observations(db)] == ["1.2"]


def test_shadow_mode_keeps_the_report_and_a_person_lets_it_go(db: Database) -> None:
    assert switch(db, Mode.SHADOW, actor="node", reason="drift", now=50)
    inferred = replace(analysis("1.1"), inferred=True)
    finish(db, "1.1", inferred, now=100)
    assert row(db) == (State.SKIPPED, "withheld")
    assert queued(db) == 0
    assert switch(db, Mode.LIVE, actor="A. Person", reason="looked at it", now=200)
    assert queued(db) == 0
    assert results.requeue_withheld(db, now=201) == (1, 0)
    finish(db, "1.1", inferred, now=202)
    assert row(db) == (State.REPORTED, "")
    assert queued(db) == 1
    assert results.requeue_withheld(db, now=203) == (0, 0)
    assert [(one.mode, one.actor, one.reason, one.at) for one in switches(db)] == [
        (Mode.SHADOW, "node", "drift", 50.0),
        (Mode.LIVE, "A. Person", "looked at it", 200.0),
    ]


def test_what_the_network_had_no_part_in_is_sent_in_shadow_mode(db: Database) -> None:
    switch(db, Mode.SHADOW, actor="node", reason="drift", now=50)
    finish(db, "1.1", analysis("1.1"), now=100)
    assert row(db) == (State.REPORTED, "")
    assert queued(db) == 1


def test_a_withheld_study_without_images_stays_as_it_is(db: Database) -> None:
    switch(db, Mode.SHADOW, actor="node", reason="drift", now=50)
    finish(db, "1.1", replace(analysis("1.1"), inferred=True), now=100)
    assert drop_expired(db, before=1e6, now=500, limit=10, remove=lambda path: True) == 1
    assert results.requeue_withheld(db, now=501) == (0, 1)
    assert row(db) == (State.SKIPPED, "withheld")


SETTINGS = MonitorSettings(shadow_on_drift=True)
CHANGED = FIRST_WEEK + 10
"""The week in which the site changes, after eight of reference and two more."""


def changing(db: Database) -> None:
    put(db, site(range(FIRST_WEEK, CHANGED)))
    put(db, site(range(CHANGED, CHANGED + 2), shift=6.0))


def monday(week: int) -> float:
    return week_begin(week) + 3600


def test_drift_puts_the_model_in_shadow_mode_until_a_person_accepts_it(db: Database) -> None:
    changing(db)
    assert not drift.watch(db, SETTINGS, now=monday(FIRST_WEEK + 7))
    assert reference_of(db, LIVE) is None
    assert not drift.watch(db, SETTINGS, now=monday(CHANGED))
    reference = reference_of(db, LIVE)
    assert reference is not None
    assert (reference.begin, reference.end) == (FIRST_WEEK, FIRST_WEEK + 8)
    assert (mode(db), open_flags(db, LIVE)) == (Mode.LIVE, [])

    assert drift.watch(db, SETTINGS, now=monday(CHANGED + 1))
    assert not drift.watch(db, SETTINGS, now=monday(CHANGED + 1) + 60)
    flags = open_flags(db, LIVE)
    assert {"bias", "mae"} <= {flag.quantity for flag in flags}
    assert "bias of the age, years: " in flags[0].text + flags[-1].text
    (switched,) = switches(db)
    assert (switched.mode, switched.actor) == (Mode.SHADOW, "node")
    assert all(flag.text in switched.reason for flag in flags)

    accepted = monday(CHANGED + 1) + 120
    switch(db, Mode.LIVE, actor="A. Person", reason="new detector", now=accepted)
    assert open_flags(db, LIVE) == []
    # The week that was under way does not count, the next one does.
    assert not drift.watch(db, SETTINGS, now=monday(CHANGED + 2))
    put(db, site(range(CHANGED + 2, CHANGED + 3), shift=6.0))
    assert drift.watch(db, SETTINGS, now=monday(CHANGED + 3))
    assert mode(db) is Mode.SHADOW


def test_a_person_may_take_what_comes_for_the_new_normal(db: Database) -> None:
    changing(db)
    drift.watch(db, SETTINGS, now=monday(CHANGED + 1))
    accepted = week_begin(CHANGED + 2) - 1
    switch(db, Mode.LIVE, actor="A. Person", reason="?", now=accepted, new_reference=True)
    put(db, site(range(CHANGED + 2, CHANGED + 12), shift=6.0))
    assert not drift.watch(db, SETTINGS, now=monday(CHANGED + 12))
    reference = reference_of(db, LIVE)
    assert reference is not None
    assert reference.begin == CHANGED + 2
    assert open_flags(db, LIVE) == []


def test_a_flag_alone_changes_nothing_but_is_kept(db: Database) -> None:
    changing(db)
    settings = MonitorSettings()
    assert not drift.watch(db, settings, now=monday(CHANGED + 2))
    assert mode(db) is Mode.LIVE
    assert open_flags(db, LIVE)
    # The observations may go: reference and flags are kept without them.
    drop_observations(db, before=monday(CHANGED + 1))
    assert not drift.watch(db, settings, now=monday(CHANGED + 3))
    assert reference_of(db, LIVE)
    assert open_flags(db, LIVE)


def test_maintenance_watches_and_sweeps(tmp_path: Path, db: Database) -> None:
    put(db, site(range(FIRST_WEEK, FIRST_WEEK + 10)))
    config = parse_config({"monitor": {"retention_days": 100}})
    kept = Maintenance(config, db, Spool(tmp_path))
    assert not kept.watch_drift()
    assert reference_of(db, LIVE) is not None
    assert kept.drop_observations() == 600
