"""Headers that take memory and time: what a node and ``check-header`` spend on them.

    python -m tests.acceptance.attack_headers [--element-mb 1000] [--only items nested ...]

Each attack is one object, sent to a running node and then read by ``check-header``. Printed are the
status of the C-STORE and the seconds until it came, the peak memory of the receivers and of the
analyser beside what they had before, the longest C-ECHO and the time of a good image meanwhile, and
seconds, peak memory and answer of ``check-header``. ``allowed`` stays just below the limits.
"""

import argparse
import json
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from dicom_ai_node.dicom.part10 import file_head
from tests.acceptance.harness import SETTLED, Node
from tests.builders.dicom_bytes import EXPLICIT
from tests.builders.receiving import DX, encoded, radiograph, send_bytes

PATIENCE = 900.0
"""Seconds that anything may take before the attack counts as won."""
SPECIES = 0x00102202
PRIVATE = 0x00091001
MEGABYTE = 1 << 20


def items(_: int) -> bytes:
    """1.9 million empty items in one sequence, 15 MB."""
    return EXPLICIT.sequence(SPECIES, [EXPLICIT.item(b"") * 1_900_000], undefined=True)


def element(megabytes: int) -> bytes:
    """One value before the pixel data."""
    return EXPLICIT.element(PRIVATE, "OB", bytes(megabytes * MEGABYTE))


def elements(_: int) -> bytes:
    """A million private elements, 12 MB."""
    return b"".join(
        struct.pack("<HH2sH", group, number, b"LO", 4) + b"abcd"
        for group in range(0x0009, 0x0020, 2)
        for number in range(0x1000, 0xFFFF)
    )[: 12 * 1_000_000]


def nested(_: int) -> bytes:
    """Sequences of defined length, 3000 deep."""
    deep = b""
    for _level in range(3000):
        deep = EXPLICIT.sequence(SPECIES, [EXPLICIT.item(deep)])
    return deep


def allowed(_: int) -> bytes:
    """49 000 items with one element each: as many as the limits let through."""
    one = EXPLICIT.item(EXPLICIT.element(0x00080100, "SH", b"L-80A2"))
    return EXPLICIT.sequence(0x00081140, [one * 49_000])


def good(_: int) -> bytes:
    """Nothing: to compare."""
    return b""


ATTACKS: dict[str, Callable[[int], bytes]] = {
    one.__name__: one for one in (good, items, elements, element, nested, allowed)
}


@dataclass
class Peaks:
    """The most memory that the processes of a role had, MB."""

    node: Node
    memory: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        for role in ("receive", "analyse"):
            for child in self.node.children(role):
                try:
                    now = child.memory_info().rss / MEGABYTE
                except psutil.NoSuchProcess:
                    continue
                self.memory[role] = max(self.memory.get(role, 0.0), now)


@contextmanager
def watched(node: Node) -> Iterator[tuple[Peaks, list[float], list[float]]]:
    """Sample memory, call C-ECHO all the time, and send one good image."""
    peaks, echoes, image = Peaks(node), [], []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.05):
            peaks.look()

    def echo() -> None:
        while not stop.is_set():
            began = time.monotonic()
            answered = node.answers()
            echoes.append(time.monotonic() - began if answered else PATIENCE)
            stop.wait(0.2)

    def image_meanwhile() -> None:
        ds = radiograph()
        ds.BurnedInAnnotation = "NO"
        began = time.monotonic()
        status = store(node.port, encoded(ds), str(ds.SOPInstanceUID))
        image.append(time.monotonic() - began if status == 0 else PATIENCE)

    threads = [threading.Thread(target=one) for one in (sample, echo, image_meanwhile)]
    for one in threads:
        one.start()
    try:
        yield peaks, echoes, image
    finally:
        stop.set()
        for one in threads:
            one.join()


def data_set(more: bytes, *, study: str, sop: str) -> bytes:
    """A small DX image with ``more`` behind its UIDs of the general modules."""
    ds = radiograph(study=study, sop=sop)
    whole = encoded(ds)
    at = whole.index(b"\x08\x00\x60\x00CS") + 10  # behind Modality, before the patient
    if more[:2] == b"\x10\x00":
        at = whole.index(b"\x20\x00\x0d\x00UI")
    return whole[:at] + more + whole[at:]


def store(port: int, data: bytes, sop: str, syntax: str = str(ExplicitVRLittleEndian)) -> int:
    """Send one object and return its status, -1 where no answer came."""
    ae = AE("MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE
    ae.add_requested_context(DX, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="DICOMAINODE")
    if not association.is_established:
        return -1
    try:
        return send_bytes(association, data, sop_class=DX, sop=sop)
    except AssertionError:
        return -1
    finally:
        association.release()


def settled(node: Node, study: str) -> bool:
    return any(row.study_instance_uid == study and row.state in SETTLED for row in node.studies())


def attack(node: Node, name: str, objects: Mapping[str, bytes], study: str, syntax: str) -> None:
    """Send objects by SOP Instance UID, wait for what becomes of the study, and print the cost."""
    before = Peaks(node)
    before.look()
    with watched(node) as (peaks, echoes, image):
        began = time.monotonic()
        answers = {store(node.port, data, sop, syntax) for sop, data in objects.items()}
        seconds = time.monotonic() - began
        until = time.monotonic() + PATIENCE
        while 0 in answers and not settled(node, study) and time.monotonic() < until:
            time.sleep(0.5)
        whole = time.monotonic() - began
    memory = ", ".join(
        f"{role} {before.memory.get(role, 0):.0f} -> {peaks.memory.get(role, 0):.0f} MB"
        for role in ("receive", "analyse")
    )
    size = sum(map(len, objects.values())) / MEGABYTE
    statuses = " ".join(f"{one & 0xFFFF:04X}" for one in sorted(answers))
    print(
        f"{name:9} {size:7.1f} MB  status {statuses} after"
        f" {seconds:.1f} s, done after {whole:.1f} s; {memory};"
        f" C-ECHO at most {max(echoes):.2f} s of {len(echoes)}; good image {max(image):.2f} s",
        flush=True,
    )


MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.stdout.decode(), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""Between this process and the measured one: a child's peak begins with its parent's memory."""


def check(path: Path) -> None:
    """Run ``check-header`` over one file and print what that took."""
    command = [sys.executable, "-m", "dicom_ai_node", "check-header", "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], capture_output=True, check=True, timeout=PATIENCE
    )
    answer, seconds, peak = json.loads(done.stdout)
    document = json.loads(answer) if answer else {"error": "(no answer)"}
    print(
        f"          check-header {seconds:.1f} s of processor, peak {peak:.0f} MB:"
        f" {document['error'] or document['status']}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--element-mb", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=[*ATTACKS, "deflated"])
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder, Node(Path(folder, "node"), destinations={}) as node:
        for name in chosen.only:
            study, sop = generate_uid(), generate_uid()
            made = ATTACKS.get(name, element)(chosen.element_mb)
            data, syntax = data_set(made, study=study, sop=sop), ExplicitVRLittleEndian
            del made
            if name == "deflated":  # as one element, which inflates to so many MB
                deflater = zlib.compressobj(wbits=-15)
                data = deflater.compress(data) + deflater.flush()
                syntax = DeflatedExplicitVRLittleEndian
            attack(node, name, {sop: data}, study, str(syntax))
            path = Path(folder, "attack.dcm")
            head = file_head(sop_class_uid=DX, sop_instance_uid=sop, transfer_syntax_uid=syntax)
            path.write_bytes(head + data)
            check(path)
            path.unlink()


if __name__ == "__main__":
    main()
