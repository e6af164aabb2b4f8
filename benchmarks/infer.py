"""How fast the network answers on a CPU: the engine that is shipped, and torch, same bundle.

python -m benchmarks.infer [--quick] [--json] [--write] [--bundle default]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Cell, Report, Table, add_options, publish
from dicom_ai_node.config.bundles import resolve_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels.normalise import normalise

OURS, EAGER, FOLDED = "onnxruntime", "torch eager", "torch, folded"
SIDES = (OURS, EAGER, FOLDED)
BATCHES = (1, 4, 16, 64)
THREADS = (1, 2)
MARK = 3.0
"""How many times torch eager at batch 1."""
QUESTION = """\
Images per second of the whole network on a CPU, images ready in memory. **onnxruntime** is the
engine that is shipped; **torch eager** the same bundle's network as torch builds it; **torch,
folded** the way this node asked it before: norms folded into convolutions, channels last. Each side
is a process of its own with so many threads; sides take turns within each repeat, medians. A batch
is what one call is given: onnxruntime computes as many images at a time as it has threads."""
Images = NDArray[np.float32]


def answers(side: str, bundle: Path, threads: int) -> tuple[Estimator, Callable[[Images], object]]:
    """Return the estimator of a side, and what computes its network."""
    if side != EAGER:
        estimator = Estimator(bundle, device="cpu", batch=64, threads=threads, eager=side == FOLDED)
        return estimator, estimator.measure
    import torch

    from dicom_ai_node.inference.bundle import WEIGHTS
    from dicom_ai_node.inference.engine import read_tensors
    from dicom_ai_node.inference.torch_engine import load_network

    estimator = Estimator(bundle, device="cpu", batch=64, threads=threads, eager=True)
    manifest, tensors = estimator.manifest, read_tensors(bundle / WEIGHTS)
    network = load_network(manifest.architecture, tensors, bundle, manifest.rows, manifest.channels)

    @torch.inference_mode()
    def run(images: Images) -> object:
        features, texture = network.pooled(torch.from_numpy(images)[:, None])
        return network.values(network.answer(features)), texture

    return estimator, run


def work(side: str, bundle: Path, threads: int) -> None:
    """Be a side: for each line, a number of images and what of, print what they took as JSON."""
    started = time.perf_counter()
    estimator, run = answers(side, bundle, threads)
    chests = [phantom.chest(25 + 11 * s, "FM"[s % 2], s, 256) for s in range(4)]
    shown = np.stack([normalise(chest, estimator.size) for chest in chests])
    predictions = estimator.predict(shown)
    said = [[one.quantity("age").mu, one.category("sex").probabilities["F"]] for one in predictions]
    begun = time.perf_counter() - started
    print(json.dumps({"said": said, "begun": begun, "mb": peak()}), flush=True)
    for line in sys.stdin:
        number, what = line.split()
        images = np.resize(shown, (int(number), *shown.shape[1:]))
        before, at = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        run(images) if what == "network" else estimator.predict(images)
        wall, after = time.perf_counter() - at, resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps({"wall": wall, "cpu": used, "mb": peak()}), flush=True)


def peak() -> float:
    """Most memory that this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


@dataclass
class Side:
    """A side's process, and what it took: by number of images and what was computed."""

    process: "subprocess.Popen[str]"
    wall: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    cpu: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    mb: dict[int, float] = field(default_factory=dict)

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def ask(self, number: int, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number} {what}\n")
        self.process.stdin.flush()
        found = self.read()
        self.wall.setdefault((number, what), []).append(found["wall"])
        self.cpu.setdefault((number, what), []).append(found["cpu"])
        self.mb[number] = found["mb"]

    def ms(self, number: int, what: str = "network") -> float:
        return statistics.median(self.wall[number, what]) * 1000

    def cpu_ms(self, number: int, what: str = "network") -> float:
        return statistics.median(self.cpu[number, what]) * 1000


@contextmanager
def started(name: str, bundle: Path, threads: int) -> Iterator[Side]:
    command = [sys.executable, "-m", "benchmarks.infer", "--side", name, "--bundle", str(bundle)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        [*command, "--threads", str(threads)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Side(process)
        assert process.stdin is not None
        process.stdin.close()


def compare(report: Report, bundle: Path, threads: int, *, quick: bool) -> None:
    """Measure all sides with so many threads, and add what was found."""
    batches = BATCHES[:2] if quick else BATCHES
    with ExitStack() as running:
        sides = {name: running.enter_context(started(name, bundle, threads)) for name in SIDES}
        begun = {name: side.read() for name, side in sides.items()}
        for number in batches:
            for _ in range(2 if quick or number > 16 else max(3, 24 // number)):
                for side in sides.values():
                    side.ask(number, "network")
        for _ in range(2 if quick else 24):
            for name in (OURS, FOLDED):
                sides[name].ask(1, "answer")
    title = f"The network, {threads} {'thread' if threads == 1 else 'threads'}"
    columns = ["images in a call", "images/s", *(f"{name}" for name in SIDES[1:])]
    columns += ["times torch eager", "ms", "processor ms", *(f"MB, {name}" for name in SIDES)]
    table = Table(title, columns)
    for number in batches:
        ms = {name: side.ms(number) for name, side in sides.items()}
        rates = [number / one * 1000 for one in ms.values()]
        memory = [side.mb[number] for side in sides.values()]
        ours = sides[OURS]
        row: list[Cell] = [
            number,
            *rates,
            ms[EAGER] / ms[OURS],
            ms[OURS],
            ours.cpu_ms(number),
            *memory,
        ]
        table.rows.append(row)
    report.tables.append(table)
    whole = {name: sides[name].ms(1, "answer") for name in (OURS, FOLDED)}
    report.notes += [mark(sides, threads), said_alike(begun, threads)]
    report.notes.append(
        f"{threads} thread(s): a whole calibrated answer takes {whole[OURS]:.1f} ms, in torch"
        f" folded {whole[FOLDED]:.1f} ms; from import to first answers {begun[OURS]['begun']:.2f} s"
        f" and {begun[OURS]['mb']:.0f} MB, in torch {begun[FOLDED]['begun']:.2f} s and"
        f" {begun[FOLDED]['mb']:.0f} MB"
    )


def mark(sides: dict[str, Side], threads: int) -> str:
    ratios = {name: sides[name].ms(1) / sides[OURS].ms(1) for name in SIDES[1:]}
    met = "met" if ratios[EAGER] >= MARK else "missed"
    return (
        f"{threads} thread(s), one image: {ratios[EAGER]:.2f} times torch eager, mark"
        f" {MARK:g}: {met}; {ratios[FOLDED]:.2f} times torch folded and channels last"
    )


def said_alike(begun: dict[str, dict[str, Any]], threads: int) -> str:
    apart = np.abs(np.array(begun[OURS]["said"]) - np.array(begun[FOLDED]["said"])).max(axis=0)
    return (
        f"{threads} thread(s), parity: calibrated answers for four synthetic chests are at most"
        f" {apart[0]:.1e} years and {apart[1]:.1e} of probability off torch's"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--bundle", default="default", help="of chests, by age and sex")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    bundle = resolve_bundle(options.bundle)
    if options.side:
        work(options.side, bundle, options.threads)
        return
    report = Report("infer", " ".join(QUESTION.split()))
    for threads in THREADS:
        compare(report, bundle, threads, quick=options.quick)
    publish(report, options)


if __name__ == "__main__":
    main()
