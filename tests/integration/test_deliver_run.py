"""The deliverer against a PACS that works, that is down, and beside one that is dead."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from dicom_ai_node.deliver import dimse, worker
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.dicom.classes import SECONDARY_CAPTURE
from dicom_ai_node.store import deliveries
from tests.builders.outbox import SR_3D, delivering, outbox, pacs_and_outbox, report_uid
from tests.builders.ports import free_port
from tests.builders.waiting import wait_for


def test_a_report_arrives_in_its_first_class(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        study = box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        (row,) = box.rows()
        assert (row.sop_class_uid, row.status, row.attempts) == (SR_3D, 0, 1)
        assert list(pacs.instances()) == [report_uid(study, SR_3D)]
        assert deliveries.state_of_destination(box.db, "pacs").sop_class_uid == SR_3D


def test_an_implicit_peer_gets_the_same_content(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.transfer_syntaxes = (ImplicitVRLittleEndian,)
        study = box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        uid = report_uid(study, SR_3D)
        arrived = dcmread(pacs.instances()[uid])
        assert arrived.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert arrived == dcmread(box.spool.report_path(uid))


def test_both_kinds_travel(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path, send=["sr", "sc"]) as (pacs, box):
        box.queue(1)
        box.queue(2, classes=(SECONDARY_CAPTURE,), kind="sc")
        with delivering(box.config):
            wait_for(lambda: box.delivered(2))
        assert [row.sop_class_uid for row in box.rows()] == [SR_3D, SECONDARY_CAPTURE]
        assert deliveries.state_of_destination(box.db, "pacs").sop_class_uid == SR_3D
        assert pacs.associations == 1


def test_what_was_queued_for_a_kind_no_longer_sent_still_arrives(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path, send=["sr"]) as (_pacs, box):
        box.queue(2, classes=(SECONDARY_CAPTURE,), kind="sc")
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))


def test_many_batches_share_an_association(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_BATCH", 2)
    with pacs_and_outbox(tmp_path) as (pacs, box):
        for number in range(5):
            box.queue(number)
        with delivering(box.config):
            wait_for(lambda: box.delivered(5))
        assert pacs.associations == 1
        assert set(pacs.received.values()) == {1}


def test_an_association_ends_after_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dimse, "_PER_ASSOCIATION", 2)
    with pacs_and_outbox(tmp_path) as (pacs, box):
        for number in range(3):
            box.queue(number)
        with delivering(box.config):
            wait_for(lambda: box.delivered(3))
        assert pacs.associations == 2
        assert set(pacs.received.values()) == {1}


def test_after_an_outage_everything_arrives_once(tmp_path: Path) -> None:
    pacs = EmbeddedPacs(tmp_path / "pacs", port=free_port())
    with outbox(tmp_path, pacs={"port": pacs.port}) as box:
        for number in range(5):
            box.queue(number)
        with delivering(box.config):
            wait_for(lambda: deliveries.state_of_destination(box.db, "pacs").failures >= 2)
            assert box.states() == ["queued"] * 5
            assert "connection refused" in deliveries.state_of_destination(box.db, "pacs").error
            with pacs:
                wait_for(lambda: box.delivered(5))
        assert len(pacs.instances()) == 5
        assert set(pacs.received.values()) == {1}
        assert [row.attempts for row in box.rows()] == [1] * 5
        state = deliveries.state_of_destination(box.db, "pacs")
        assert (state.failures, state.error) == (0, "")


def test_a_dead_destination_does_not_delay_a_good_one(tmp_path: Path) -> None:
    with EmbeddedPacs(tmp_path / "bad") as bad, EmbeddedPacs(tmp_path / "good") as good:
        bad.faults.stalls = 99
        ports = {"bad": {"port": bad.port, "timeout": 20}, "good": {"port": good.port}}
        with outbox(tmp_path, **ports) as box:
            for number in range(3):
                box.queue(number)
            with delivering(box.config):
                wait_for(lambda: bad.received.total() == 1)
                wait_for(lambda: box.delivered(3, "good"))
                assert "delivered" not in box.states("bad")
                bad.stop()


def test_stopping_finishes_the_object_under_way_and_hands_back_the_rest(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.delay = 0.5
        for number in range(4):
            box.queue(number)
        with delivering(box.config):
            wait_for(lambda: pacs.received.total() == 1)
        assert box.states() == ["delivered", "queued", "queued", "queued"]
        assert [row.attempts for row in box.rows()] == [1, 0, 0, 0]


def test_stopping_does_not_wait_for_a_silent_peer(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path, timeout=3) as (pacs, box):
        box.values["operate"] = {"stop_seconds": 0.5}
        pacs.faults.stalls = 1
        box.queue(1)
        with delivering(box.config):
            wait_for(lambda: pacs.received.total() == 1)
        (row,) = box.rows()
        assert (row.state, row.attempts) == ("queued", 0)


def test_a_destination_that_is_gone_from_the_configuration_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with outbox(tmp_path, former={"port": 1}) as box:
        box.queue()
        box.values["destinations"] = {}
        with delivering(box.config):
            pass
        assert box.states("former") == ["queued"]
    assert "destination_unknown" in capsys.readouterr().out
