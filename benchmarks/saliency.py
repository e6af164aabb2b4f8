"""How long saliency maps take, and whether they change with the weights.

    python -m benchmarks.saliency [--bundle default] [--device cpu] [--threads 0] [--repeats 7]
                                   [--all-channels]
    python -m benchmarks.saliency --sanity [--images 4] [--seeds 3] [--data ../shared/data]
                                   [--method score-cam] [--layers head backbone.15 ...]

Times are of one image and both heads, pixels decoded, on synthetic chests; the methods take turns
within each repeat, so that other work on the machine hits all of them. ``--sanity`` randomises the
network from its head down (Adebayo et al. 2018) and prints what is left of the maps: the rank
correlation with the intact ones, as mean and range over images and seeds. With ``--data`` the
images are the first of ``val`` by path, else synthetic chests. ``--layers`` are those at which maps
are made, for each costs one; all are randomised in their order.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_ai_node.answers import SaliencyMethod
from dicom_ai_node.config.bundles import resolve_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import HEADS
from dicom_ai_node.inference.saliency import CHANNELS, explain
from dicom_ai_node.pixels.normalise import normalise
from tests.builders.sanity import cascade
from training.data import project as own

AGES = ((35.0, "F"), (70.0, "M"), (50.0, "F"), (80.0, "M"))
Floats = NDArray[np.float32]


def chests(estimator: Estimator, count: int) -> list[Floats]:
    drawn = [phantom.chest(*AGES[i % len(AGES)], seed=i) for i in range(count)]
    return [normalise(one, estimator.size) for one in drawn]


def radiographs(estimator: Estimator, root: Path, count: int) -> list[Floats]:
    paths = sorted(item.path for item in own.items(root) if item.role == "val")
    return [normalise(own.read(root / path), estimator.size) for path in paths[:count]]


def times(estimator: Estimator, repeats: int, *, every: bool) -> None:
    image = chests(estimator, 1)[0]

    def maps(method: SaliencyMethod, channels: int = CHANNELS) -> None:
        explain(estimator.network, image, method=method, device=estimator.device, channels=channels)

    sides: dict[str, Callable[[], object]] = {
        "prediction alone": lambda: estimator.predict(image[None]),
        "grad-cam": lambda: maps(SaliencyMethod.GRAD_CAM),
        f"score-cam, {CHANNELS} channels": lambda: maps(SaliencyMethod.SCORE_CAM),
    }
    if every:
        channels = estimator.network.head.in_features
        sides[f"score-cam, all {channels} channels"] = lambda: maps(
            SaliencyMethod.SCORE_CAM, channels
        )
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            if turn:  # the first turn warms up
                taken[name].append(time.perf_counter() - start)
    print("| one image, both heads | median, s | fastest | slowest |\n|---|---|---|---|")
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"| {name} | {middle:.3f} | {min(seconds):.3f} | {max(seconds):.3f} |")


def sanity(
    estimator: Estimator,
    shown: Sequence[Floats],
    seeds: int,
    methods: Sequence[SaliencyMethod],
    only: Collection[str] | None,
) -> None:
    for method in methods:
        left: dict[str, dict[str, list[float]]] = {}
        for seed in range(seeds):
            for number, image in enumerate(shown):
                print(f"{method}: seed {seed}, image {number}", file=sys.stderr, flush=True)
                for step in cascade(
                    estimator.network, image, method=method, device=estimator.device, seed=seed,
                    only=only,
                ):  # fmt: skip
                    row = left.setdefault(step.layer, {head.name: [] for head in HEADS})
                    for head, correlation in step.correlation.items():
                        row[head].append(correlation)
        print(f"\n| {method.value}: randomised down to | age | sex |\n|---|---|---|")
        for layer, row in left.items():
            print(f"| {layer} | {_spread(row['age'])} | {_spread(row['sex'])} |")


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} [{min(values):.2f} to {max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="saliency maps: time, and sanity")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0: the library's choice")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--all-channels", action="store_true", help="score-cam with all, too")
    parser.add_argument("--sanity", action="store_true")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="real radiographs instead of synthetic ones")
    parser.add_argument("--method", choices=list(SaliencyMethod), help="of --sanity; else both")
    parser.add_argument("--layers", nargs="+", help="of --sanity; else all")
    given = parser.parse_args()
    bundle = resolve_bundle(given.bundle)
    estimator = Estimator(bundle, device=given.device, threads=given.threads or None)
    manifest = estimator.manifest
    print(
        f"{manifest.name} {manifest.version}: {manifest.architecture}, {estimator.size} px,"
        f" {estimator.device}, {torch.get_num_threads()} threads\n"
    )
    if given.sanity:
        methods = [SaliencyMethod(given.method)] if given.method else list(SaliencyMethod)
        shown = (
            radiographs(estimator, given.data, given.images)
            if given.data
            else chests(estimator, given.images)
        )
        sanity(estimator, shown, given.seeds, methods, given.layers)
    else:
        times(estimator, given.repeats, every=given.all_channels)


if __name__ == "__main__":
    main()
