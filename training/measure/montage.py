"""Where the network looks: images that a rule chooses, each with its Grad-CAM maps, in one figure.

    python -m training montage --bundle models/chest-age-sex --out runs/report

The rule, so that nobody picks by eye: of each of this project's data sets, among the images that
every gate lets pass, those of the smallest, the median (the lower of two) and the largest absolute
error of the age, and the one whose P(female) is nearest to one half. Compared to four decimals, as
``predictions.csv`` has them; of equals, the first in the order of their paths (for the largest
error, the last).

The figure shows images of the data, so it stays in the report's folder: their licences, of which
some allow neither changed copies nor commercial use, stand next to them.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.figure import SubFigure
from numpy.typing import NDArray
from PIL import Image

from dicom_ai_node.answers import SaliencyMap
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import HEADS
from dicom_ai_node.inference.saliency import explain
from dicom_ai_node.pixels.normalise import normalise
from dicom_ai_node.report.capture import overlay
from training.data import project
from training.data.images import PROJECT_SETS
from training.data.options import BUNDLE, REPORT, ROOT, BundleFolder, Report, Root
from training.measure.metrics import Bools, Floats
from training.measure.table import PredictionTable, read_csv

FILE = "montage.png"
CAPTION = "Where the network looks: Grad-CAM of images that a rule chose (`measure/montage.py`)"
BEST, MEDIAN, WORST = "smallest age error", "median age error", "largest age error"
UNSURE = "least certain sex"
_TITLE = (
    "Grad-CAM: what raises the age, what speaks for the sex that is estimated. Violet to yellow is"
    " 0 to 1,\neach map scaled to its own largest value. Research, not a medical device."
)
_WEIGHTS = "Weights SHA-256"
_ACROSS = 2
_WIDE = 95
"""Characters of a caption's line."""


@dataclass(frozen=True, slots=True)
class ChosenImage:
    """One image, and why it is shown."""

    row: int
    """Of the table."""
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class ImageWithMaps:
    """One image as the network saw it, shape (S, S) in [0, 1], and its maps."""

    pixels: NDArray[np.float32]
    maps: Mapping[str, SaliencyMap]


