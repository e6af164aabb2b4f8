"""Forwarding: what goes out for each image, when, how often, and what a crash leaves behind."""

import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1
from structlog.testing import capture_logs

from dicom_ai_node.answers import Reason
from dicom_ai_node.errors import StorageError
from dicom_ai_node.fill import gateway
from dicom_ai_node.report.copies import coerced
from dicom_ai_node.store import proposals, queries
from dicom_ai_node.store.study_queue import claim, close_due, fail, skip
from dicom_ai_node.study.proposals import ProposalState
from tests.builders.filling import AGE, GUESSED_AGE, GUESSED_SEX, image
from tests.builders.forwarding import gate, state
from tests.builders.rows import TIMING, claim_one


def test_received_images_go_at_once_as_they_are_and_once(tmp_path: Path) -> None:
    with gate(tmp_path, "received") as box:
        box.add_image("one")
        assert [box.sweep(at=time.time()), box.sweep(at=time.time())] == [1, 0]
        (one,) = box.sent()
        assert (one.kind, one.destination, one.note) == ("received", "pacs", "")
        assert box.spool.path(one.path).read_bytes() == image("one")


@pytest.mark.parametrize("syntax", [None, JPEGLosslessSV1])
def test_coerced_images_wait_for_their_study_and_carry_the_accepted_age(
    tmp_path: Path, syntax: Any
) -> None:
    values = {"syntax": syntax} if syntax else {}
    with gate(tmp_path) as box:
        uid = box.add_image("one", **values)
        assert box.sweep() == 0
        box.analyse(AGE, auto_accept=frozenset({AGE}))
        assert [box.sweep(), box.sweep()] == [1, 0]
        (one,) = box.sent()
        assert one.kind == "coerced"
        before = dcmread(BytesIO(image("one", **values)))
        after = dcmread(box.spool.path(one.path))
        assert (after.PatientAge, after.PatientSex) == ("063Y", before.PatientSex)
        assert after.SOPInstanceUID == before.SOPInstanceUID == one.sop_instance_uid
        assert after.PixelData == before.PixelData
        assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
        detail = proposals.show(box.db, box.proposal(uid).id)
        assert detail is not None
        last = detail.events[-1]
        assert (last.to_state, last.actor) == (ProposalState.APPLIED, "gateway")
        assert last.reason == "forwarded: pacs"


@pytest.mark.parametrize("proposed", [(AGE,), (GUESSED_AGE,), (GUESSED_SEX,), ()])
def test_nothing_open_inferred_or_of_the_sex_is_filled_in(
    tmp_path: Path, proposed: tuple[Any, ...]
) -> None:
    with gate(tmp_path) as box:
        uid = box.add_image("one")
        box.analyse(*proposed)
        if AGE not in proposed:
            box.accept(uid)
        assert box.sweep() == 1
        assert box.kinds() == ["received"]
        assert box.copies() == []


@pytest.mark.parametrize(
    ("stated", "kind"),
    [("", "coerced"), ("000Y", "coerced"), ("062Y", "received")],
)
def test_policy_fills_what_is_missing_and_replaces_no_valid_age(
    tmp_path: Path, stated: str, kind: str
) -> None:
    with gate(tmp_path) as box:
        box.analysed(PatientAge=stated)
        box.sweep()
        assert box.kinds() == [kind]
        assert ("only a person" in box.notes()[0]) is (kind == "received")


