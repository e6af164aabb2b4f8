"""Each thing that a destination can do wrong: nothing lost, nothing visible twice."""

import struct
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

from dicom_ai_node.deliver import worker
from dicom_ai_node.dicom.classes import REPORTS
from dicom_ai_node.store import deliveries
from tests.builders.outbox import (
    SR_3D,
    SR_COMPREHENSIVE,
    SR_ENHANCED,
    delivering,
    outbox,
    pacs_and_outbox,
    report_uid,
)
from tests.builders.ports import free_port
from tests.builders.waiting import wait_for
from tests.builders.wire import (
    IMPLEMENTATION,
    MAXIMUM,
    accept,
    accepting,
    answering,
    command,
    fragments,
    item,
    p_data,
    parse,
    pdu,
    request,
    us,
)


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_is_a_delivery_and_is_kept(tmp_path: Path, status: int) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.answers = deque([status])
        box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        assert box.rows()[0].status == status
        assert pacs.received.total() == len(pacs.instances()) == 1


@pytest.mark.parametrize("status", [0xA700, 0xC000, 0x0110])
def test_a_refused_report_waits_alone_and_is_sent_again(tmp_path: Path, status: int) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.answers = deque([status, status])
        first, second = box.queue(1), box.queue(2)
        third = box.queue(3)
        with delivering(box.config):
            wait_for(lambda: box.delivered(3))
        assert [row.attempts for row in box.rows()] == [2, 2, 1]
        studies = {dcmread(path).StudyInstanceUID for path in pacs.instances().values()}
        assert studies == {first, second, third}
        assert deliveries.state_of_destination(box.db, "pacs").failures == 0


def test_a_report_that_is_always_refused_becomes_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_REFUSALS", 3)
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.class_answers = dict.fromkeys(REPORTS, 0xC123)
        box.queue()
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead"])
        (row,) = box.rows()
        assert (row.status, row.attempts) == (0xC123, 3)
        assert row.error == "0xC123 (cannot understand) for Comprehensive 3D SR Storage"
        assert set(pacs.received) == {report_uid(row.study_instance_uid, SR_3D)}
        assert pacs.received.total() == 3


def test_a_peers_comment_is_kept_but_never_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.answers = deque([0xC000])
        pacs.faults.comment = "Patient Mueller unknown"
        box.queue(age_days=8)
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead"])
        assert box.rows()[0].error.endswith("Patient Mueller unknown")
    assert "Mueller" not in "".join(capsys.readouterr())


def test_a_full_archive_is_never_given_up_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_REFUSALS", 2)
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.answers = deque([0xA700] * 4)
        box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        assert box.rows()[0].attempts == 5


@pytest.mark.parametrize("status", [0xA700, 0xC000])
def test_an_old_report_that_is_refused_is_given_up(tmp_path: Path, status: int) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.answers = deque([status])
        box.queue(age_days=8)
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead"])
        assert box.rows()[0].status == status


def test_old_reports_to_an_unreachable_destination_are_given_up(tmp_path: Path) -> None:
    with outbox(tmp_path, pacs={"port": 1}) as box:
        box.queue(1, age_days=8)
        box.queue(2)
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead", "queued"])
        assert "connection refused" in box.rows()[0].error
        assert box.rows()[1].attempts == 0


