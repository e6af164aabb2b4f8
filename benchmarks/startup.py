"""From the start of a node to its first answer, and what a command costs before it does anything.

python -m benchmarks.startup [--quick] [--repeats 5]
"""

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from pynetdicom import AE

from benchmarks.peers import orthanc_command, storescp_command, tool
from benchmarks.report import Report, Table, add_options, publish
from dicom_ai_node.dicom.classes import VERIFICATION
from tests.acceptance.harness import noise
from tests.builders.ports import free_port

ECHO_MARK, HELP_MARK = 1.5, 0.3
_AE = "DICOMAINODE"
_SETTLE = 6.0
"""Seconds after the first answer in which a side finishes its start."""


@dataclass(frozen=True)
class Side:
    """Something that answers C-ECHO."""

    name: str
    command: Callable[[Path, int], list[str]]
    """Makes what it needs in a folder and returns how it is started there, for a port."""
    files: Callable[[], Iterator[Path]]
    """What it is loaded from."""


def node_command(folder: Path, port: int, extra: str = "") -> list[str]:
    """Write a configuration with relative paths, unless one is there."""
    path = folder / "node.toml"
    path.write_text(
        f'[node]\nbind = "127.0.0.1"\nport = {port}\n[web]\nport = {free_port()}\n'
        '[storage]\nspool = "spool"\ndatabase = "sqlite:///node.db"\n'
        f'min_free_mb = 10\nwarn_free_mb = 20\n[log]\nformat = "json"\n{extra}',
        encoding="utf-8",
    )
    return [sys.executable, "-m", "dicom_ai_node", "serve", "-c", str(path)]


def packages() -> Iterator[Path]:
    """Yield what Python loads: its library, and the packages of this environment."""
    for folder in {Path(os.__file__).parent, *map(Path, sys.path)}:
        if folder.is_dir():
            yield from (file for file in folder.rglob("*") if file.suffix in (".pyc", ".so"))


def libraries(name: str) -> Iterator[Path]:
    """Yield a program and the shared libraries that it is linked with."""
    program = tool(name)
    yield Path(program)
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    yield from (Path(word) for word in listing.split() if word.startswith("/"))


SIDES = (
    Side("this node", node_command, packages),
    Side("DCMTK storescp", storescp_command, lambda: libraries("storescp")),
    Side("Orthanc", orthanc_command, lambda: libraries("Orthanc")),
)


@contextmanager
def started(command: Sequence[str], folder: Path) -> Iterator[psutil.Process]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_echo(port: int) -> None:
    """Return when a C-ECHO was answered with success; one question waits for its answer."""
    ae = AE("BENCH")
    ae.add_requested_context(VERIFICATION)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    for _ in range(6000):
        association = ae.associate("127.0.0.1", port, ae_title=_AE)
        if association.is_established:
            status = association.send_c_echo()
            association.release()
            if status.get("Status") == 0:
                return
        time.sleep(0.01)
    sys.exit("no answer to C-ECHO within a minute")


def group(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def spent(processes: Sequence[psutil.Process]) -> float:
    """Seconds of processor time, of ended children too."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def time_start(side: Side, folder: Path, *, cold: bool) -> tuple[float, float]:
    """Return the seconds to the first answer, and the processor's until the start is over."""
    port = free_port()
    command = side.command(folder, port)
    if cold:
        forget(side.files())
    began = time.perf_counter()
    with started(command, folder) as root:
        wait_for_echo(port)
        answered = time.perf_counter() - began
        time.sleep(_SETTLE if side.command is node_command else 0.5)
        return answered, spent([root]) + sum(spent([one]) for one in root.children())


def forget(files: Iterator[Path]) -> None:
    """Ask the kernel to drop the files from its cache; what a process has mapped stays."""
    for file in files:
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except OSError:
            continue
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def starts(work: Path, repeats: int) -> Table:
    table = Table(
        "Start to the first answered C-ECHO",
        ("side", "first ever, s", "again, s", "files not cached, s", "processor, s"),
    )
    found: dict[str, dict[str, list[tuple[float, float]]]] = {
        side.name: {"first": [], "again": [], "cold": []} for side in SIDES
    }
    for _ in range(repeats):
        for side in SIDES:
            with tempfile.TemporaryDirectory(dir=work) as name:
                for case in ("first", "again", "cold"):
                    timed = time_start(side, Path(name), cold=case == "cold")
                    found[side.name][case].append(timed)
    for side in SIDES:
        wall = [statistics.median(one[0] for one in runs) for runs in found[side.name].values()]
        processor = statistics.median(one[1] for one in found[side.name]["again"])
        table.rows.append([side.name, *wall, processor])
    return table


def commands(work: Path, repeats: int) -> Table:
    table = Table("Commands", ("command", "wall, s", "processor, s"))
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        config = node_command(folder, free_port())[-1]
        image = folder / "image.dcm"
        noise("1.2.3").save_as(image, enforce_file_format=True)
        ours = [sys.executable, "-m", "dicom_ai_node"]
        subprocess.run(
            [*ours, "db", "upgrade", "-c", config], stdout=subprocess.DEVNULL, check=True
        )
        asked = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "pydicom show FILE": [sys.executable, "-m", "pydicom", "show", str(image)],
            "dicom-ai-node --help": [*ours, "--help"],
            "dicom-ai-node studies --help": [*ours, "studies", "--help"],
            "dicom-ai-node audit start --help": [*ours, "audit", "start", "--help"],
            "dicom-ai-node check-config": [*ours, "check-config", "-c", config],
            "dicom-ai-node check-header FILE": [*ours, "check-header", str(image), "-c", config],
            "dicom-ai-node status": [*ours, "status", "-c", config],
            "dicom-ai-node studies": [*ours, "studies", "-c", config],
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        for _ in range(repeats):
            for name, command in asked.items():
                runs[name].append(run_once(command))
    for name, timed in runs.items():
        table.rows.append(
            [name, *(statistics.median(column) for column in zip(*timed, strict=True))]
        )
    return table


def run_once(command: Sequence[str]) -> tuple[float, float]:
    """Return the seconds that a command took, and those of the processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):  # 1: the node of 'status' does not run
        sys.exit(f"{' '.join(command)}: {done.stderr.decode()[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def mark(what: str, seconds: float, limit: float) -> str:
    verdict = "met" if seconds <= limit else "MISSED"
    return f"Mark {verdict}: {what} after {seconds:.2f} s, wanted within {limit:g} s."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder on the disk to measure")
    options = parser.parse_args()
    repeats = 1 if options.quick else options.repeats
    with tempfile.TemporaryDirectory(dir=options.work, prefix="startup-") as name:
        tables = [starts(Path(name), repeats), commands(Path(name), repeats)]
    again, help_wall = tables[0].rows[0][2], tables[1].rows[2][1]
    assert isinstance(again, float)
    assert isinstance(help_wall, float)
    publish(
        Report(
            "startup",
            "How long from the exec of `serve` to the first C-ECHO that is answered, beside"
            " DCMTK storescp and Orthanc; and what the commands cost. The first start ever also"
            " makes the database. For the files that are not cached the kernel is asked to drop"
            " what each side is loaded from (posix_fadvise). Processor: of the whole group until"
            f" its start is over. Medians of {repeats}, the sides in turns.",
            tables,
            [
                mark("C-ECHO of a node that has run before", again, ECHO_MARK),
                mark("`--help`", help_wall, HELP_MARK),
            ],
        ),
        options,
    )


if __name__ == "__main__":
    main()
