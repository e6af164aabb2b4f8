"""The sides that a benchmark compares, and the sender that sends to each."""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from dicom_ai_node.config import parse_config
from dicom_ai_node.listening import listen
from dicom_ai_node.store import Database

PDU = "131072"
_AE = "DICOMAINODE"
_LOGGING = """\
log4cplus.rootLogger = INFO, out
log4cplus.appender.out = log4cplus::ConsoleAppender
log4cplus.appender.out.ImmediateFlush = true
log4cplus.appender.out.layout = log4cplus::PatternLayout
log4cplus.appender.out.layout.ConversionPattern = %D{%s.%q} %m%n
"""
_STEP = re.compile(r"(\d+\.\d+) (Sending Store Request|Received Store Response \(Success\))")


@dataclass
class Side:
    """One receiver under test."""

    name: str
    durable: str
    """What its acknowledgement promises."""
    start: Callable[[Path, int], list[subprocess.Popen[bytes]]]


_RECEIVERS = """
import json, logging, os, signal, socket, sys, threading
import structlog
from dicom_ai_node.config import parse_config
from dicom_ai_node.receive.server import run
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
config = parse_config(json.loads(sys.argv[1]))
listener = socket.socket(fileno=int(sys.argv[2]))
children = []
for number in range(config.receive.processes):  # forks, as those of a node
    if child := os.fork():
        children.append(child)
        continue
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run(config, process=f"receive-{number}", stop=stop, listener=listener)
    sys.exit()
signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGTERM) for child in children])
for child in children:
    os.waitpid(child, 0)
"""


def start_node(folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    values = {
        "node": {"bind": "127.0.0.1", "port": port},
        "storage": {
            "spool": str(folder / "spool"),
            "database": f"sqlite:///{folder / 'node.db'}",
            "min_free_mb": 0,
        },
    }
    Database(parse_config(values).storage.database).upgrade()
    with listen("127.0.0.1", port, key="node") as listener:
        process = subprocess.Popen(
            [sys.executable, "-c", _RECEIVERS, json.dumps(values), str(listener.fileno())],
            pass_fds=[listener.fileno()],
        )
    while len(list((folder / "spool" / "incoming").glob("receive-*"))) < 2:
        time.sleep(0.1)
    time.sleep(1.0)  # both accept, or the first gets all connections
    return [process]


def storescp_command(folder: Path, port: int) -> list[str]:
    # --fork: without it one association is served at a time.
    return [tool("storescp"), "--fork", "--max-pdu", PDU, "-od", str(folder), str(port)]


def orthanc_command(folder: Path, port: int) -> list[str]:
    configuration = {
        "Name": "bench",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": _AE,
        "DicomPort": port,
        "HttpServerEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "MaximumPduLength": int(PDU),
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    return [tool("Orthanc"), str(path)]


def start_storescp(folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    images = folder / "images"
    images.mkdir()
    return [subprocess.Popen(storescp_command(images, port), stderr=subprocess.DEVNULL)]


def start_orthanc(folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    command = orthanc_command(folder, port)
    return [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]


def family(processes: list[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    """Return the descendants of the processes, then these."""
    roots = [psutil.Process(process.pid) for process in processes]
    return [child for root in roots for child in root.children(recursive=True)] + roots


def memory(processes: list[subprocess.Popen[bytes]]) -> int:
    """Bytes of all of them; of pages that several share, each has its part (PSS)."""
    return sum(one.memory_full_info().pss for one in family(processes))


def processor_time(processes: list[subprocess.Popen[bytes]]) -> float:
    """Seconds of processor time, those of descendants that have ended included."""
    total = 0.0
    for one in family(processes):
        with suppress(psutil.NoSuchProcess):  # its parent has its time by now
            total += sum(one.cpu_times()[:4])
    return total


SIDES = (
    Side("this node", "fsync of file and folder, and commit, before 0x0000", start_node),
    Side("DCMTK storescp", "nothing: the page cache", start_storescp),
    Side("Orthanc", "the index (SQLite); files are in the page cache", start_orthanc),
)


def tool(name: str) -> str:
    """Find a program outside this virtual environment: pynetdicom installs a ``storescu`` too."""
    ours = Path(sys.prefix) / "bin"
    folders = [folder for folder in [*os.get_exec_path(), "/usr/sbin"] if Path(folder) != ours]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        sys.exit(f"{name} is not installed")
    return found


def make_images(folder: Path, count: int, size: int) -> None:
    """Write ``count`` DX images of one study, each with ``size`` bytes of pixel data."""
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    columns = 128 if size < 1_000_000 else 2048
    for number in range(count):
        ds = Dataset()
        ds.SOPClassUID = DigitalXRayImageStorageForPresentation
        ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.Modality, ds.PatientID, ds.PatientName = "DX", "BENCH", "Bench^Mark"
        ds.Rows, ds.Columns, ds.SamplesPerPixel = size // (2 * columns), columns, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = os.urandom(ds.Rows * columns * 2)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)


def transmit(folders: list[Path], port: int) -> tuple[float, list[float]]:
    """Send each folder over an association of its own, all at once.

    Returns the seconds of everything, and those of each C-STORE from request to response.
    """

    logging = folders[0].parent / "log.cfg"
    logging.write_text(_LOGGING, encoding="ascii")

    def one(folder: Path) -> list[float]:
        command = [tool("storescu"), "--max-pdu", PDU, "-aec", _AE, "-lc", str(logging)]
        command += ["+sd", "127.0.0.1", str(port), str(folder)]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        steps = [(float(at), what) for at, what in _STEP.findall(done.stdout + done.stderr)]
        took = [
            ended - began
            for (began, first), (ended, then) in pairwise(steps)
            if (first, then) == ("Sending Store Request", "Received Store Response (Success)")
        ]
        sent = len(list(folder.iterdir()))
        if done.returncode or len(took) != sent:
            sys.exit(f"storescu: {len(took)} of {sent} stored: {done.stderr[-500:]}")
        return took

    with ThreadPoolExecutor(len(folders)) as pool:
        started = time.perf_counter()
        took = list(pool.map(one, folders))
        return time.perf_counter() - started, [seconds for each in took for seconds in each]


def sync_file_system(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(descriptor)


@contextmanager
def running(side: Side, work: Path) -> Iterator[tuple[int, list[subprocess.Popen[bytes]]]]:
    folder = Path(tempfile.mkdtemp(dir=work, prefix="side-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    processes = side.start(folder, port)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port, processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        sync_file_system(work)
