"""What an audit makes of a source that fails, hangs, is away, or sends less than it lists."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_ai_node.audit.collect import collect
from dicom_ai_node.audit.progress import Ending
from dicom_ai_node.audit.spec import Depth
from dicom_ai_node.errors import AuditError, PeerRefused, PeerUnavailable
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


def test_a_part_that_cannot_be_listed_is_a_finding(db: Database, tmp_path: Path) -> None:
    source, number = archive(3, 2), new_audit(db)
    source.trouble["list:1"] = raises(PeerRefused(0xA700, "too many answers"))
    assert collect(session(db, number, source, tmp_path, max_attempts=2)) is Ending.DONE
    found = collected(db, number)
    missing = found.pop("listing:00000001-00000001")
    assert (missing.facts, missing.fault) == (None, "not listed: too many answers")
    assert len(found) == 4
    assert source.asked["list:1"] == 2


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
