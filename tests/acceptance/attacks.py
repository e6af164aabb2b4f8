"""Peers that want to keep others out, on loopback alone, and how a node fares meanwhile.

    python -m tests.acceptance.attacks [--seconds 100] [NAME ...]

Each attack has the two receivers of a node to itself. While it lasts DCMTK's echoscu and storescu,
from an address that does not attack, are run again and again; what they took, what the attackers
got, and the memory of the receivers are printed. Attackers open a bounded number of connections and
end by the clock.
"""

import argparse
import contextlib
import os
import re
import selectors
import socket
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pydicom.filewriter import dcmwrite
from pynetdicom.dsutils import encode

from tests.acceptance.harness import noise
from tests.acceptance.receivers import Receivers
from tests.builders.receiving import DX, RawPeer, dcmtk, store_command

COMMAND, DATA, LAST = 1, 0, 2
_VERIFICATION = "1.2.840.10008.1.1"
_PROBE_SECONDS = 30
_ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 6))


@dataclass
class Outcome:
    """What was seen during one attack."""

    connections: int = 0
    accepted: int = 0
    """Associations that the attackers got."""
    ended: list[float] = field(default_factory=list)
    """Seconds after which the node ended them."""
    echo: list[float] = field(default_factory=list)
    """Seconds of each C-ECHO that succeeded."""
    echo_failed: int = 0
    study: list[float] = field(default_factory=list)
    """Seconds of each study of three images that was acknowledged."""
    study_failed: int = 0
    resident_mb: int = 0
    """The most that one receiver had."""
    least_free_mb: float | None = None
    status: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    """Of the associations that ended, from the log."""

    def lines(self) -> Iterator[str]:
        yield f"attackers: {self.connections} connections, {self.accepted} accepted"
        if self.ended:
            first, last = min(self.ended), max(self.ended)
            yield f"ended by the node: {len(self.ended)}, after {first:.0f} to {last:.0f} s"
        else:
            yield "ended by the node: none"
        for name, took, failed in (
            ("C-ECHO", self.echo, self.echo_failed),
            ("study", self.study, self.study_failed),
        ):
            longest = f", longest {max(took):.2f} s" if took else ""
            yield f"{name}: {len(took)} succeeded, {failed} failed{longest}"
        yield f"memory of the larger receiver: {self.resident_mb} MB"
        if self.least_free_mb is not None:
            yield f"free at the least: {self.least_free_mb:.1f} MB; answer: {self.status}"
        for reason, count in self.reasons.items():
            yield f"log: {count} x {reason}"


class Attacker:
    """One connection of an attacker, and what it sends when it is its turn."""

    def __init__(self, address: str, port: int, sends: Iterator[bytes], *, pause: float) -> None:
        self.peer = RawPeer.__new__(RawPeer)
        self.peer.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=15, source_address=(address, 0)
        )
        self.began = time.monotonic()
        self._sends, self._pause = sends, pause
        self._due = self.began

    def associate(self, sop_class: str) -> bool:
        with contextlib.suppress(AssertionError, OSError):
            self.peer.associate(sop_class)
            return True
        return False

    def step(self, now: float) -> bool:
        """Send what is due; False when the node has ended it."""
        if now < self._due:
            return True
        self._due = now + self._pause
        try:
            self.peer.socket.sendall(next(self._sends, b""))
        except OSError:
            return False
        return True


def fragments(size: int) -> bytes:
    """The head of a P-DATA-TF that holds one fragment of a data set."""
    return struct.pack(">BxIIBB", 4, size + 6, size + 2, 1, DATA)


def command() -> bytes:
    body = store_command(sop="1.2.3")
    return struct.pack(">BxIIBB", 4, len(body) + 6, len(body) + 2, 1, COMMAND | LAST) + body


def slow_store() -> Iterator[bytes]:
    """A C-STORE whose fragment comes byte by byte."""
    yield command() + fragments(16000)
    while True:
        yield b"\0"


def silent_store() -> Iterator[bytes]:
    """A C-STORE that begins and never goes on."""
    yield command() + fragments(16000)[:6]
    while True:
        yield b""


def tiny_pdus() -> Iterator[bytes]:
    """A C-STORE in PDUs of one byte."""
    yield command()
    while True:
        yield fragments(1) + b"\0"


def dribbled_request() -> Iterator[bytes]:
    """An A-ASSOCIATE-RQ byte by byte."""
    yield struct.pack(">BxI", 1, 8000)
    while True:
        yield b"\0"


def endless_echo() -> Iterator[bytes]:
    """C-ECHO after C-ECHO, with no answer read."""
    echo = Dataset()
    echo.AffectedSOPClassUID = _VERIFICATION
    echo.CommandField, echo.MessageID, echo.CommandDataSetType = 0x0030, 1, 0x0101
    body = encode(echo, True, True) or b""
    body = struct.pack("<HHII", 0, 0, 4, len(body)) + body
    while True:
        yield struct.pack(">BxIIBB", 4, len(body) + 6, len(body) + 2, 1, COMMAND | LAST) + body


@dataclass(frozen=True)
class Plan:
    """An attack by many connections."""

    sends: Callable[[], Iterator[bytes]]
    pause: float
    connections: int = 256
    addresses: tuple[str, ...] = _ADDRESSES
    sop_class: str | None = DX
    """None: no association is asked for in one piece."""


PLANS = {
    "slow-store": Plan(slow_store, 20.0),
    "slow-store-8-addresses": Plan(
        slow_store, 20.0, addresses=tuple(f"127.0.0.{number}" for number in range(2, 10))
    ),
    "silent-store": Plan(silent_store, 20.0),
    "one-byte-pdus": Plan(tiny_pdus, 1.0),
    "dribbled-request": Plan(dribbled_request, 1.0, sop_class=None),
    "endless-echo": Plan(endless_echo, 0.5, sop_class=_VERIFICATION),
}


