"""Whether the maps of findings point at the boxes that radiologists drew. Pure but for the tables.

The *hit rate* is the share of findings whose map is largest inside a box of theirs (the pointing
game, Zhang et al. 2018); IoU is the overlap of what a map shows above a share of its maximum with
the boxes. That share is chosen on the boxes of the other data set. Beside both stands what needs no
image: a place drawn at random, and the *usual place*, which is where the boxes of other patients
with the same finding lie most often. Boxes are shares of the side of the image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.bundle import Figure
from training.data.tables import read_table
from training.measure import metrics
from training.measure.metrics import estimate, resamples

HITS, OVERLAP = "hit rate", "IoU"
RANDOM, USUAL = "random place", "usual place"
SHARES = tuple(tenth / 10 for tenth in range(1, 10))
"""Of the maximum of a map, above which it shows something."""
SIDE_OF_BOXES = 1024.0
"""Pixels: both tables are of images of this side."""
LABEL_OF_RSNA = "Pneumonia"

Bools = NDArray[np.bool_]
Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Boxed:
    """One finding in one image, with its boxes."""

    image: str
    """Name of the file, without folder and suffix."""
    label: str
    """One of :data:`training.data.findings.NAMES`."""
    boxes: tuple[tuple[float, float, float, float], ...]
    """Left, top, right, bottom as shares of the side."""

    def mask(self, side: int) -> Bools:
        """Whether the middle of each pixel is inside a box, shape (side, side)."""
        middle = (np.arange(side) + 0.5) / side
        inside = np.zeros((side, side), np.bool_)
        for left, top, right, bottom in self.boxes:
            rows, columns = _within(middle, top, bottom), _within(middle, left, right)
            inside |= rows[:, None] & columns
        return inside


def _within(middle: NDArray[np.float64], low: float, high: float) -> Bools:
    """At least the pixel that holds the middle of a box thinner than one."""
    found = (middle >= low) & (middle < high)
    if not found.any():
        found[int(np.argmin(np.abs(middle - (low + high) / 2)))] = True
    return found


def boxes_of_nih(labels: Path) -> list[Boxed]:
    """Those of ``nih_boxes.csv`` whose image is at hand; DataError when it is not what it was."""
    columns = ("image", "finding", "x", "y", "w", "h", "have", "have_rsna")
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for line in read_table(labels / "nih_boxes.csv", columns):
        file = line["have"] or line["have_rsna"]
        if file:
            label = {"Infiltrate": "Infiltration"}.get(line["finding"], line["finding"])
            x, y, w, h = (line.number_in(name, 0, SIDE_OF_BOXES) for name in ("x", "y", "w", "h"))
            found.setdefault((Path(file).stem, label), []).append(_box(x, y, w, h))
    return [Boxed(image, label, tuple(boxes)) for (image, label), boxes in found.items()]


def boxes_of_rsna(labels: Path) -> list[Boxed]:
    """Those of ``rsna_pneumonia_boxes.csv`` whose image is at hand."""
    columns = ("image", "x", "y", "width", "height", "have")
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for line in read_table(labels / "rsna_pneumonia_boxes.csv", columns):
        if line["have"]:
            sides = ("x", "y", "width", "height")
            x, y, w, h = (line.number_in(name, 0, SIDE_OF_BOXES) for name in sides)
            found.setdefault(Path(line["have"]).stem, []).append(_box(x, y, w, h))
    return [Boxed(image, LABEL_OF_RSNA, tuple(boxes)) for image, boxes in found.items()]


def _box(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
    side = SIDE_OF_BOXES
    return x / side, y / side, (x + w) / side, (y + h) / side


@dataclass(frozen=True, slots=True)
class Pointed:
    """The boxed findings of one data set, and what maps show of them; S is the side of a map."""

    dataset: str
    boxed: Sequence[Boxed]
    patients: Sequence[str]
    maps: NDArray[np.float32]
    """Shape (N, S, S), in [0, 1]; all zero where there is no map."""

    @property
    def masks(self) -> Bools:
        """Of the boxes, shape (N, S, S)."""
        side = self.maps.shape[1]
        return np.array([one.mask(side) for one in self.boxed], np.bool_).reshape(-1, side, side)


def hits(maps: NDArray[np.float32], masks: Bools) -> NDArray[np.float64]:
    """1 where a map is largest inside its mask, else 0; a map of zeros points at nothing."""
    flat, inside = maps.reshape(len(maps), -1), masks.reshape(len(masks), -1)
    at = flat.argmax(axis=1)
    rows = np.arange(len(maps))
    return np.asarray(inside[rows, at] & (flat[rows, at] > 0), np.float64)


def overlaps(maps: NDArray[np.float32], masks: Bools, share: float) -> NDArray[np.float64]:
    """IoU of what each map shows above ``share`` of its maximum with its mask."""
    largest = maps.max(axis=(1, 2), keepdims=True)
    shown: Bools = (maps >= share * largest) & (largest > 0)
    both = (shown & masks).sum(axis=(1, 2))
    return np.asarray(both / (shown | masks).sum(axis=(1, 2)), np.float64)


def best_share(maps: NDArray[np.float32], masks: Bools) -> float:
    """The one of :data:`SHARES` with the largest mean IoU."""
    return max(SHARES, key=lambda share: float(overlaps(maps, masks, share).mean()))


def usual_places(part: Pointed) -> NDArray[np.float32]:
    """Of each finding the share of other patients with its label whose boxes cover each pixel.

    Where there is no other patient, that of all labels.
    """
    masks = part.masks
    labels = np.array([one.label for one in part.boxed])
    patients = np.array(part.patients)
    found = np.zeros(masks.shape, np.float32)
    for at in range(len(labels)):
        others = (labels == labels[at]) & (patients != patients[at])
        others = others if others.any() else patients != patients[at]
        if others.any():
            found[at] = masks[others].mean(axis=0)
    return found


def measure(part: Pointed, chosen_on: Pointed) -> Iterator[Figure]:
    """Hit rate and IoU, by label and of all; the share of the maximum is ``chosen_on``'s best."""
    masks, usual = part.masks, usual_places(part)
    elsewhere, usual_elsewhere = chosen_on.masks, usual_places(chosen_on)
    share = best_share(chosen_on.maps, elsewhere)
    columns: Mapping[str, tuple[NDArray[np.float64], Mapping[str, NDArray[np.float64]]]] = {
        HITS: (
            hits(part.maps, masks),
            {RANDOM: masks.mean(axis=(1, 2)), USUAL: hits(usual, masks)},
        ),
        OVERLAP: (
            overlaps(part.maps, masks, share),
            {USUAL: overlaps(usual, masks, best_share(usual_elsewhere, elsewhere))},
        ),
    }
    labels = np.array([one.label for one in part.boxed])
    groups = ["", *dict.fromkeys(labels.tolist())] if len(set(labels)) > 1 else [""]
    for quantity, (found, others) in columns.items():
        for group in groups:
            at = np.flatnonzero(labels == group) if group else np.arange(len(labels))
            yield _mean(part, quantity, group, at, found)
            for name, other in others.items():
                yield _mean(part, f"{quantity}, {name}", group, at, other)


def _mean(
    part: Pointed, quantity: str, group: str, at: NDArray[np.int64], values: NDArray[np.float64]
) -> Figure:
    found = estimate(metrics.mean, resamples([part.patients[i] for i in at]), values[at])
    return Figure(
        dataset=part.dataset, quantity=quantity, group=group, value=round(found.value, 4),
        low=round(found.low, 4), high=round(found.high, 4), n=len(at),
    )  # fmt: skip
