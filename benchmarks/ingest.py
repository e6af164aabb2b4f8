"""How fast images come in: this node against DCMTK storescp and Orthanc.

    python -m benchmarks.ingest [--quick] [--repeats 3]

The same sender (DCMTK ``storescu --max-pdu 131072``) sends the same 10 MB DX images to each side,
60 over one association and 240 over four at once. The sides take turns within each repeat, so that
other work on the machine hits all of them. Two times are taken: to the last acknowledgement, and to
the moment when everything is on the disk (``syncfs`` after the last acknowledgement). A side that
acknowledges before its files are durable has work left at the first mark and none at the second,
so only the second compares equals.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from dicom_ai_node.ops.process import LISTENER_VARIABLE
from dicom_ai_node.store import Database

PDU = "131072"
ROWS, COLUMNS = 2560, 2048  # 16 bit: 10.5 MB
_AE = "DICOMAINODE"


@dataclass
class Side:
    """One receiver under test."""

    name: str
    durable: str
    """What its acknowledgement promises."""
    start: Callable[[Path, int], list[subprocess.Popen[bytes]]]


@dataclass
class Figures:
    """What was measured of one side."""

    acknowledged: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    """Processor time, which other work on the machine hardly changes."""
    resident_mb: list[float] = field(default_factory=list)


_ROLE = """
import json, logging, signal, sys, threading
import structlog
from dicom_ai_node.config import parse_config
from dicom_ai_node.ops.process import inherited_listener
from dicom_ai_node.receive.server import run
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
config = parse_config(json.loads(sys.argv[1]))
run(config, process=sys.argv[2], stop=stop, listener=inherited_listener())
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
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _ROLE, json.dumps(values), f"receive-{number}"],
                env=os.environ | {LISTENER_VARIABLE: str(listener.fileno())},
                pass_fds=[listener.fileno()],
            )
            for number in range(2)
        ]
    while len(list((folder / "spool" / "incoming").glob("receive-*"))) < len(processes):
        time.sleep(0.1)
    time.sleep(1.0)  # both accept, or the first gets all connections
    return processes


def start_storescp(folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    images = folder / "images"
    images.mkdir()
    # --fork: without it one association is served at a time.
    command = [tool("storescp"), "--fork", "--max-pdu", PDU, "-od", str(images), str(port)]
    return [subprocess.Popen(command, stderr=subprocess.DEVNULL)]


def start_orthanc(folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    configuration = {
        "Name": "bench",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": _AE,
        "DicomPort": port,
        "HttpServerEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    command = [tool("Orthanc"), str(path)]
    return [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]


def resident(processes: list[subprocess.Popen[bytes]]) -> int:
    """Bytes of resident memory, children included."""
    total = 0
    for process in processes:
        root = psutil.Process(process.pid)
        total += sum(one.memory_info().rss for one in [root, *root.children(recursive=True)])
    return total


def processor_time(processes: list[subprocess.Popen[bytes]]) -> float:
    """Seconds of processor time, children included."""
    return sum(sum(psutil.Process(process.pid).cpu_times()[:4]) for process in processes)


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


def make_images(folder: Path, count: int) -> None:
    """Write ``count`` DX images of one study: noise, because compressible ones flatter nobody."""
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    for number in range(count):
        ds = Dataset()
        ds.SOPClassUID = DigitalXRayImageStorageForPresentation
        ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.Modality, ds.PatientID, ds.PatientName = "DX", "BENCH", "Bench^Mark"
        ds.Rows, ds.Columns, ds.SamplesPerPixel = ROWS, COLUMNS, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = os.urandom(ROWS * COLUMNS * 2)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)


def transmit(folders: list[Path], port: int) -> float:
    """Send each folder over an association of its own, all at once; return the seconds."""

    def one(folder: Path) -> None:
        command = [tool("storescu"), "--max-pdu", PDU, "-aec", _AE, "+sd", "127.0.0.1", str(port)]
        done = subprocess.run([*command, str(folder)], capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"storescu failed: {done.stderr.decode()[-500:]}")

    with ThreadPoolExecutor(len(folders)) as pool:
        started = time.perf_counter()
        list(pool.map(one, folders))
        return time.perf_counter() - started


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


def measure(side: Side, folders: list[Path], work: Path, figures: Figures) -> None:
    with running(side, work) as (port, processes):
        sync_file_system(work)
        before = processor_time(processes)
        started = time.perf_counter()
        figures.acknowledged.append(transmit(folders, port))
        sync_file_system(work)
        figures.durable.append(time.perf_counter() - started)
        figures.processor.append(processor_time(processes) - before)
        figures.resident_mb.append(resident(processes) / 1e6)


def compare(title: str, folders: list[Path], work: Path, repeats: int) -> None:
    megabytes = sum(path.stat().st_size for folder in folders for path in folder.iterdir()) / 1e6
    found = {side.name: Figures() for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:
            measure(side, folders, work, found[side.name])
    print(f"\n{title}: {megabytes:.0f} MB, median of {repeats}")
    print(f"{'':16}{'acknowledged':>20}{'durable':>20}{'processor':>12}{'resident':>11}")
    for side in SIDES:
        one = found[side.name]
        acked, durable = statistics.median(one.acknowledged), statistics.median(one.durable)
        print(
            f"{side.name:16}{acked:8.2f} s{megabytes / acked:5.0f} MB/s"
            f"{durable:8.2f} s{megabytes / durable:5.0f} MB/s"
            f"{statistics.median(one.processor):10.2f} s"
            f"{statistics.median(one.resident_mb):8.0f} MB"
        )
    for mark in ("acknowledged", "durable", "processor"):
        ours, *theirs = [statistics.median(getattr(found[side.name], mark)) for side in SIDES]
        print(f"{mark}: {min(theirs) / ours:.2f} x the faster of the others")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="6 and 24 images")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder on the disk to measure")
    options = parser.parse_args()
    each = 6 if options.quick else 60
    work = Path(tempfile.mkdtemp(dir=options.work, prefix="ingest-"))
    try:
        folders = [work / f"sender-{number}" for number in range(4)]
        for folder in folders:
            make_images(folder, each)
        for side in SIDES:
            print(f"{side.name}: an acknowledgement promises {side.durable}")
        compare("one association", folders[:1], work, options.repeats)
        compare("four associations", folders, work, options.repeats)
        print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
