"""What an audit makes of a source that fails, hangs, is away, or sends less than it lists."""

import errno
import os
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dicom_ai_node.audit.campaign import Depth, Ending
from dicom_ai_node.audit.collect import collect
from dicom_ai_node.errors import (
    AuditError,
    ConfigError,
    PeerRefused,
    PeerUnavailable,
    StorageError,
)
from dicom_ai_node.store import Database, audits
from tests.builders.scripted import (
    SPEC,
    Archive,
    Clock,
    archive,
    collected,
    first_times,
    hangs,
    listed,
    new_audit,
    raises,
    session,
)

ALL = SPEC.model_copy(update={"depth": Depth.ALL})


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (PeerRefused(0xA700, "refused: out of resources", "Doe^Jane"), "refused: out of resources"),
        (ValueError("Doe^Jane"), "ValueError"),
    ],
)
def test_a_study_that_fails_is_tried_again_and_then_a_finding(
    db: Database, tmp_path: Path, error: Exception, fault: str
) -> None:
    source, number, clock = archive(1, 3), new_audit(db), Clock()
    source.trouble["1.2.0"] = raises(error)
    source.trouble["1.2.1"] = first_times(2, raises(error))
    working = session(db, number, source, tmp_path, clock=clock, max_attempts=3, retry_seconds=10)
    assert collect(working) is Ending.DONE
    found = collected(db, number)
    assert {key: one.fault for key, one in found.items()} == {
        "1.2.0": fault,
        "1.2.1": "",
        "1.2.2": "",
    }
    assert found["1.2.0"].facts is not None
    assert not found["1.2.0"].facts.from_files
    assert (source.asked["1.2.0"], source.asked["1.2.1"], source.asked["1.2.2"]) == (3, 3, 1)
    assert sum(clock.slept) >= 15  # at least half of 10 and of 20 seconds


def test_a_source_that_hangs_is_timed_out_and_opened_anew(db: Database, tmp_path: Path) -> None:
    source, number = archive(1, 3), new_audit(db)
    source.trouble["list:0"] = first_times(1, hangs)
    source.trouble["1.2.1"] = hangs
    working = session(
        db,
        number,
        source,
        tmp_path,
        max_attempts=2,
        study_timeout_seconds=0.3,
        listing_timeout_seconds=0.3,
    )
    assert collect(working) is Ending.DONE
    found = collected(db, number)
    assert [one.fault for one in found.values()] == ["", "no answer within 0.3 s", ""]
    assert source.opened == 3  # and once more after each hang that was not the last


def test_an_outage_costs_no_study_an_attempt(db: Database, tmp_path: Path) -> None:
    source, number, clock = archive(2, 3), new_audit(db), Clock()
    began = clock.at
    outages = [(began, began + 20), (began + 21, began + 80)]
    source.down = lambda: any(first <= clock.at < last for first, last in outages)
    source.trouble["1.2.2"] = lambda: setattr(clock, "at", max(clock.at, began + 21))
    notes = set()

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        row = audits.show(db, number)
        assert row is not None
        notes.add(row.note)

    waiting = Clock()
    waiting.now, waiting.wait = clock.now, wait  # type: ignore[method-assign]
    working = session(db, number, source, tmp_path, clock=waiting, max_attempts=1, retry_seconds=1)
    assert collect(working) is Ending.DONE
    assert [one.fault for one in collected(db, number).values()] == [""] * 6
    assert {source.asked[f"1.2.{one}"] for one in range(6)} == {1}
    assert "the source cannot be reached: no association" in notes
    assert "the source cannot be reached, 5 times in a row: no association" in notes
    row = audits.show(db, number)
    assert row is not None
    assert row.note == ""


def test_a_study_that_breaks_the_association_is_no_outage(db: Database, tmp_path: Path) -> None:
    source, number = archive(1, 3), new_audit(db)
    source.trouble["1.2.1"] = raises(PeerUnavailable("association aborted"))
    assert collect(session(db, number, source, tmp_path, max_attempts=2)) is Ending.DONE
    found = collected(db, number)
    assert [one.fault for one in found.values()] == ["", "association aborted", ""]