def choose(table: PredictionTable) -> list[ChosenImage]:
    """The images that the rule of this module chooses, by data set; one may be chosen twice."""
    cases = []
    for data_set in PROJECT_SETS:
        among = (table.dataset == data_set.name) & table.answered
        errors = _ranked(table, among, np.abs(table.age - table.recorded))
        if errors:
            middle = errors[(len(errors) - 1) // 2]
            cases += [
                ChosenImage(errors[0], BEST),
                ChosenImage(middle, MEDIAN),
                ChosenImage(errors[-1], WORST),
            ]
        doubts = _ranked(table, among & ~np.isnan(table.female), np.abs(table.p_female - 0.5))
        cases += [ChosenImage(row, UNSURE) for row in doubts[:1]]
    return cases


def _ranked(table: PredictionTable, among: Bools, values: Floats) -> list[int]:
    """Rows ``among`` those with a value, the smallest first, then by path."""
    rows = np.flatnonzero(among & ~np.isnan(values))
    order = np.lexsort((table.image[rows], np.round(values[rows], 4)))
    return [int(row) for row in rows[order]]


def describe(table: PredictionTable, case: ChosenImage, licence: str) -> str:
    """What stands above an image: what was recorded, what is estimated, whose it is."""
    i = case.row
    low, high = (ends[i] for ends in table.interval("90"))
    recorded = "no age" if np.isnan(table.recorded[i]) else f"age {table.recorded[i]:g}"
    sex = {1.0: "sex F", 0.0: "sex M"}.get(float(table.female[i]), "no sex")
    lines = [
        f"{table.dataset[i]}: {case.rule}",
        f"recorded: {recorded}, {sex}",
        f"estimated: age {table.age[i]:.1f} (90 %: {low:.1f} to {high:.1f}),"
        f" P(female) {table.p_female[i]:.3f}",
        f"{table.image[i]}; licence: {licence}",
    ]
    return "\n".join(part for line in lines for part in textwrap.wrap(line, _WIDE))


def draw(
    table: PredictionTable,
    cases: Sequence[ChosenImage],
    seen: Sequence[ImageWithMaps],
    captions: Sequence[str],
) -> Canvas:
    """The figure: two images a line, each data set on lines of its project."""
    lines: list[list[int]] = []
    for _, of_set in groupby(range(len(cases)), key=lambda i: table.dataset[cases[i].row]):
        numbers = list(of_set)
        lines += [numbers[at : at + _ACROSS] for at in range(0, len(numbers), _ACROSS)]
    canvas = Canvas(figsize=(6.2 * _ACROSS, 3.2 * len(lines) + 0.6), layout="constrained")
    FigureCanvasAgg(canvas)
    canvas.suptitle(_TITLE, fontsize=10)
    parts = canvas.subfigures(max(len(lines), 1), _ACROSS, squeeze=False)
    for row, numbers in zip(parts, lines, strict=False):
        for part, number in zip(row, numbers, strict=False):
            _show(part, seen[number], captions[number])
    return canvas


def _show(part: SubFigure, seen: ImageWithMaps, caption: str) -> None:
    part.suptitle(caption, fontsize=8, x=0.02, ha="left")
    left, *others = part.subplots(1, 1 + len(HEADS))
    left.imshow(seen.pixels, cmap="gray", vmin=0, vmax=1)
    for ax, head in zip(others, HEADS, strict=True):
        saliency = seen.maps[head.name]
        ax.imshow(overlay(seen.pixels, saliency.values))
        ax.set_title(f"{head.name}{', flat' if saliency.flat else ''}", fontsize=8)
    for ax in (left, *others):
        ax.set_axis_off()


def write(out: Path, estimator: Estimator, table: PredictionTable, root: Path) -> None:
    """Write the figure of ``table``, which is the estimator's, into ``out``.

    The images are read below ``root`` at their full size, past the cache.
    """
    cases = choose(table)
    licences = {item.path: item.licence for item in project.items(root)}
    seen, captions = [], []
    for case in cases:
        path = str(table.image[case.row])
        pixels = normalise(project.read(root / path), estimator.size)
        seen.append(
            ImageWithMaps(pixels, explain(estimator.network, pixels, device=estimator.device))
        )
        captions.append(describe(table, case, licences.get(path) or "unknown"))
    canvas = draw(table, cases, seen, captions)
    out.mkdir(parents=True, exist_ok=True)
    canvas.savefig(out / FILE, dpi=110, metadata={_WEIGHTS: estimator.identity.sha256})


def is_of(out: Path, sha256: str) -> bool:
    """Whether ``out`` has a figure that was made with these weights."""
    if not (out / FILE).exists():
        return False
    with Image.open(out / FILE) as image:
        return image.info.get(_WEIGHTS) == sha256


def predictions(out: Path, sha256: str) -> PredictionTable:
    """The table that ``evaluate`` left in ``out``.

    Raises ValueError: it was made with other weights than those of ``sha256``.
    """
    found = json.loads((out / "report.json").read_text())["model"]["sha256"]
    if found != sha256:
        raise ValueError(
            f"{out / 'report.json'}: model.sha256 is {found}, expected {sha256}:"
            " run evaluate with this bundle first"
        )
    return read_csv(out / "predictions.csv")


def main(bundle_folder: BundleFolder = BUNDLE, root: Root = ROOT, out: Report = REPORT) -> None:
    """Draw the figure again from what ``evaluate`` left in ``--out``."""
    table = predictions(out, bundle.verify(bundle_folder).sha256)
    write(out, Estimator(bundle_folder, device="cpu"), table, root)
    print(out / FILE)
