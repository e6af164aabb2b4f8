"""Receivers to send to, radiographs to send, and peers that send them well or badly."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.ops.process import LISTENER_VARIABLE
from dicom_ai_node.receive.server import run
from dicom_ai_node.store import Database
from tests.builders import wire
from tests.builders.databases import opened
from tests.builders.ports import free_port
from tests.builders.waiting import wait_until_listening

DX = str(DigitalXRayImageStorageForPresentation)
EXPLICIT = str(ExplicitVRLittleEndian)


def radiograph(*, sop_class: str = DX, study: str = "", sop: str = "", seed: int = 0) -> Dataset:
    """A small DX image; ``seed`` changes its pixels."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = sop or generate_uid()
    ds.StudyInstanceUID = study or generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.Modality = "DX"
    ds.PatientName = "Secret^Patient"
    ds.PatientID = "SECRET-ID"
    ds.Rows, ds.Columns = 32, 32
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = bytes([seed % 256, 1]) * 1024
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def encoded(ds: Dataset) -> bytes:
    """The data set as it travels in explicit VR little endian."""
    data: bytes | None = encode(ds, False, True)
    assert data is not None
    return data


def settings(tmp_path: Path, **tables: dict[str, Any]) -> dict[str, Any]:
    """Tables of a configuration with everything below ``tmp_path`` and no disk watermark."""
    values: dict[str, Any] = {
        "node": {"bind": "127.0.0.1", "port": free_port()},
        "receive": {"acse_timeout": 2.0, "dimse_timeout": 2.0},
        "storage": {
            "spool": str(tmp_path / "spool"),
            "database": f"sqlite:///{tmp_path / 'node.db'}",
            "min_free_mb": 0,
        },
        "operate": {"stop_seconds": 2.0},
    }
    for name, table in tables.items():
        values[name] = values.get(name, {}) | table
    return values


@dataclass
class Node:
    """A receiver that runs."""

    config: Config
    db: Database

    @property
    def port(self) -> int:
        return self.config.node.port

    @property
    def spool(self) -> Path:
        return self.config.storage.spool

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.db.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def files(self, folder: str) -> list[Path]:
        return sorted(path for path in (self.spool / folder).rglob("*") if path.is_file())


@contextmanager
def receiving(tmp_path: Path, **tables: dict[str, Any]) -> Iterator[Node]:
    """The role in a thread of this process."""
    node = prepare(settings(tmp_path, **tables))
    stop = threading.Event()
    thread = threading.Thread(
        target=run, args=(node.config,), kwargs={"process": "receive-0", "stop": stop}
    )
    thread.start()
    try:
        wait_until_listening(node.port)
        yield node
    finally:
        stop.set()
        thread.join(timeout=20)
        node.db.close()
        assert not thread.is_alive()


def prepare(values: dict[str, Any]) -> Node:
    config = parse_config(values)
    return Node(config, opened(config.storage.database))


_PROCESS = """
import json, os, signal, sys, threading
from functools import partial
from dicom_ai_node.config import parse_config
from dicom_ai_node.ops.process import inherited_listener
from dicom_ai_node.receive import server

values, process, die_at = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]

def checkpoint(step):
    if step == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

server.Filing = partial(server.Filing, checkpoint=checkpoint)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
server.run(parse_config(values), process=process, stop=stop, listener=inherited_listener())
"""


@contextmanager
def receiver_process(
    values: dict[str, Any],
    *,
    process: str = "receive-0",
    die_at: str = "",
    listener: socket.socket | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The role as a process of its own, killed by SIGKILL at the checkpoint ``die_at``.

    Siblings share ``listener``, as those of a supervisor do.
    """
    inherited = {} if listener is None else {LISTENER_VARIABLE: listener.fileno()}
    child = subprocess.Popen(
        [sys.executable, "-c", _PROCESS, json.dumps(values), process, die_at],
        stdout=subprocess.DEVNULL,
        env=os.environ | {name: str(descriptor) for name, descriptor in inherited.items()},
        pass_fds=list(inherited.values()),
    )
    try:
        _wait_for_claim(Path(values["storage"]["spool"]), child)
        wait_until_listening(values["node"]["port"])
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        child.wait()


def _wait_for_claim(spool: Path, child: "subprocess.Popen[bytes]") -> None:
    """Siblings listen on the same port, so that a connection does not tell which one is up."""
    until = time.monotonic() + 30
    while time.monotonic() < until and child.poll() is None:
        if list((spool / "incoming").glob(f"*-{child.pid}-*")):
            time.sleep(0.3)  # it accepts right after it has claimed its folder
            return
        time.sleep(0.05)
    raise AssertionError("the receiver did not start")


@contextmanager
def associated(
    port: int,
    *classes: str,
    calling: str = "MODALITY",
    called: str = "DICOMAINODE",
    syntaxes: tuple[str, ...] = (EXPLICIT,),
) -> Iterator[Association]:
    """An association, accepted or not, of a peer that behaves."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 15
    for uid in classes or (DX,):
        ae.add_requested_context(uid, list(syntaxes))
    association = ae.associate("127.0.0.1", port, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def send(port: int, *datasets: Dataset, calling: str = "MODALITY") -> list[int]:
    """Send over one association; return the statuses."""
    classes = sorted({str(ds.SOPClassUID) for ds in datasets})
    with associated(port, *classes, calling=calling) as association:
        assert association.is_established
        return [association.send_c_store(ds).Status for ds in datasets]


def send_bytes(association: Association, data: bytes, *, sop_class: str, sop: str) -> int:
    """Send what may not be a data set at all under the given affected UIDs."""
    request = C_STORE()
    request.MessageID = 7
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop
    request.Priority = 2
    request.DataSet = BytesIO(data)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.01)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert response is not None
    status: int = response.Status
    return status


class RawPeer:
    """A peer that speaks the upper layer byte by byte, so that it can break the rules."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)

    def __enter__(self) -> "RawPeer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def associate(self, sop_class: str = DX) -> None:
        context = wire.context(1, sop_class.encode(), EXPLICIT.encode())
        self.socket.sendall(wire.request(calling=b"RAW".ljust(16), contexts=context))
        assert self.pdu()[0] == wire.AC

    def p_data(self, *values: tuple[int, bytes], context_id: int = 1) -> None:
        """Send one P-DATA-TF of (message control header, fragment) pairs."""
        self.socket.sendall(wire.p_data(*values, context_id=context_id))

    def pdu(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; (0, b"") when the peer has closed."""
        answer = wire.read_pdu(self.socket)
        return answer.kind, answer.body

    def status(self) -> int:
        """Return the status of the next response."""
        kind, body = self.pdu()
        assert kind == 4, f"PDU {kind}"
        position = body.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        value: int = struct.unpack_from("<H", body, position + 8)[0]
        return value


def store_command(*, sop: str, sop_class: str = DX, message_id: int = 1) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return wire.command(
        {
            0x00000002: sop_class.encode(),
            0x00000100: wire.us(1),
            0x00000110: wire.us(message_id),
            0x00000700: wire.us(0),
            0x00000800: wire.us(1),
            0x00001000: sop.encode(),
        }
    )


def dcmtk(name: str) -> str | None:
    """The path of a DCMTK program: pynetdicom installs others under the same names."""
    for folder in os.get_exec_path():
        path = Path(folder) / name
        if path.is_file() and "bin/python" not in path.read_bytes()[:200].decode("latin-1"):
            return str(path)
    return None
