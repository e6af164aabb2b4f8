"""Forwarded images on their way: delivery, dead letters, retention, the gateway in its role."""

import os
import threading
import time
from pathlib import Path

from pydicom import dcmread
from structlog.testing import capture_logs

from dicom_ai_node.answers import Reason
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.fill import gateway
from dicom_ai_node.ops.maintenance import run as keep
from dicom_ai_node.ops.retention import Retention
from dicom_ai_node.store import deliveries
from dicom_ai_node.store.results import WITHHELD, requeue_withheld
from dicom_ai_node.store.study_queue import close_due, skip
from dicom_ai_node.study import State
from tests.builders.forwarding import Gate, gate, state
from tests.builders.outbox import delivering
from tests.builders.rows import TIMING, claim_one
from tests.builders.waiting import wait_for


def test_an_image_that_the_next_archive_refuses_shows_and_can_be_sent_again(
    tmp_path: Path,
) -> None:
    with EmbeddedPacs(tmp_path / "pacs") as pacs, gate(tmp_path, port=pacs.port) as box:
        uid = box.add_image("one", analysable=False)
        close_due(box.db, now=time.time(), settings=TIMING)
        claimed = claim_one(box.db, now=time.time())
        assert skip(box.db, claimed, Reason("no_image", "r"), now=time.time())
        box.sweep()
        now = time.time()
        (one,) = deliveries.claim(box.db, "pacs", owner="w", now=now, lease_seconds=9, limit=9)
        deliveries.give_up(box.db, one, status=0xC000, error="refused", now=now)
        assert state(box, uid) == State.UNDELIVERED
        assert deliveries.requeue_dead(box.db, study_uid=uid, now=now) == 1
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        assert state(box, uid) == State.DELIVERED
        (path,) = pacs.instances().values()
        assert dcmread(path).SOPInstanceUID == box.sent()[0].sop_instance_uid


def test_a_file_that_is_gone_is_a_dead_letter_and_not_a_silence(tmp_path: Path) -> None:
    with (
        EmbeddedPacs(tmp_path / "pacs") as pacs,
        gate(tmp_path, "received", port=pacs.port, send=[]) as box,
    ):
        box.add_image("one")
        box.sweep(at=time.time())
        next(box.spool.instances.glob("*.dcm")).unlink()
        with delivering(box.config):
            wait_for(lambda: box.states() == ["dead"])


def retention_of(box: Gate) -> Retention:
    box.values["storage"] |= {"retention_days": 7, "min_free_mb": 0, "warn_free_mb": 0}
    return Retention(box.config, box.db, box.spool)


def drop(box: Gate) -> tuple[int, int]:
    """Let retention work; how many originals and copies went."""
    long_ago = time.time() - 30 * 86400
    for path in (*box.spool.instances.glob("*.dcm"), *box.copies()):
        os.utime(path, (long_ago, long_ago))
    retention = retention_of(box)
    return retention.drop_images(threading.Event()), retention.drop_copies(threading.Event())


def test_retention_waits_for_every_archive_and_counts_from_the_last(tmp_path: Path) -> None:
    """The study was settled long ago: it had nothing to report, or its report went elsewhere."""
    with gate(tmp_path) as box:
        uid = box.analysed()
        long_ago = time.time() - 30 * 86400

        def settle(state: str) -> None:
            with box.db.write() as connection:
                values = f"state = '{state}', updated_at = {long_ago}"
                connection.exec_driver_sql(f"UPDATE study SET {values}")

        settle("skipped")
        assert drop(box) == (0, 0)  # waits to be queued
        assert box.sweep() == 1
        assert drop(box) == (0, 0)  # queued
        now = time.time()
        (one,) = deliveries.claim(box.db, "pacs", owner="w", now=now, lease_seconds=9, limit=9)
        assert drop(box) == (0, 0)  # under way
        deliveries.give_up(box.db, one, status=0xC000, error="refused", now=long_ago)
        settle("skipped")
        assert drop(box) == (0, 0)  # a dead letter
        deliveries.requeue_dead(box.db, study_uid=uid, now=now)
        (one,) = deliveries.claim(box.db, "pacs", owner="w", now=now, lease_seconds=9, limit=9)
        deliveries.delivered(box.db, one, one.files[0], status=0, now=now)
        settle("delivered")
        assert drop(box) == (0, 0)  # only just delivered
        with box.db.write() as connection:
            connection.exec_driver_sql(f"UPDATE delivery SET settled_at = {long_ago}")
        assert drop(box) == (1, 1)


def test_a_report_withheld_is_found_again_whatever_became_of_the_images(tmp_path: Path) -> None:
    with gate(tmp_path, "received") as box:
        uid = box.analysed()
        box.sweep()
        with box.db.write() as connection:  # as an analysis in shadow mode leaves it
            code = WITHHELD.code
            connection.exec_driver_sql(f"UPDATE study SET state='skipped', reason_code='{code}'")
        now = time.time()
        (one,) = deliveries.claim(box.db, "pacs", owner="w", now=now, lease_seconds=9, limit=9)
        deliveries.give_up(box.db, one, status=0xC000, error="refused", now=now)
        assert state(box, uid) == State.UNDELIVERED
        assert requeue_withheld(box.db, now=now) == (1, 0)
        assert state(box, uid) == State.READY


def test_without_a_destination_what_waits_is_said(tmp_path: Path) -> None:
    with gate(tmp_path) as box:
        box.add_image("one")
        box.values["destinations"]["pacs"]["forward"] = "none"
        with capture_logs() as logged:
            assert gateway.start(box.config, box.db, box.spool, threading.Event()) is None
        assert [(one["event"], one["waiting"]) for one in logged] == [("forwards_left", 1)]


def test_the_gateway_works_in_the_keep_role_and_ends_with_it(tmp_path: Path) -> None:
    with EmbeddedPacs(tmp_path / "pacs") as pacs, gate(tmp_path, port=pacs.port) as box:
        box.analysed()
        stop = threading.Event()
        role = threading.Thread(target=keep, args=(box.config,), kwargs={"stop": stop})
        role.start()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        stop.set()
        role.join(60)
        assert not role.is_alive()
        assert "gateway" not in {thread.name for thread in threading.enumerate()}
        (path,) = pacs.instances().values()
        assert dcmread(path).PatientAge == "063Y"
