"""Receivers as processes: killed at the worst moments, several on one port, light."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3

from dicom_ai_node.listening import listen
from tests.builders.receiving import (
    Node,
    RawPeer,
    associated,
    encoded,
    prepare,
    radiograph,
    receiver_process,
    send,
    settings,
    store_command,
)
from tests.builders.waiting import wait_for


def assert_kept(node: Node, data: bytes) -> None:
    """Row and file are there, and the file holds what the row says."""
    digest = blake3(data).hexdigest()
    ((path,),) = node.rows(f"SELECT path FROM instance WHERE digest = '{digest}'")
    assert (node.spool / path).read_bytes().endswith(data)


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    values = settings(tmp_path)
    node = prepare(values)
    sent = [radiograph(seed=seed) for seed in range(3)]
    with receiver_process(values) as child, associated(node.port) as association:
        for ds in sent:
            assert association.send_c_store(ds).Status == 0
        child.kill()
        child.wait()
        association.abort()
    for ds in sent:
        assert_kept(node, encoded(ds))
    # The dead receiver's association is still a row; it expires by itself.
    ((alive_until,),) = node.rows("SELECT alive_until FROM association")
    assert time.time() < alive_until < time.time() + 31
    node.db.close()


@pytest.mark.parametrize("step", ["synced", "named", "recorded"])
def test_killed_at_any_step_it_never_acknowledged_and_the_resend_is_one_instance(
    tmp_path: Path, step: str
) -> None:
    values = settings(tmp_path)
    node = prepare(values)
    ds = radiograph()
    with receiver_process(values, die_at=step) as child, RawPeer(node.port) as peer:
        peer.associate()
        peer.p_data((3, store_command(sop=ds.SOPInstanceUID)), (2, encoded(ds)))
        assert peer.pdu() == (0, b"")
        assert child.wait(timeout=10) == -signal.SIGKILL
    assert len(node.rows("SELECT * FROM instance")) == (1 if step == "recorded" else 0)
    with receiver_process(values, process="receive-1"):
        assert node.files("incoming") == []  # swept
        assert send(node.port, ds) == [0]
    assert len(node.rows("SELECT * FROM instance")) == 1
    assert len(node.files("instances")) == 1
    assert_kept(node, encoded(ds))
    node.db.close()


def test_two_processes_share_a_port_and_one_survives_the_other(tmp_path: Path) -> None:
    values = settings(tmp_path)
    node = prepare(values)
    with (
        listen("127.0.0.1", node.port, key="node") as listener,
        receiver_process(values, process="receive-0", listener=listener) as first,
        receiver_process(values, process="receive-1", listener=listener) as second,
    ):
        served: set[str] = set()
        for _ in range(40):
            with RawPeer(node.port) as peer:
                ds = radiograph()
                peer.associate()
                peer.p_data((3, store_command(sop=ds.SOPInstanceUID)), (0, encoded(ds)[:500]))
                wait_for(lambda: node.files("incoming"))
                served |= {path.parent.name.rsplit("-", 2)[0] for path in node.files("incoming")}
            wait_for(lambda: not node.files("incoming"))
            if len(served) == 2:
                break
        assert served == {"receive-0", "receive-1"}
        first.kill()
        first.wait()
        assert [send(node.port, radiograph()) for _ in range(4)] == [[0]] * 4
        second.terminate()
        assert second.wait(timeout=10) == 0
    node.db.close()


def test_the_receiver_is_light() -> None:
    """It is several processes, and none may pay for the network or for reports."""
    code = (
        "import sys, dicom_ai_node.receive\n"
        "heavy = {'torch', 'torchvision', 'highdicom', 'numpy', 'imagecodecs'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert not {"torch", "torchvision", "highdicom"} & set(eval(found.stdout))