def test_a_person_may_have_a_valid_age_replaced(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        uid = box.add_image("one", PatientAge="062Y")
        box.analyse(AGE)
        box.accept(uid)
        box.sweep()
        assert box.kinds() == ["coerced"]


def test_an_image_that_states_the_accepted_age_is_left_alone(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        box.analysed(PatientAge="063Y")
        box.sweep()
        assert (box.kinds(), box.notes(), box.copies()) == (["received"], [""], [])


def test_an_image_does_not_wait_longer_than_it_may_and_stays_as_it_went(tmp_path: Path) -> None:
    """Received a thousand seconds ago, the analyser is down."""
    with gate(tmp_path) as box:
        uid = box.add_image("one")
        assert box.sweep() == 0
        assert box.sweep(at=time.time()) == 1
        box.analyse(AGE, auto_accept=frozenset({AGE}))
        assert box.sweep(at=time.time()) == 0
        assert (box.kinds(), box.notes()) == (["received"], ["no analysis has seen it"])
        assert box.proposal(uid).state is ProposalState.ACCEPTED
        box.analysed(number=2)  # a late image of the same study
        box.sweep()
        assert box.kinds() == ["received", "coerced"]


def test_an_image_of_a_class_that_is_only_kept_goes_as_it_is(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        box.analysed()
        box.sweep()
        box.add_image("one", 2, analysable=False)  # reopens nothing
        assert box.sweep() == 1
        assert box.kinds() == ["coerced", "received"]


def test_what_came_from_a_destination_goes_back_as_it_is(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        box.analysed(calling_ae="PACS")
        box.sweep()
        assert box.kinds() == ["received"]
        assert "has it already" in box.notes()[0]


@pytest.mark.parametrize("end", ["skipped", "failed"])
def test_images_go_on_whatever_became_of_their_study(tmp_path: Path, end: str) -> None:
    with gate(tmp_path) as box:
        uid = box.add_image("one")
        now = time.time()
        close_due(box.db, now=now, settings=TIMING)
        claimed = claim_one(box.db, now=now)
        if end == "skipped":
            assert skip(box.db, claimed, Reason("no_image", "r"), now=now)
        else:
            assert fail(box.db, claimed, Reason("analysis_failed", "r"), retry_at=None, now=now)
        assert box.sweep() == 1
        assert (box.kinds(), state(box, uid)) == (["received"], end)


def test_an_image_of_which_no_copy_can_be_made_goes_as_it_is_and_the_reason_is_kept(
    tmp_path: Path,
) -> None:
    with gate(tmp_path) as box:
        uid = box.add_image("one", 1)
        (path,) = box.spool.instances.glob("*.dcm")
        path.write_bytes(path.read_bytes()[:-100])
        box.add_image("one", 2)
        box.analyse(AGE, auto_accept=frozenset({AGE}))
        with capture_logs() as logged:
            assert box.sweep() == 2
        damaged, sound = box.sent()
        assert (damaged.kind, sound.kind) == ("received", "coerced")
        assert damaged.path == box.spool.relative(path)
        assert damaged.note
        assert [one["reason"] for one in logged if one["log_level"] == "warning"] == [damaged.note]
        detail = queries.show(box.db, uid)
        assert detail is not None
        shown = [(one["forwarded"], one["forward_note"]) for one in detail.instances]
        assert shown == [("received", damaged.note), ("coerced", "")]


def test_a_fault_of_this_program_does_not_hold_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def err(*_: Any, **__: Any) -> Any:
        raise IndexError("Secret^Patient")

    monkeypatch.setattr(gateway, "coerced", err)
    with gate(tmp_path) as box:
        box.analysed()
        box.sweep()
        assert box.kinds() == ["received"]
        assert box.notes() == ["no copy could be made (IndexError)"]


def test_a_spool_that_fails_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("spool: No space left on device")

    with gate(tmp_path) as box:
        box.analysed("one")
        monkeypatch.setattr("dicom_ai_node.spool.Spool.write", full)
        with pytest.raises(StorageError, match="No space"):
            box.sweep()
        assert box.sent() == []
        assert box.sweep(at=time.time()) == 1
        assert box.notes() == ["spool: No space left on device"]


def test_a_decision_that_changes_while_copies_are_made_has_them_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = coerced
    with gate(tmp_path) as box:
        uid = box.analysed()

        def changes(*arguments: Any, **keywords: Any) -> Any:
            with box.db.write() as connection:
                connection.exec_driver_sql("UPDATE proposal SET state = 'rejected'")
            return real(*arguments, **keywords)

        monkeypatch.setattr(gateway, "coerced", changes)
        assert box.sweep() == 0
        assert box.sent() == []
        assert box.sweep() == 1
        assert box.kinds() == ["received"]
        assert box.proposal(uid).state is ProposalState.REJECTED


def test_a_version_that_comes_while_copies_are_made_waits_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = coerced
    with gate(tmp_path) as box:
        box.analysed()

        def newer(*arguments: Any, **keywords: Any) -> Any:
            box.refile()
            monkeypatch.setattr(gateway, "coerced", real)
            return real(*arguments, **keywords)

        monkeypatch.setattr(gateway, "coerced", newer)
        assert [box.sweep(), box.sweep(), box.sweep()] == [0, 1, 0]


SCRIPT = """
import os, signal, sys
from pathlib import Path
from dicom_ai_node.fill import gateway
from dicom_ai_node.ops.maintenance import (Maintenance)
from dicom_ai_node.ops.maintenance import (run as keep)
from tests.builders.forwarding import gate

real = gateway.forwards.queue

def die(*arguments, **keywords):
    if sys.argv[2] == "after":
        real(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)

gateway.forwards.queue = die
with gate(Path(sys.argv[1])) as box:
    box.sweep()
"""


@pytest.mark.parametrize("point", ["before", "after"])
def test_who_is_killed_loses_and_repeats_nothing(tmp_path: Path, point: str) -> None:
    with gate(tmp_path) as box:
        uid = box.analysed()
        script = [sys.executable, "-c", SCRIPT, str(tmp_path), point]
        assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
        (path,) = box.copies()
        before = path.read_bytes()
        assert len(box.sent()) == (1 if point == "after" else 0)
        box.sweep()
        assert box.kinds() == ["coerced"]
        assert [one.read_bytes() for one in box.copies()] == [before]
        assert box.proposal(uid).state is ProposalState.APPLIED


def test_an_analysis_under_way_holds_the_image_back(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        box.add_image("one")
        now = time.time()
        close_due(box.db, now=now, settings=TIMING)
        assert claim(box.db, owner="w", now=now, lease_seconds=60, limit=1, max_attempts=3)
        assert box.sweep() == 0
