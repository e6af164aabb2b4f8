"""Measure a bundle on synthetic series that it has not seen, and whether it looks where the age is.

    python -m training bodies-found --bundle runs/bodies/ct-age --count 40

The age of a synthetic body is planted in the density of its lumbar vertebrae
(:mod:`training.data.bodies`). Of Score-CAM's map the share that lies where these are seen is held
against the share that they take of the body; and its brightest spot is on them, or is not.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from dicom_ai_node.answers import SaliencyMethod
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.saliency import explain
from dicom_ai_node.pixels.projections import WINDOW, project
from dicom_ai_node.pixels.volume import arrange, volume
from training.data import bodies
from training.data.bodies import LOSS_PER_YEAR, Series
from training.data.options import BundleFolder
from training.fit.ages import AGE
from training.measure import markdown, metrics
from training.measure.metrics import estimate, resamples

FRESH = 100_000
"""Seeds from here on are of bodies that ``bodies`` does not write."""
SCATTER = 20.0
NEAR = 0.125
"""A spot is on the planted place within this share of the side: at 128 pixels half a cell of the
last feature maps."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One synthetic series as a network sees it."""

    tensor: NDArray[np.float32]
    """(2, S, S)."""
    planted: NDArray[np.bool_]
    """Where in the square the planted vertebrae are seen, in either projection."""


def shown(body: Series, size: int) -> Shown:
    """Project a series, and once more with its planted vertebrae as bright as can be."""
    stack = arrange(body.planes)
    bright = np.where(body.lumbar, np.int16(WINDOW[1]), body.images)
    tensor, lit = (
        project(volume(stack, (images[at] for at in stack.order)), size)
        for images in (body.images, bright)
    )
    return Shown(tensor, np.asarray((lit - tensor).max(axis=0) > 0.25))


def share_on(values: NDArray[np.float32], planted: NDArray[np.bool_]) -> float:
    """Share of a map that lies on the planted place."""
    return float(values[planted].sum() / max(float(values.sum()), 1e-9))


def points_to(values: NDArray[np.float32], planted: NDArray[np.bool_]) -> bool:
    """Whether the brightest spot of a map is on the planted place, or :data:`NEAR` it."""
    return bool(near(planted).flat[int(values.argmax())])


def near(planted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What lies within :data:`NEAR` of the planted place."""
    reach = int(NEAR * len(planted))
    wide = np.pad(planted, reach)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(windows.any(axis=(2, 3)))


def main(
    bundle: BundleFolder,
    count: Annotated[int, typer.Option(help="Fresh series.")] = 40,
    maps: Annotated[int, typer.Option(help="Of which so many are explained.")] = 20,
) -> None:
    """Measure and print."""
    estimator = Estimator(bundle, device="cpu")
    known = [bodies.series(FRESH + number) for number in range(count)]
    seen = [shown(body, estimator.size) for body in known]
    answers = estimator.predict(np.stack([one.tensor for one in seen]))
    said = [answer.quantity(AGE.name) for answer in answers]
    years = np.array([float(int(body.age)) for body in known])
    mu = np.array([one.mu for one in said])
    low, high = np.array([one.interval90 for one in said]).T
    weights = resamples([str(number) for number in range(count)])
    middle = np.full(count, np.median(years))
    inside = ((low <= years) & (years <= high)).astype(np.float64)
    rows = []
    for name, statistic, columns in (
        ("age MAE, years", metrics.mae, (mu, years)),
        ("of the median, years", metrics.mae, (middle, years)),
        ("coverage of 90 % intervals", metrics.mean, (inside,)),
        ("width of 90 % intervals, years", metrics.mean, (high - low,)),
    ):
        found = estimate(statistic, weights, *columns)
        within = f"{markdown.number(found.low)} to {markdown.number(found.high)}"
        rows.append([name, str(count), f"{markdown.number(found.value)} ({within})"])
    least = SCATTER / LOSS_PER_YEAR * np.sqrt(2 / np.pi)
    rows.append(["least that can be reached, years", "", markdown.number(float(least))])
    explained = [
        explain(estimator.network, one.tensor, method=SaliencyMethod.SCORE_CAM)[AGE.name]
        for one in seen[:maps]
    ]
    pairs = [(m.values, one.planted, one.tensor) for m, one in zip(explained, seen, strict=False)]
    on = float(np.mean([share_on(values, planted) for values, planted, _ in pairs]))
    area = float(np.mean([planted.sum() / (t > 0).any(axis=0).sum() for _, planted, t in pairs]))
    by_chance = float(np.mean([near(p)[(t > 0).any(axis=0)].mean() for _, p, t in pairs]))
    hits = float(np.mean([points_to(values, planted) for values, planted, _ in pairs]))
    rows.append(["Score-CAM on the planted place", str(len(pairs)), f"{on:.1%}"])
    rows.append(["... which is so much of the body", str(len(pairs)), f"{area:.1%}"])
    rows.append(["Score-CAM's brightest spot on or near it", str(len(pairs)), f"{hits:.1%}"])
    rows.append(["... by chance, of the body", str(len(pairs)), f"{by_chance:.1%}"])
    print(markdown.table(["of synthetic series", "series", ""], rows))
