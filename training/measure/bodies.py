"""Measure a bundle on synthetic series that it has not seen, and whether it looks where the age is.

    python -m training bodies-found --bundle runs/bodies/ct-age --count 40 --planted gain

The age of a synthetic body is planted in the density of one place (:mod:`training.data.bodies`). Of
each map the share that lies where this is seen is held against the share that it takes of the body;
and its brightest spot is on it, or is not. Whether the network itself looks there is told without
any map: by how far the estimate moves when the place is blurred, and when as much elsewhere is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from dicom_ai_node.answers import SaliencyMethod
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.saliency import explain
from dicom_ai_node.inference.torch_engine import run
from dicom_ai_node.pixels.projections import WINDOW, project
from dicom_ai_node.pixels.volume import arrange, volume
from training.data import bodies
from training.data.bodies import PLANTED, SCATTER, Series
from training.data.options import BundleFolder
from training.fit.ages import AGE
from training.measure import markdown, metrics
from training.measure.metrics import estimate, resamples
from training.readers.bodies import PlantedName

FRESH = 100_000
"""Seeds from here on are of bodies that ``bodies`` does not write."""
NEAR = 16
"""A spot is on the planted place within so many pixels: half a cell of the last feature maps."""
BLUR = 1 / 8
"""Side of the squares, as a share of the image's, that a blurred place is the mean of."""

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One synthetic series as a network sees it."""

    tensor: Pixels
    """(2, S, S)."""
    planted: Mask
    """Where in the square the planted place is seen, in either projection."""

    @property
    def body(self) -> Mask:
        """Where there is something to be seen."""
        return np.asarray((self.tensor > 0).any(axis=0))


def shown(body: Series, size: int) -> Shown:
    """Project a series, and once more with its planted place as bright as can be."""
    stack = arrange(body.planes)
    bright = np.where(body.planted, np.int16(WINDOW[1]), body.images)
    tensor, lit = (
        project(volume(stack, (images[at] for at in stack.order)), size)
        for images in (body.images, bright)
    )
    return Shown(tensor, np.asarray((lit - tensor).max(axis=0) > 0.25))


def share_on(values: Pixels, planted: Mask) -> float:
    """Share of a map that lies on the planted place."""
    return float(values[planted].sum() / max(float(values.sum()), 1e-9))


def points_to(values: Pixels, planted: Mask) -> bool:
    """Whether the brightest spot of a map is on the planted place, or :data:`NEAR` it."""
    return bool(near(planted).flat[int(values.argmax())])


def near(planted: Mask) -> Mask:
    """What lies within :data:`NEAR` of the planted place."""
    wide = np.pad(planted, NEAR)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (2 * NEAR + 1, 2 * NEAR + 1))
    return np.asarray(windows.any(axis=(2, 3)))


def blurred(tensor: Pixels, where: Mask) -> Pixels:
    """An input whose pixels ``where`` are the means of squares of :data:`BLUR`."""
    cell = int(BLUR * tensor.shape[-1])
    parts = tensor.reshape(len(tensor), -1, cell, tensor.shape[-1] // cell, cell)
    means = np.broadcast_to(parts.mean(axis=(2, 4), keepdims=True), parts.shape)
    return np.where(where, means.reshape(tensor.shape), tensor)


def brightest(values: Pixels, area: int) -> Mask:
    """The ``area`` pixels in which a map is brightest."""
    found = np.zeros(values.size, np.bool_)
    found[np.argsort(values, axis=None)[values.size - area :]] = True
    return found.reshape(values.shape)


def elsewhere(one: Shown, rng: np.random.Generator) -> Mask:
    """As many pixels of the body beside the planted place, in squares of :data:`BLUR`."""
    side = len(one.planted)
    cell = int(BLUR * side)
    lot = rng.random((side // cell, side // cell)).repeat(cell, axis=0).repeat(cell, axis=1)
    free = one.body & ~near(one.planted)
    return brightest(np.where(free, 1 + lot, 0).astype(np.float32), int(one.planted.sum()))


def main(
    bundle: BundleFolder,
    count: Annotated[int, typer.Option(help="Fresh series.")] = 40,
    maps: Annotated[int, typer.Option(help="Of which so many are explained.")] = 20,
    planted: PlantedName = "loss",
) -> None:
    """Measure and print."""
    estimator = Estimator(bundle, device="cpu")
    known = [bodies.series(FRESH + at, planted=PLANTED[planted]) for at in range(count)]
    seen = [shown(body, estimator.size) for body in known]
    rows = estimates(estimator, known, seen) + places(estimator, seen[:maps])
    print(markdown.table(["of synthetic series", "series", ""], rows))


Row = list[str]


def estimates(estimator: Estimator, known: Sequence[Series], seen: Sequence[Shown]) -> list[Row]:
    """How good the estimates are."""
    answers = estimator.predict(np.stack([one.tensor for one in seen]))
    said = [answer.quantity(AGE.name) for answer in answers]
    years = np.array([float(int(body.age)) for body in known])
    mu = np.array([one.mu for one in said])
    low, high = np.array([one.interval90 for one in said]).T
    middle = np.full(len(years), np.median(years))
    inside = ((low <= years) & (years <= high)).astype(np.float64)
    rows = [
        _row("age MAE, years", metrics.mae, mu, years),
        _row("of the median, years", metrics.mae, middle, years),
        _row("coverage of 90 % intervals", metrics.mean, inside),
        _row("width of 90 % intervals, years", metrics.mean, high - low),
    ]
    least = markdown.number(float(SCATTER * np.sqrt(2 / np.pi)))
    return [*rows, ["least that can be reached, years", "", least]]


def places(estimator: Estimator, seen: Sequence[Shown]) -> list[Row]:
    """Where each method points to, and what the estimate rests on."""
    size = str(len(seen))
    rng = np.random.default_rng(0)
    areas = [int(one.planted.sum()) for one in seen]
    near_by = [near(one.planted)[one.body].mean() for one in seen]
    planted = [one.planted for one in seen]
    rows = [
        _moved("planted place", estimator.network, seen, planted),
        _moved("as much elsewhere", estimator.network, seen, [elsewhere(o, rng) for o in seen]),
        [
            "planted place, of the body",
            size,
            f"{np.mean([a / one.body.sum() for a, one in zip(areas, seen, strict=True)]):.1%}",
        ],
        ["on or near it, of the body", size, f"{np.mean(near_by):.1%}"],
    ]
    for name, method in METHODS.items():
        found = [
            explain(estimator.network, one.tensor, method=method)[AGE.name].values for one in seen
        ]
        on = [share_on(values, one.planted) for values, one in zip(found, seen, strict=True)]
        hits = [points_to(values, one.planted) for values, one in zip(found, seen, strict=True)]
        most = [brightest(values, area) for values, area in zip(found, areas, strict=True)]
        rows += [
            [f"{name} on the planted place", size, f"{np.mean(on):.1%}"],
            _row(f"{name}'s brightest spot on or near it", metrics.mean, np.array(hits, float)),
            _moved(f"{name}'s brightest place", estimator.network, seen, most),
        ]
    return rows


METHODS = {"Grad-CAM": SaliencyMethod.GRAD_CAM, "Score-CAM": SaliencyMethod.SCORE_CAM}


def _row(name: str, statistic: Callable[..., metrics.Floats], *columns: metrics.Floats) -> Row:
    """A figure with its interval; each series is a patient."""
    weights = resamples([str(number) for number in range(len(columns[0]))])
    found = estimate(statistic, weights, *columns)
    within = f"{markdown.number(found.low)} to {markdown.number(found.high)}"
    return [name, str(len(columns[0])), f"{markdown.number(found.value)} ({within})"]


def _moved(name: str, network: Network, seen: Sequence[Shown], where: Sequence[Mask]) -> Row:
    """By how many years the estimate falls when a place is blurred."""
    before = run(network, np.stack([one.tensor for one in seen]))
    after = run(
        network, np.stack([blurred(one.tensor, at) for one, at in zip(seen, where, strict=True)])
    )
    fall = (before[AGE.name][:, 0] - after[AGE.name][:, 0]).astype(np.float64)
    return _row(f"blurred {name}: estimate falls by, years", metrics.mean, fall)