def test_a_rejected_association_holds_the_destination(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.reject = True
        box.queue()
        with delivering(box.config):
            wait_for(lambda: deliveries.state_of_destination(box.db, "pacs").failures >= 2)
            error = deliveries.state_of_destination(box.db, "pacs").error
            assert "Called AE title not recognised" in error
            assert "'PACS'" in error
            pacs.faults.reject = False
            wait_for(lambda: box.delivered(1))
        assert box.rows()[0].attempts == 1
        assert pacs.received.total() == 1


@pytest.mark.parametrize("fault", ["aborts", "stalls"])
def test_an_object_that_breaks_the_association_waits_behind_the_others(
    tmp_path: Path, fault: str
) -> None:
    with pacs_and_outbox(tmp_path, timeout=1) as (pacs, box):
        setattr(pacs.faults, fault, 1)
        box.queue(1)
        box.queue(2)
        with delivering(box.config):
            wait_for(lambda: box.delivered(2))
        first, second = box.rows()
        assert (first.attempts, second.attempts) == (2, 1)
        assert second.settled_at < first.settled_at
        assert set(pacs.received.values()) == {1, 2}


def test_a_lost_acknowledgement_sends_the_same_object_again(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.drops = 2
        pacs.faults.duplicate_answer = 0x0111
        study = box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        uid = report_uid(study, SR_3D)
        assert dict(pacs.received) == {uid: 3}
        assert list(pacs.instances()) == [uid]
        assert box.rows()[0].status == 0x0111


def test_a_slow_destination_is_only_slow(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.delay = 0.3
        box.queue(1)
        box.queue(2)
        with delivering(box.config):
            wait_for(lambda: box.delivered(2))
        assert set(pacs.received.values()) == {1}


def test_the_best_class_negotiated_is_sent_and_remembered(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.accepted_classes = frozenset({SR_ENHANCED})
        first = box.queue(1)
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        assert deliveries.state_of_destination(box.db, "pacs").sop_class_uid == SR_ENHANCED
        pacs.faults.accepted_classes = None  # what it took before still comes first
        second = box.queue(2)
        with delivering(box.config):
            wait_for(lambda: box.delivered(2))
        assert set(pacs.instances()) == {report_uid(one, SR_ENHANCED) for one in (first, second)}


@pytest.mark.parametrize("status", [0x0122, 0xA900])
def test_a_class_accepted_and_then_refused_gives_way_to_the_next(
    tmp_path: Path, status: int
) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.class_answers = {SR_3D: status}
        box.queue(1)
        box.queue(2)
        with delivering(box.config):
            wait_for(lambda: box.delivered(2))
        rows = box.rows()
        assert [row.sop_class_uid for row in rows] == [SR_COMPREHENSIVE] * 2
        assert [row.attempts for row in rows] == [1, 1]
        # The second report was not offered in the class that the first was refused in.
        assert report_uid(rows[1].study_instance_uid, SR_3D) not in pacs.received


def test_no_class_accepted_is_a_refusal_that_names_what_was_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_REFUSALS", 1)
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.accepted_classes = frozenset()
        box.queue(1)
        box.queue(2)
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead", "dead"])
        assert pacs.associations == 1
        error = box.rows()[0].error
        assert error.startswith("no presentation context was accepted; proposed: Comprehensive 3D")
        assert "Enhanced SR Storage" in error
        assert deliveries.state_of_destination(box.db, "pacs").failures == 0


def test_a_missing_a_damaged_and_a_swapped_file_are_dead_letters_at_once(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        studies = [box.queue(number) for number in range(4)]
        paths = [box.spool.report_path(report_uid(study, SR_3D)) for study in studies]
        paths[0].unlink()
        paths[1].write_bytes(b"not DICOM")
        paths[2].write_bytes(paths[3].read_bytes())
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead", "dead", "dead", "delivered"])
        errors = [row.error for row in box.rows()]
        assert errors[0].endswith("No such file or directory")
        assert "not a usable DICOM file" in errors[1]
        assert "holds another object" in errors[2]
        assert pacs.received.total() == 1


def test_a_spool_that_is_gone_kills_no_letter(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        box.queue()
        hidden = box.spool.root.rename(tmp_path / "hidden")
        with delivering(box.config):
            wait_for(lambda: pacs.associations == 1)
        assert box.states() == ["queued"]
        hidden.rename(box.spool.root)
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))


def test_the_lease_is_renewed_while_a_destination_takes_its_time(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path, timeout=60) as (pacs, box):
        pacs.faults.stalls = 1
        box.queue()
        with delivering(box.config, lease_seconds=2.0):
            wait_for(lambda: pacs.received.total() == 1)
            (leased,) = box.rows()
            wait_for(lambda: box.rows()[0].lease_until > leased.lease_until)
            pacs.stop()


@pytest.mark.parametrize(
    "user",
    [
        IMPLEMENTATION,
        item(0x51, bytes(4)),
        item(0x51, bytes((0, 0, 0, 4))),
        item(0x51, bytes((0, 0, 0, 7))),
        item(0x51, bytes((0, 0, 0, 9))),
        item(0x51, b"\xff" * 4),
        MAXIMUM + item(0x55, b"ACME_PACS_GW_5.10"),
    ],
)
def test_odd_numbers_of_the_destination_hold_up_no_delivery(tmp_path: Path, user: bytes) -> None:
    received = bytearray()

    def respond(body: bytes) -> bytes:
        for _, control, content in fragments(body):
            received.extend(content)
            if control == 2:
                return stored(bytes(received))
        return b""

    port = free_port()
    serve = answering(lambda body: accept(body, user=user), respond)
    with accepting(port, serve) as peer, outbox(tmp_path, pacs={"port": port}) as box:
        box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        assert box.rows()[0].attempts == 1
        sizes = [len(body) for kind, body in peer.seen if kind == 4]
    assert max(sizes) <= 131072
    assert "Müller".encode() in received


@pytest.mark.parametrize(
    "respond",
    [
        lambda _: p_data((3, b"\0" * 7)),
        lambda _: pdu(4, b"\0\0\0\1\1"),
        lambda _: pdu(4, b"\0\0\xff\xff\1\3"),
        lambda _: b"\x2a\0\0\0\0\1x",
        lambda _: request(),
        lambda _: p_data((3, command({0x00000100: us(0x8001), 0x00000120: us(1)}))),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_attempt_and_at_last_a_dead_letter(
    tmp_path: Path, respond: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", crashed.append)
    port = free_port()
    with (
        accepting(port, answering(accept, respond)),
        outbox(tmp_path, pacs={"port": port}) as box,
        capture_logs() as lines,
    ):
        box.queue()
        with delivering(box.config):
            wait_for(lambda: deliveries.state_of_destination(box.db, "pacs").failures >= 2)
        (row,) = box.rows()
        assert row.state == "queued"
        assert row.attempts >= 2
        assert row.error.startswith(f"PACS at 127.0.0.1:{port}")
        assert "delivery_failed" not in {line["event"] for line in lines}
    with (
        outbox(tmp_path / "old", pacs={"port": port}) as box,
        accepting(port, answering(accept, respond)),
    ):
        box.queue(age_days=8)
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead"])
        assert box.rows()[0].error.startswith(f"PACS at 127.0.0.1:{port}")
    assert not crashed


def stored(message: bytes) -> bytes:
    """A C-STORE-RSP of success to a request whose command set begins ``message``."""
    length = struct.unpack_from("<I", message, 8)[0]
    asked = parse(message[: 12 + length])
    return p_data(
        (
            3,
            command(
                {
                    0x00000100: us(0x8001),
                    0x00000120: asked[0x00000110],
                    0x00000800: us(0x0101),
                    0x00000900: us(0),
                }
            ),
        )
    )
