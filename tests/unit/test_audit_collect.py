"""An audit collects each study once, whatever happens to it meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dicom_ai_node.archive.member import StudyFacts
from dicom_ai_node.audit.campaign import Depth, Ending
from dicom_ai_node.audit.collect import collect
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from dicom_ai_node.store import Database, audits
from dicom_ai_node.store.study_queue import close_due
from dicom_ai_node.study import AuditEvent, AuditState
from tests.builders.rows import TIMING, claim_one, file_instance
from tests.builders.scripted import (
    OWNER,
    SPEC,
    Archive,
    Clock,
    archive,
    collected,
    first_times,
    hangs,
    listed,
    new_audit,
    session,
)

ALL = SPEC.model_copy(update={"depth": Depth.ALL})
FLAGGED = SPEC.model_copy(update={"depth": Depth.FLAGGED})


class Killed(BaseException):
    """Stands for SIGKILL: nothing is done about it."""


class DyingDatabase(Database):
    """The process ends right after its nth transaction, or right before it is committed."""

    def __init__(self, url: str, *, after: int, committed: bool) -> None:
        super().__init__(url)
        self.left = after
        self.committed = committed

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.left -= 1
        with super().write() as connection:
            yield connection
            if self.left == 0 and not self.committed:
                raise Killed
        if self.left == 0:
            raise Killed


def test_every_study_is_collected_and_asked_for_once(any_db: Database, tmp_path: Path) -> None:
    source, number = archive(), new_audit(any_db)
    assert collect(session(any_db, number, source, tmp_path)) is Ending.DONE
    found = collected(any_db, number)
    assert list(found) == [f"1.2.{one}" for one in range(12)]
    assert set(source.asked.values()) == {1}
    assert source.closed == source.opened == 1
    one = listed(5)
    assert found[one.key].facts == StudyFacts(one.key, (one.header,), one.header, from_files=False)
    row = audits.show(any_db, number)
    assert row is not None
    assert (row.state, row.listed, row.settled, row.faults) == (AuditState.DONE, 12, 12, 0)
    assert row.finished_at is not None


@pytest.mark.parametrize("committed", [True, False])
def test_killed_at_any_transaction_it_ends_as_if_undisturbed(
    any_db: Database, tmp_path: Path, committed: bool
) -> None:
    days = [[listed(0)], [listed(1), listed(2)]]
    undisturbed, number = Archive(days), new_audit(any_db, ALL)
    collect(session(any_db, number, undisturbed, tmp_path, spec=ALL))
    wanted = collected(any_db, number)
    url = any_db.url.render_as_string(hide_password=False)
    killed = 0
    for after in range(1, 100):
        number = new_audit(any_db, ALL)
        source, dying = Archive(days), DyingDatabase(url, after=after, committed=committed)
        try:
            collect(session(dying, number, source, tmp_path, spec=ALL))
        except Killed:
            killed += 1
        else:
            break
        finally:
            dying.close()
        settled = set(collected(any_db, number))
        before = source.asked.copy()
        assert collect(session(any_db, number, source, tmp_path, spec=ALL)) in (
            Ending.DONE,
            Ending.LEFT,  # killed after the audit was done
        )
        assert collected(any_db, number) == wanted
        again = {key.partition("fetch:")[2] for key in source.asked - before}
        assert not settled & again, "a settled study was asked for again"
        assert max(source.asked.values()) <= 2
    assert killed == 2 + 2 * 3 + 1  # parts, claim and checkpoint of each study, the end


@pytest.mark.parametrize(("rate", "writes"), [(0.0, 1 + 2 * 2 + 1), (6000.0, 1 + 2 * 20 + 1)])
def test_headers_alone_are_claimed_and_stored_several_at_once_where_no_rate_is_set(
    db: Database, tmp_path: Path, rate: float, writes: int
) -> None:
    """The listing, claim and checkpoint of so many studies, the end."""
    url = db.url.render_as_string(hide_password=False)
    number, counting = new_audit(db), DyingDatabase(url, after=1000, committed=True)
    source = Archive([[listed(one) for one in range(20)]])
    started = session(counting, number, source, tmp_path, studies_per_minute=rate)
    assert collect(started) is Ending.DONE
    assert 1000 - counting.left == writes
    assert len(collected(db, number)) == 20
    counting.close()


def test_a_study_listed_twice_is_kept_once_and_the_limit_holds(
    any_db: Database, tmp_path: Path
) -> None:
    source = Archive([[listed(1), listed(2), listed(1)], [listed(2), listed(3)], [listed(4)]])
    spec = SPEC.model_copy(update={"limit": 3})
    number = new_audit(any_db, spec)
    assert collect(session(any_db, number, source, tmp_path, spec=spec)) is Ending.DONE
    assert list(collected(any_db, number)) == ["1.2.1", "1.2.2", "1.2.3"]
    assert source.asked["list:2"] == 0


def test_a_person_pauses_and_resumes_between_studies(db: Database, tmp_path: Path) -> None:
    source, number = archive(1, 5), new_audit(db)
    source.trouble["1.2.2"] = lambda: audits.apply(db, number, AuditEvent.PAUSE, now=0)
    assert collect(session(db, number, source, tmp_path)) is Ending.LEFT
    assert list(collected(db, number)) == ["1.2.0", "1.2.1", "1.2.2"]
    audits.release(db, number, owner=OWNER, now=0)
    assert audits.resume(db, number, now=0, owner=OWNER) is AuditState.PAUSED
    source.trouble.clear()
    assert collect(session(db, number, source, tmp_path)) is Ending.DONE
    assert set(source.asked.values()) == {1}


def test_a_cancelled_audit_is_not_worked_on(db: Database, tmp_path: Path) -> None:
    source, number = archive(1, 5), new_audit(db)
    source.trouble["1.2.1"] = lambda: audits.apply(db, number, AuditEvent.CANCEL, now=0)
    assert collect(session(db, number, source, tmp_path)) is Ending.LEFT
    assert audits.resume(db, number, now=0, owner="") is None
    assert collect(session(db, number, source, tmp_path)) is Ending.LEFT
    assert source.asked["1.2.2"] == 0


@pytest.mark.parametrize(
    ("rate", "kept"),
    [
        (6000.0, ["1.2.0"]),  # one by one
        (0.0, []),  # several are stored together, and none was before the lease was lost
    ],
)
def test_who_lost_the_lease_keeps_nothing(
    db: Database, tmp_path: Path, rate: float, kept: list[str]
) -> None:
    source, number = archive(1, 3), new_audit(db)

    def taken_over() -> None:
        audits.release(db, number, owner=OWNER, now=0)
        taken.append(audits.take(db, owner="other", now=1, lease_seconds=60))

    taken: list[int | None] = []
    source.trouble["1.2.1"] = taken_over
    started = session(db, number, source, tmp_path, studies_per_minute=rate)
    assert collect(started) is Ending.LOST
    assert taken == [number]
    assert list(collected(db, number)) == kept


def test_a_stop_ends_it_even_in_a_study_that_hangs_and_costs_no_attempt(
    db: Database, tmp_path: Path
) -> None:
    source, number, stop = archive(1, 2), new_audit(db), threading.Event()

    def hang() -> None:
        stop.set()
        hangs()

    source.trouble["1.2.0"] = first_times(1, hang)
    working = session(db, number, source, tmp_path, stop=stop, max_attempts=1)
    assert collect(working) is Ending.STOPPED
    row = audits.show(db, number)
    assert row is not None
    assert row.state is AuditState.RUNNING
    assert collect(session(db, number, source, tmp_path, max_attempts=1)) is Ending.DONE
    assert [one.fault for one in collected(db, number).values()] == ["", ""]


def test_what_kills_the_program_each_time_is_given_up(db: Database, tmp_path: Path) -> None:
    source, number = archive(1, 2), new_audit(db)
    for _ in range(3):
        url = db.url.render_as_string(hide_password=False)
        dying = DyingDatabase(url, after=-1, committed=True)
        working = session(dying, number, source, tmp_path, max_attempts=3)
        source.trouble["1.2.0"] = partial(setattr, dying, "left", 1)
        with pytest.raises(Killed):
            collect(working)
        dying.close()
        # As if it had died before the checkpoint.
        with db.write() as connection:
            connection.exec_driver_sql("UPDATE audit_study SET state='waiting', facts=NULL")
    assert collect(session(db, number, source, tmp_path, max_attempts=3)) is Ending.DONE
    found = collected(db, number)
    assert found["1.2.0"].fault == "the program ended in every attempt to read it"
    assert found["1.2.1"].fault == ""
    assert source.asked["1.2.0"] == 3


def test_only_flagged_studies_are_fetched(db: Database, tmp_path: Path) -> None:
    source, number = archive(1, 1), new_audit(db, FLAGGED)
    source.days = [[listed(0), listed(1, PatientSex=None), listed(2)]]
    assert collect(session(db, number, source, tmp_path, spec=FLAGGED)) is Ending.DONE
    assert [key for key in source.asked if key.startswith("fetch")] == ["fetch:1.2.1"]
    found = collected(db, number)
    assert [one.result is not None for one in found.values()] == [False, True, False]
    assert (found["1.2.1"].expected, found["1.2.1"].arrived) == (1, 1)
    assert (found["1.2.0"].expected, found["1.2.0"].arrived) == (1, None)
    assert list((tmp_path / "fetched").iterdir()) == []


@pytest.mark.parametrize("name", ["pacs:fake", "web:fake", "folder:/fake"])
def test_facts_say_whether_they_are_those_of_files(db: Database, tmp_path: Path, name: str) -> None:
    spec = SPEC.model_copy(update={"source": name})
    source, number = archive(1, 1), new_audit(db, spec)
    source.name, source.holds_files = name, name.startswith("folder")
    source.whole_headers = name != "pacs:fake"
    collect(session(db, number, source, tmp_path, spec=spec))
    facts = collected(db, number)["1.2.0"].facts
    assert facts is not None
    assert facts.from_files is source.whole_headers
    assert (facts.listed is None) is source.holds_files


def test_the_rate_counts_studies_that_are_asked_for(db: Database, tmp_path: Path) -> None:
    source, number, clock = archive(1, 5), new_audit(db), Clock()
    began = clock.at
    working = session(db, number, source, tmp_path, clock=clock, studies_per_minute=2)
    assert collect(working) is Ending.DONE
    assert clock.at - began == pytest.approx(4 * 30.0)


@pytest.mark.parametrize(
    "error", [PeerUnavailable("association aborted"), PeerRefused(0xA700, "out of resources")]
)
def test_the_rate_holds_for_a_source_that_fails(
    db: Database, tmp_path: Path, error: Exception
) -> None:
    source, number, clock = archive(1, 10), new_audit(db), Clock()
    began, at = clock.at, list[float]()

    def fail() -> None:
        at.append(clock.at - began)
        raise error

    for one in range(10):
        source.trouble[f"1.2.{one}"] = fail
    working = session(
        db, number, source, tmp_path, clock=clock, studies_per_minute=2, max_attempts=2
    )
    assert collect(working) is Ending.DONE
    assert at == pytest.approx([30.0 * one for one in range(20)])
    assert source.asked["probe"] == (20 if isinstance(error, PeerUnavailable) else 0)
    assert source.asked["list:0"] == 1


def test_outside_the_window_nothing_is_asked_of_a_source_that_broke_off(
    db: Database, tmp_path: Path
) -> None:
    source, number, clock = archive(1, 2), new_audit(db), Clock()
    window_opens = (datetime.fromtimestamp(clock.at) + timedelta(hours=2)).strftime("%H:%M")
    window = f"{window_opens}-{datetime.fromtimestamp(clock.at + 60):%H:%M}"
    closes, opens = clock.at + 60, clock.at + 7200
    probed: list[float] = []

    def break_off() -> None:
        clock.at = closes + 10
        raise PeerUnavailable("association aborted")

    source.trouble["1.2.0"] = first_times(1, break_off)
    source.trouble["probe"] = lambda: probed.append(clock.at)
    working = session(db, number, source, tmp_path, clock=clock, window=window, max_attempts=1)
    assert collect(working) is Ending.DONE
    assert len(probed) == 1
    assert probed[0] >= opens - 60
    assert [one.fault for one in collected(db, number).values()] == ["", ""]


def test_live_studies_come_first(db: Database, tmp_path: Path) -> None:
    source, number, clock = archive(1, 2), new_audit(db), Clock(1000.0)
    file_instance(db, "9.9", now=900.0)
    close_due(db, now=1000.0, settings=TIMING)
    seen: list[int] = []

    def wait(seconds: float) -> None:
        clock.at += seconds
        seen.append(sum(source.asked.values()))
        if len(seen) == 3:
            claimed = claim_one(db, now=clock.at)
            assert claimed.study_uid == "9.9"
        if len(seen) == 6:
            with db.write() as connection:
                connection.exec_driver_sql("UPDATE study SET state = 'reported'")

    waiting = Clock()
    waiting.now, waiting.wait = clock.now, wait  # type: ignore[method-assign]
    assert collect(session(db, number, source, tmp_path, clock=waiting)) is Ending.DONE
    assert seen == [0] * 6
    assert len(collected(db, number)) == 2


@pytest.mark.parametrize("uid", ["", "1." * 60 + "1", "1.2\0.3", "Doe^Jane\n"])
def test_any_study_instance_uid_can_be_kept(any_db: Database, tmp_path: Path, uid: str) -> None:
    odd = replace(listed(1), key=uid or "listed:abc")
    source, number = Archive([[odd, listed(2)]]), new_audit(any_db)
    assert collect(session(any_db, number, source, tmp_path)) is Ending.DONE
    first, second = collected(any_db, number).values()
    assert first.fault == second.fault == ""
    assert len(first.key) <= 80