@pytest.mark.parametrize("bad", [{"1.2.1"}, {"1.2.1", "1.2.2"}, {"1.2.3"}])
def test_a_study_that_brings_the_source_down_holds_up_no_other(
    db: Database, tmp_path: Path, bad: set[str]
) -> None:
    source, number, clock = archive(1, 4), new_audit(db), Clock()
    back_at, order = [0.0], list[str]()
    source.down = lambda: clock.at < back_at[0]

    def asked(key: str) -> None:
        order.append(key)
        if key in bad:
            back_at[0] = clock.at + 60
            raise PeerUnavailable("association aborted")

    for one in range(4):
        source.trouble[f"1.2.{one}"] = partial(asked, f"1.2.{one}")
    working = session(db, number, source, tmp_path, clock=clock, max_attempts=2)
    assert collect(working) is Ending.DONE
    found = {key: one.fault for key, one in collected(db, number).items()}
    assert found == {key: "association aborted" if key in bad else "" for key in found}
    assert len(found) == 4
    firsts = [f"1.2.{one}" for one in range(4)]
    assert order[:4] == firsts, "each once before any is asked for again"
    assert Counter(order) == {key: 3 if key in bad else 1 for key in firsts}


IN_THE_WAY = [
    (ConfigError("move_port = 104: cannot listen"), "move_port = 104: cannot listen"),
    (StorageError("spool: Input/output error"), "spool: Input/output error"),
    (OSError(errno.ENOSPC, "Doe^Jane"), "no room for fetched files"),
]


@pytest.mark.parametrize(("error", "note"), IN_THE_WAY)
def test_what_this_machine_is_in_the_way_of_waits_and_says_so(
    db: Database, tmp_path: Path, error: Exception, note: str
) -> None:
    source, number, clock = archive(1, 2), new_audit(db, ALL), Clock()
    source.trouble["fetch:1.2.0"] = first_times(4, raises(error))
    began, notes = clock.at, set[str]()

    def wait(seconds: float) -> None:
        clock.at += seconds
        row = audits.show(db, number)
        assert row is not None
        notes.add(row.note)

    waiting = Clock()
    waiting.now, waiting.wait = clock.now, wait  # type: ignore[method-assign]
    working = session(
        db, number, source, tmp_path, clock=waiting, spec=ALL, max_attempts=1, retry_seconds=10
    )
    assert collect(working) is Ending.DONE
    assert [one.fault for one in collected(db, number).values()] == ["", ""]
    assert source.asked == {"list:0": 1, "fetch:1.2.0": 5, "fetch:1.2.1": 1}
    assert notes == {note}
    assert clock.at - began >= 75, "at least half of 10, 20, 40 and 80 seconds"


def test_a_folder_that_cannot_be_made_waits_until_it_can(db: Database, tmp_path: Path) -> None:
    source, number, clock = archive(1, 1), new_audit(db, ALL), Clock()
    fetched = tmp_path / "fetched"
    fetched.write_text("in the way")
    notes = set[str]()

    def wait(seconds: float) -> None:
        clock.at += seconds
        row = audits.show(db, number)
        assert row is not None
        notes.add(row.note)
        if seconds and clock.at > 1_000_040.0:
            fetched.unlink(missing_ok=True)

    waiting = Clock()
    waiting.now, waiting.wait = clock.now, wait  # type: ignore[method-assign]
    working = session(db, number, source, tmp_path, clock=waiting, spec=ALL, max_attempts=1)
    assert collect(working) is Ending.DONE
    assert collected(db, number)["1.2.0"].fault == ""
    assert notes == {"spool: File exists"}


def test_a_part_that_cannot_be_listed_is_a_finding(db: Database, tmp_path: Path) -> None:
    source, number = archive(3, 2), new_audit(db)
    source.trouble["list:1"] = raises(PeerRefused(0xA700, "too many answers"))
    assert collect(session(db, number, source, tmp_path, max_attempts=2)) is Ending.DONE
    found = collected(db, number)
    missing = found.pop("listing:00000001-00000001")
    assert (missing.facts, missing.fault) == (None, "not listed: too many answers")
    assert len(found) == 4
    assert source.asked["list:1"] == 2


@pytest.mark.parametrize("takes_it_down", [False, True])
def test_a_part_that_breaks_the_association_each_time_is_a_finding(
    db: Database, tmp_path: Path, takes_it_down: bool
) -> None:
    source, number, clock = archive(3, 2), new_audit(db), Clock()
    back_at = [0.0]

    def break_off() -> None:
        back_at[0] = clock.at + 60 * takes_it_down
        raise PeerUnavailable("association aborted")

    source.down = lambda: clock.at < back_at[0]
    source.trouble["list:1"] = break_off
    working = session(db, number, source, tmp_path, clock=clock, max_attempts=2)
    assert collect(working) is Ending.DONE
    found = collected(db, number)
    missing = found.pop("listing:00000001-00000001")
    assert missing.fault == "not listed: association aborted"
    assert [one.fault for one in found.values()] == [""] * 4
    assert source.asked["list:1"] == 2 + takes_it_down, "the first may have been an outage"