def run_many(plan: Plan, folder: Path, *, seconds: float, receive: str = "") -> Outcome:
    """Attack a node of its own for so long, with probes meanwhile."""
    outcome = Outcome()
    with Receivers(folder / "node", receive=receive, spool=folder / "spool") as node:
        study = _study(folder)
        attackers: list[Attacker] = []
        for number in range(plan.connections):
            address = plan.addresses[number % len(plan.addresses)]
            attacker = Attacker(address, node.port, plan.sends(), pause=plan.pause)
            if plan.sop_class is None or attacker.associate(plan.sop_class):
                attackers.append(attacker)
                outcome.accepted += plan.sop_class is not None
            else:
                attacker.peer.socket.close()
        outcome.connections = plan.connections
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            _round(attackers, outcome)
            _probe(node, study, outcome)
        _round(attackers, outcome)
        for attacker in attackers:
            attacker.peer.socket.close()
        _read_log(node, outcome)
    return outcome


def _round(attackers: list[Attacker], outcome: Outcome) -> None:
    """Let each attacker send what is due, and notice who has been ended."""
    now = time.monotonic()
    closed = [one for one in attackers if not one.step(now) or _is_closed(one)]
    for attacker in closed:
        outcome.ended.append(now - attacker.began)
        attacker.peer.socket.close()
        attackers.remove(attacker)


def _is_closed(attacker: Attacker) -> bool:
    """Whether the node has ended it; what it answered until then is not read further."""
    with selectors.DefaultSelector() as selector:
        selector.register(attacker.peer.socket, selectors.EVENT_READ)
        if not selector.select(0):
            return False
    try:
        head = attacker.peer.socket.recv(1, socket.MSG_PEEK)
        if head[:1] == b"\x04":  # an answer to a C-ECHO
            attacker.peer.socket.recv(65536)
            return False
    except OSError:
        return True
    return True


def _probe(node: Receivers, study: list[Path], outcome: Outcome) -> None:
    for program, files, took in (("echoscu", [], outcome.echo), ("storescu", study, outcome.study)):
        began = time.monotonic()
        done = _run(program, node.port, files)
        if done:
            took.append(time.monotonic() - began)
        elif program == "echoscu":
            outcome.echo_failed += 1
        else:
            outcome.study_failed += 1
    outcome.resident_mb = max(outcome.resident_mb, node.resident_mb())
    time.sleep(1.0)


def _run(name: str, port: int, files: list[Path]) -> bool:
    program = dcmtk(name)
    assert program is not None, f"DCMTK's {name} is not installed"
    timeouts = ["-ta", str(_PROBE_SECONDS), "-td", str(_PROBE_SECONDS)]
    words = [program, *timeouts, "-aec", "DICOMAINODE", "127.0.0.1", str(port), *map(str, files)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=4 * _PROBE_SECONDS)
    return done.returncode == 0


def _study(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.dcm" for number in range(3)]
    for number, path in enumerate(paths):
        dcmwrite(path, noise("good", number), enforce_file_format=True)
    return paths


def _read_log(node: Receivers, outcome: Outcome) -> None:
    reasons: Counter[str] = Counter()
    for event in node.events():
        if event.get("calling_ae") == "RAW" or event["event"].startswith("association_not"):
            reason = re.sub(r"\d+ bytes in \d+ s|for \d+ s", "...", str(event.get("reason", "")))
            reasons[f"{event['event']}: {reason}"] += 1
    outcome.reasons = dict(reasons.most_common(5))


def run_large(folder: Path, *, megabytes: int = 138, disk_mb: int = 150, mark: int = 40) -> Outcome:
    """Send one object that does not fit to a node whose spool is a small file system."""
    outcome = Outcome(connections=1, accepted=1)
    spool = folder / "disk"
    spool.mkdir()
    with (
        _mounted(spool, disk_mb),
        Receivers(folder / "node", spool=spool / "spool", min_free_mb=mark) as node,
    ):
        study = _study(folder)
        free = [_free_mb(spool)]
        with RawPeer(node.port) as peer:
            peer.socket.settimeout(_PROBE_SECONDS * 4)
            peer.associate()
            peer.socket.sendall(command())
            for sent in range(4 * megabytes):
                last = sent == 4 * megabytes - 1
                peer.p_data((LAST if last else DATA, bytes(2**18)))
                free.append(_free_mb(spool))
                if sent == 3 * megabytes:
                    _probe(node, study, outcome)
            try:
                outcome.status = f"0x{peer.status():04X}"
            except (AssertionError, OSError):
                outcome.status = "none"
        outcome.least_free_mb = min(free)
        _probe(node, study, outcome)
        _read_log(node, outcome)
    return outcome


def _free_mb(path: Path) -> float:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize / 2**20


@contextlib.contextmanager
def _mounted(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own; only root may make one."""
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PLANS)}, large-object")
    parser.add_argument("--seconds", type=float, default=100.0)
    arguments = parser.parse_args()
    for name in arguments.names or [*PLANS, "large-object"]:
        with tempfile.TemporaryDirectory() as folder:
            if name == "large-object":
                outcome = run_large(Path(folder))
            else:
                outcome = run_many(PLANS[name], Path(folder), seconds=arguments.seconds)
        print(f"{name}\n  " + "\n  ".join(outcome.lines()), flush=True)


if __name__ == "__main__":
    main()
