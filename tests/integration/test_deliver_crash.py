"""A deliverer that is killed, and a peer that would make it hang."""

import json
import signal
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import evt

from dicom_ai_node.config.peers import Destination
from dicom_ai_node.deliver.association import Offer, connect
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.dicom.classes import REPORTS
from dicom_ai_node.errors import PeerUnavailable, UnreadableInstance
from tests.builders.outbox import SR_3D, delivering, pacs_and_outbox, sr_file
from tests.builders.waiting import wait_for

OFFERS = [Offer(uid) for uid in REPORTS]
ROLE = """
import json, sys, threading
from dicom_ai_node.config import parse_config
from dicom_ai_node.deliver.worker import run
run(parse_config(json.loads(sys.argv[1])), stop=threading.Event(), lease_seconds=1.0)
"""


def test_a_killed_deliverer_loses_nothing_and_shows_nothing_twice(tmp_path: Path) -> None:
    with pacs_and_outbox(tmp_path) as (pacs, box):
        pacs.faults.delay = 0.3
        for number in range(5):
            box.queue(number)
        role = subprocess.Popen(
            [sys.executable, "-c", ROLE, json.dumps(box.values)], stdout=subprocess.DEVNULL
        )
        wait_for(lambda: pacs.received.total() == 2)  # the second has not been answered
        role.send_signal(signal.SIGKILL)
        assert role.wait(10) == -signal.SIGKILL
        assert box.states().count("delivered") <= 1
        pacs.faults.delay = 0.0
        with delivering(box.config):
            wait_for(lambda: box.delivered(5))
        assert len(pacs.instances()) == 5
        assert sorted(pacs.received.values()) == [1, 1, 1, 1, 2]


@pytest.fixture
def peer(tmp_path: Path) -> Any:
    with EmbeddedPacs(tmp_path / "pacs") as pacs:
        yield pacs


def destination(pacs: EmbeddedPacs, *, timeout: float) -> Destination:
    return Destination(host="127.0.0.1", port=pacs.port, ae_title="PACS", timeout=timeout)


def test_a_peer_that_stops_reading_does_not_hang_us(peer: EmbeddedPacs) -> None:
    resume = threading.Event()
    peer._server.bind(evt.EVT_PDU_RECV, lambda event: event.pdu.pdu_type == 4 and resume.wait(30))
    dataset = dcmread(BytesIO(sr_file("2.25.1", SR_3D)))
    dataset.ContentSequence[0].TextValue = "x" * 30_000_000
    association = connect(destination(peer, timeout=0.5), OFFERS, calling_ae_title="NODE")
    with pytest.raises(PeerUnavailable, match=r"no answer within 0\.5 s"):
        association.store(dataset)
    association.release()
    assert not association.alive
    resume.set()


def test_what_cannot_be_encoded_is_not_sent(peer: EmbeddedPacs) -> None:
    dataset = dcmread(BytesIO(sr_file("2.25.1", SR_3D)))
    dataset.Rows = 1
    dataset["Rows"]._value = "one"
    association = connect(destination(peer, timeout=5), OFFERS, calling_ae_title="NODE")
    with pytest.raises(UnreadableInstance, match="cannot be encoded"):
        association.store(dataset)
    assert association.alive
    association.release()
    assert peer.received.total() == 0


def test_a_message_on_an_ended_association(peer: EmbeddedPacs) -> None:
    association = connect(destination(peer, timeout=5), OFFERS, calling_ae_title="NODE")
    association.release()
    with pytest.raises(PeerUnavailable, match="ended the association"):
        association.echo()