def test_a_source_that_is_away_for_hours_is_only_probed_and_loses_no_part(
    db: Database, tmp_path: Path
) -> None:
    source, number, clock = archive(3, 1), new_audit(db), Clock()
    until = clock.at + 6 * 3600

    def answers() -> None:
        if clock.at < until:
            raise PeerUnavailable("no association")

    source.trouble["list:1"] = answers
    source.trouble["probe"] = answers
    working = session(db, number, source, tmp_path, clock=clock, max_attempts=1)
    assert collect(working) is Ending.DONE
    assert [one.fault for one in collected(db, number).values()] == [""] * 3
    assert source.asked["list:0"] == source.asked["list:2"] == 1
    assert source.asked["list:1"] == 2
    assert 6 * 6 < source.asked["probe"] < 6 * 20, "each 10 minutes at most"


def test_a_first_part_that_always_breaks_the_association_ends_it(
    db: Database, tmp_path: Path
) -> None:
    source, number = archive(2, 2), new_audit(db)
    source.trouble["list:0"] = raises(PeerUnavailable("association aborted"))
    with pytest.raises(AuditError, match="pacs:fake: the listing failed: association aborted"):
        collect(session(db, number, source, tmp_path, max_attempts=2))


def test_a_source_that_cannot_be_listed_at_all_ends_it(db: Database, tmp_path: Path) -> None:
    source, number = archive(2, 2), new_audit(db)
    source.trouble["list:0"] = raises(PeerRefused(0xA900, "not understood"))
    with pytest.raises(AuditError, match="pacs:fake: the listing failed: not understood"):
        collect(session(db, number, source, tmp_path, max_attempts=2))


def test_what_the_listing_could_not_read_is_a_finding_and_not_asked_for(
    db: Database, tmp_path: Path
) -> None:
    source = Archive([[replace(listed(0), fault="scan.dcm: not DICOM"), listed(1)]])
    number = new_audit(db)
    assert collect(session(db, number, source, tmp_path)) is Ending.DONE
    first, second = collected(db, number).values()
    assert (first.facts, first.fault) == (None, "scan.dcm: not DICOM")
    assert second.fault == ""
    assert source.asked["1.2.0"] == 0


def test_a_file_whose_name_is_no_text_is_a_finding_that_can_be_kept(
    any_db: Database, tmp_path: Path
) -> None:
    fault = f"{os.fsdecode(b'scan-' + bytes([255]))}.dcm: not DICOM\0"
    source = Archive([[replace(listed(0), fault=fault)]])
    number = new_audit(any_db)
    assert collect(session(any_db, number, source, tmp_path)) is Ending.DONE
    assert collected(any_db, number)["1.2.0"].fault == "scan-?.dcm: not DICOM "


def test_less_than_was_listed_is_asked_for_again_and_then_said(
    db: Database, tmp_path: Path
) -> None:
    source, number = archive(1, 2), new_audit(db, ALL)
    source.files = 0
    source.trouble["fetch:1.2.1"] = lambda: setattr(source, "files", 1)
    assert collect(session(db, number, source, tmp_path, spec=ALL, max_attempts=2)) is Ending.DONE
    found = collected(db, number)
    assert [one.fault for one in found.values()] == ["", ""]
    source, number = archive(1, 1), new_audit(db, ALL)
    source.files = 0
    assert collect(session(db, number, source, tmp_path, spec=ALL, max_attempts=2)) is Ending.DONE
    assert collected(db, number)["1.2.0"].fault == "0 of 1 instances arrived"
    assert source.asked["fetch:1.2.0"] == 2


def test_what_came_before_the_source_broke_off_is_used(db: Database, tmp_path: Path) -> None:
    one = replace(listed(0), instances=5)
    source, number = Archive([[one]]), new_audit(db, ALL)
    source.files = 3
    source.breaks_off.add(one.key)
    assert collect(session(db, number, source, tmp_path, spec=ALL, max_attempts=2)) is Ending.DONE
    (found,) = collected(db, number).values()
    assert (found.expected, found.arrived, found.fault) == (5, 3, "association aborted")
    assert found.facts is not None
    assert found.facts.from_files
    assert found.result is not None
    assert source.asked[f"fetch:{one.key}"] == 2
    assert list((tmp_path / "fetched").iterdir()) == []
