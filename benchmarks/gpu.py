"""How fast the network answers on a GPU, by batch, as the node asks it and as it might.

    python -m benchmarks.gpu [--quick] [--json] [--write] [--bundle default]

Nothing of what it tries is in the node before it was measured here. Takes some five minutes of a
GPU. Without one, ``--quick`` runs every way that needs none, on small batches, on the CPU.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import Cell, Report, Table, add_options, publish
from dicom_ai_node.config.bundles import resolve_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.network import Network
from dicom_ai_node.pixels.normalise import normalise

BATCHES = (1, 4, 16, 64, 256)
BUCKETS = (1, 4, 16, 64)
"""Batches of which a CUDA graph is captured."""
WORD = 65535.0
QUESTION = """\
Images per second of the whole network, from images in the memory of the host to answers there, so
with both copies; median of repeats. **node** is what the node does: float32 images, autocast to
bfloat16, channels last. **words** sends 16-bit words from pinned memory, makes float of them on the
device and keeps the weights in bfloat16. **compiled** is that by torch.compile, **graph** that as a
CUDA graph for each bucket. Parity is the largest difference of the age, years, and of the sex's
logit to float32 on the CPU."""
Way = Callable[[np.ndarray], np.ndarray]
"""From images (N, S, S), float32 in [0, 1], to age and sex's logit (N, 2)."""


class Words(nn.Module):
    """The network over 16-bit words (N, 1, S, S)."""

    def __init__(self, network: Network, kind: torch.dtype) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, words: Tensor) -> Tensor:
        images = (words.to(torch.float32) / WORD).to(self.kind)
        images = images.contiguous(memory_format=torch.channels_last)
        return said(self.network, self.network.pooled(images)[0].to(self.kind))


def said(network: Network, features: Tensor) -> Tensor:
    values = network.values(network.answer(features))
    return torch.stack([values["age"][:, 0].float(), values["sex"].float()], dim=1)


@dataclass
class Device:
    """Where it is measured."""

    name: str

    @property
    def is_cuda(self) -> bool:
        return self.name == "cuda"

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def words(self, images: np.ndarray) -> Tensor:
        """Words in the memory of the host, pinned where there is a GPU."""
        found = torch.from_numpy(np.rint(images * WORD).astype(np.uint16))[:, None]
        return found.pin_memory() if self.is_cuda else found


def as_the_node(estimator: Estimator, images: np.ndarray) -> np.ndarray:
    raw, _ = estimator.measure(images)
    return np.stack([raw["age"][:, 0], raw["sex"]], axis=1)


def by_words(module: Callable[[Tensor], Tensor], device: Device, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return module(device.words(images).to(device.name, non_blocking=True)).cpu().numpy()


class Graphs:
    """A CUDA graph for each bucket; a batch goes to the smallest that takes it."""

    def __init__(self, module: Words, device: Device, size: int) -> None:
        self._device = device
        self._captured: dict[int, tuple[Tensor, Tensor, torch.cuda.CUDAGraph]] = {}
        for bucket in BUCKETS:
            words = torch.zeros((bucket, 1, size, size), dtype=torch.uint16, device="cuda")
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            with torch.inference_mode(), torch.cuda.stream(stream):
                for _ in range(3):  # what is allocated and chosen at first is not captured
                    module(words)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), torch.cuda.graph(graph):
                answers = module(words)
            self._captured[bucket] = words, answers, graph

    def __call__(self, images: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(images), BUCKETS[-1]):
            part = images[start : start + BUCKETS[-1]]
            bucket = next(size for size in BUCKETS if size >= len(part))
            words, answers, graph = self._captured[bucket]
            words[: len(part)].copy_(self._device.words(part), non_blocking=True)
            graph.replay()
            found.append(answers[: len(part)].cpu().numpy())
        return np.concatenate(found)


def ways(bundle: Path, device: Device) -> dict[str, Way]:
    """Return every way that this device has."""
    node = Estimator(bundle, device=device.name, batch=256, eager=True)
    kind = torch.bfloat16 if device.is_cuda else torch.float32
    network = Estimator(bundle, device=device.name, eager=True).network.to(kind)
    module = Words(network, kind).eval()
    # Without a GPU there may be no compiler either: then only the tracing is tried.
    options = {"mode": "max-autotune-no-cudagraphs"} if device.is_cuda else {"backend": "eager"}
    compiled = torch.compile(module, dynamic=False, **options)  # type: ignore[call-overload]
    found: dict[str, Way] = {
        "node": lambda images: as_the_node(node, images),
        "words": lambda images: by_words(module, device, images),
        "compiled": lambda images: by_words(compiled, device, images),
    }
    if device.is_cuda:
        found["graph"] = Graphs(module, device, node.size)
    return found


def rate(way: Way, images: np.ndarray, device: Device, repeats: int) -> float:
    """Images per second."""
    way(images)
    device.wait()
    taken = []
    for _ in range(repeats):
        at = time.perf_counter()
        way(images)
        device.wait()
        taken.append(time.perf_counter() - at)
    return len(images) / statistics.median(taken)


def ceiling(device: Device, quick: bool) -> float:
    """Floating-point operations a second of a large product of matrices."""
    side = 512 if quick else 8192
    kind = torch.bfloat16 if device.is_cuda else torch.float32
    a = torch.ones((side, side), dtype=kind, device=device.name)
    taken = []
    for _ in range(6):
        at = time.perf_counter()
        _ = a @ a
        device.wait()
        taken.append(time.perf_counter() - at)
    return float(2 * side**3 / min(taken[1:]))


def operations(network: Network, size: int) -> float:
    """Floating-point operations of one image."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.pooled(torch.zeros(1, network.channels, size, size))
    return float(counter.get_total_flops())


def measure(bundle: Path, *, quick: bool) -> Report:
    device = Device("cuda" if torch.cuda.is_available() else "cpu")
    if not (device.is_cuda or quick):
        raise SystemExit("no GPU here: expected --quick")
    exact = Estimator(bundle, device="cpu", eager=True)
    drawn = [phantom.chest(25 + 7 * s, "FM"[s % 2], s, 256) for s in range(8)]
    chests = np.stack([normalise(one, exact.size) for one in drawn])
    expected = as_the_node(exact, chests)
    found = ways(bundle, device)
    batches = BATCHES[:2] if quick else BATCHES
    table = Table("The network on a GPU, images/s", ["images in a call", *found])
    best = 0.0
    for number in batches:
        images = np.resize(chests, (number, *chests.shape[1:]))
        repeats = 2 if quick else max(5, 200 // number)
        rates = [rate(way, images, device, repeats) for way in found.values()]
        best = max(best, *rates)
        row: list[Cell] = [number, *rates]
        table.rows.append(row)
    apart = Table("Parity with float32 on the CPU", ["way", "age, years", "sex, logit"])
    for name, way in found.items():
        away = np.abs(way(chests) - expected).max(axis=0)
        apart.rows.append([name, float(away[0]), float(away[1])])
    share = best * operations(exact.network, exact.size) / ceiling(device, quick)
    report = Report("gpu", " ".join(QUESTION.split()), [table, apart])
    if device.is_cuda:
        report.machine += f"; {torch.cuda.get_device_name()}"
    report.notes.append(
        f"the fastest reaches {share:.1%} of what a product of matrices does"
        + ("" if device.is_cuda else "; on a CPU, to see that it runs")
    )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--bundle", default="default", help="of chests, by age and sex")
    options = parser.parse_args()
    publish(measure(resolve_bundle(options.bundle), quick=options.quick), options)


if __name__ == "__main__":
    main()
