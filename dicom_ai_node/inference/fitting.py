"""Fits a bundle's calibration to cases whose answers are known, and says how well it covers.

Pure numpy. Shared by ``training`` and by ``model recalibrate``, so that a site's calibration is
made as the shipped one was.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dicom_ai_node.inference import calibration
from dicom_ai_node.inference.calibration import (
    LEVELS,
    TEXTURE,
    Calibration,
    CategoryCalibration,
    Distances,
    Far,
    FindingsCalibration,
    Floats,
    Group,
    HeadCalibration,
    Movement,
    Predicted,
    QuantityCalibration,
    Range,
    Tilt,
    Widening,
)
from dicom_ai_node.inference.heads import CategoryHead, FindingsHead, Head, QuantityHead
from dicom_ai_node.inference.movement import UNMOVED, Moves

EDGES: Mapping[str, tuple[float, ...]] = {"age": (40.0, 60.0)}
"""Predicted values that part the bands of a quantity, where there are images enough."""
TILTED: Mapping[str, tuple[float, ...]] = {"age": (20.0, 40.0, 60.0, 70.0)}
"""Recorded values that part the bands of a tilt, where there are images enough."""
SMALLEST_BAND = 60
"""Fewer images than this make no band of their own: the 95 % interval wants 39 of each side."""
TRUSTED = 40
"""Images with which a band speaks as much for itself as the whole does."""
SMALLEST_GROUP = 80
"""Fewer images than this make no group of their own; 200 would be better than there often are."""
UNBOUNDED = 1e6
"""Stands for an infinite quantile: too few images for the level, every age is possible."""
TEMPERATURES = np.exp(np.linspace(-np.log(3), np.log(10), 341))
"""No lower than a third: where there is hardly an error, ever more certainty looks ever better."""

FOLDS = 10
"""Nine tenths of the patients calibrate a fold, nearly as many as the calibration that is kept."""

_Group = tuple[dict[str, Range], NDArray[np.int64]]
Bounds = tuple[Floats, Floats]
"""Lower and upper ends, each of shape (N, levels), levels as in ``LEVELS``."""
Fit = Callable[[NDArray[np.bool_]], Calibration]
"""Calibrates on those cases that a mask chooses, and on nothing else."""


@dataclass(frozen=True, slots=True)
class Cases:
    """What the network says of N images and what is known of them."""

    heads: tuple[Head, ...]
    raw: Mapping[str, Floats]
    """Of each head by its name, as :class:`dicom_ai_node.inference.engine.Raw` has it."""
    truth: Mapping[str, Floats]
    """The recorded number, the position of the recorded value, whether each label holds; NaN where
    unknown. Shape (N,), of findings (N, K)."""
    content: Floats
    """Distances, see :class:`dicom_ai_node.inference.calibration.Distances`; ``texture`` too."""
    texture: Floats
    patients: NDArray[np.str_]

    def __len__(self) -> int:
        """How many images."""
        return len(self.content)

    def at(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Cases":
        """Return some of the images, by mask or position."""
        return Cases(
            self.heads,
            {name: values[chosen] for name, values in self.raw.items()},
            {name: values[chosen] for name, values in self.truth.items()},
            self.content[chosen],
            self.texture[chosen],
            self.patients[chosen],
        )

    @classmethod
    def joined(cls, parts: Sequence["Cases"]) -> "Cases":
        """Return the images of all ``parts``, in order."""

        def of_heads(columns: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
            return {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}

        return cls(
            parts[0].heads,
            of_heads([part.raw for part in parts]),
            of_heads([part.truth for part in parts]),
            np.concatenate([part.content for part in parts]),
            np.concatenate([part.texture for part in parts]),
            np.concatenate([part.patients for part in parts]),
        )

    @property
    def labelled(self) -> "Cases":
        """Those images of which every answer is known; others fit nothing."""
        unknown = [np.isnan(t.reshape(len(self), -1)).any(axis=1) for t in self.truth.values()]
        return self.at(~np.any(unknown, axis=0))

    @property
    def distances(self) -> Distances:
        """How far the images lie off."""
        return Distances(self.content, self.texture)

    @property
    def reference(self) -> Distances:
        """The sorted distances that other images' are held against."""
        return self.distances.reference


def fit(
    cases: Cases,
    widening: Mapping[str, Widening],
    *,
    smallest: int = SMALLEST_GROUP,
    reference: Distances | None = None,
    tilted: bool = False,
    moves: Moves = UNMOVED,
) -> Calibration:
    """Calibrate on labelled images that trained nothing; goes with ``cases.reference``.

    Each head that ``cases`` has a truth of; ``widening`` is that of each head by its name.
    With another ``reference`` it goes with that. ``tilted``: the quantiles of a quantity of
    :data:`TILTED` follow the recorded value, see :func:`tilt`, and not groups. What is fitted is
    fitted around the answers as ``moves`` has them.
    """
    reference = cases.reference if reference is None else reference
    found: dict[str, HeadCalibration] = {}
    for head in cases.heads:
        if head.name not in cases.truth:
            continue
        if isinstance(head, QuantityHead):
            whole = tilted and head.name in TILTED
            movement = moves.movements.get(head.name)
            found[head.name] = quantity(
                cases, head, widening[head.name], smallest, reference, whole, movement
            )
        elif isinstance(head, CategoryHead):
            bias = moves.biases.get(head.name, 0.0)
            found[head.name] = category(
                cases, head, widening[head.name], reference=reference, bias=bias
            )
        else:
            found[head.name] = findings(cases, head, widening[head.name])
    return Calibration(found)


def quantity(
    cases: Cases,
    head: QuantityHead,
    widening: Widening,
    smallest: int = SMALLEST_GROUP,
    reference: Distances | None = None,
    tilted: bool = False,
    movement: Movement | None = None,
) -> QuantityCalibration:
    """Conformal quantiles at every level around the moved estimate, a pair for each group.

    ``tilted``: one group, tilted.
    """
    far = Far.of(cases.distances, cases.reference if reference is None else reference)
    network, sigma = cases.raw[head.name].T
    mu = calibration.moved(network, sigma, movement, head.bounds)
    columns = {head.name: mu, TEXTURE: far.p_value} | {
        f"{one.name}.{one.values[0]}": 0.5 * (1 + np.sign(cases.raw[one.name]))
        for one in cases.heads
        if isinstance(one, CategoryHead) and len(one.values) == 2
    }
    z = (cases.truth[head.name] - mu) / (sigma * widening.factors(far.excess))
    if tilted:
        found: list[_Group] = [({}, np.arange(len(z)))]
    else:
        found = groups(columns, smallest, EDGES.get(head.name, ()))
    fitted = [
        Group(
            where=where if number + 1 < len(found) else {},
            images=len(at),
            quantiles={level: _pair(z[at], float(level) / 100) for level in LEVELS},
        )
        for number, (where, at) in enumerate(found)
    ]
    scale = float(np.sqrt(np.mean(np.square(z))))
    return QuantityCalibration(
        groups=tuple(fitted),
        smallest_group=smallest,
        widening=widening,
        sd_scale=max(round(scale, 4), 1e-4),
        tilt=tilt(z, cases.truth[head.name], fitted[0], TILTED[head.name]) if tilted else (),
        movement=movement,
    )


def tilt(
    z: Floats, truth: Floats, whole: Group, edges: Sequence[float], smallest: int = SMALLEST_BAND
) -> tuple[Tilt, ...]:
    """Say how much further, or less far, images of each band of recorded values are off.

    ``z`` are errors in units of the widened sigma, ``whole`` holds their quantiles. Groups go by
    what is predicted: of those predicted at 60 some are 75, and among all of one prediction they
    are too few to count. Bands of what is recorded are covered each for itself: the quantile of a
    band, in units of that of the whole (label-conditional conformal prediction, Vovk 2012), drawn
    toward 1 with a weight of :data:`TRUSTED` images. Levels stay nested. None for a single band.
    """
    parts = [None, *bands(truth, smallest, edges), None]
    found: list[Tilt] = []
    for low, high in pairwise(parts) if len(parts) > 2 else ():
        of_band = (truth >= (-math.inf if low is None else low)) & (
            truth < (math.inf if high is None else high)
        )
        errors, count = z[of_band], int(of_band.sum())
        weight, reached, factors = count / (count + TRUSTED), np.zeros(2), {}
        for level in LEVELS:
            usual = np.array(whole.quantiles[level])
            own = np.minimum(np.array(_pair(errors, float(level) / 100)), UNBOUNDED)
            wanted = np.maximum((1 - weight) * usual + weight * own, reached)
            settled = (usual <= 0) | (usual >= UNBOUNDED)  # no factor moves these
            factors[level] = tuple(
                np.where(settled, 1.0, wanted / np.maximum(usual, 1e-9)).round(4).tolist()
            )
            reached = wanted
        found.append(Tilt(at=round(float(truth[of_band].mean()), 2), images=count, factors=factors))
    return tuple(found)


def groups(
    columns: Mapping[str, Floats], smallest: int, edges: Sequence[float] = ()
) -> list[_Group]:
    """Part images by band of the first of ``columns``, then in halves by each of the others.

    Of an age: by band of predicted age, then by nearness, then by predicted sex.

    A band is joined with the next, and a group left whole, where a part would have fewer than
    ``smallest`` images. A small part thereby shares its parent's quantiles with its sibling, and
    they hold for either taken together; quantiles of a parent whose large children had their own
    would hold for nobody.
    """
    (name, values), *others = columns.items()
    parts: list[_Group] = []
    for low, high in pairwise([None, *bands(values, smallest, edges), None]):
        inside = (values >= (-math.inf if low is None else low)) & (
            values < (math.inf if high is None else high)
        )
        parts.append(({name: (low, high)}, np.flatnonzero(inside)))
    for name, values in others:
        parts = [half for part in parts for half in _halves(part, name, values, smallest)]
    return parts


def bands(mu: Floats, smallest: int, edges: Sequence[float]) -> list[float]:
    """Those of ``edges`` that leave at least ``smallest`` images in every band."""
    found: list[float] = []
    for edge in edges:
        last = found[-1] if found else -math.inf
        if np.sum((mu >= last) & (mu < edge)) >= smallest:
            found.append(edge)
    while found and np.sum(mu >= found[-1]) < smallest:
        found.pop()
    return found


def _halves(group: _Group, name: str, values: Floats, smallest: int) -> list[_Group]:
    where, at = group
    below, above = at[values[at] < 0.5], at[values[at] >= 0.5]
    if min(len(below), len(above)) < smallest:
        return [group]
    return [(where | {name: (None, 0.5)}, below), (where | {name: (0.5, None)}, above)]


def _pair(z: Floats, level: float) -> tuple[float, float]:
    tail = (1 + level) / 2
    return quantile(-z, tail), quantile(z, tail)


def quantile(scores: Floats, share: float) -> float:
    """The ceil((n + 1) share)-th smallest score, at least 0 so that the interval contains mu.

    Where there is no such score, because the images are too few, :data:`UNBOUNDED`.
    """
    rank = math.ceil((len(scores) + 1) * share - 1e-9)
    if rank > len(scores):
        return UNBOUNDED
    return round(max(float(np.sort(scores)[rank - 1]), 0.0), 4)


def category(
    cases: Cases,
    head: CategoryHead,
    widening: Widening,
    widened_by: Literal["texture", "content"] = "texture",
    reference: Distances | None = None,
    bias: float = 0.0,
) -> CategoryCalibration:
    """Temperature with the smallest log loss, beside a ``bias`` where there are two values."""
    unfitted = CategoryCalibration(
        temperature=1.0, bias=bias, widening=widening, widened_by=widened_by
    )
    far = Far.of(cases.distances, cases.reference if reference is None else reference)
    factors = widening.factors(unfitted.excess(far))
    logits, truth = cases.raw[head.name], cases.truth[head.name]
    if len(head.values) == 2:
        found = temperature(logits / factors, 1.0 - truth, bias)
    else:
        found = softmax_temperature(logits / factors[:, None], truth)
    return unfitted.model_copy(update={"temperature": round(found, 4)})


def findings(cases: Cases, head: FindingsHead, widening: Widening) -> FindingsCalibration:
    """Temperature and bias with the smallest log loss, of each label; NaN truth is left out."""
    factors = widening.factors(Far.of(cases.distances, cases.reference).excess)
    logits, truth = (
        values[head.name].reshape(len(cases), -1) for values in (cases.raw, cases.truth)
    )
    columns = zip(head.labels, logits.T, truth.T, strict=True)
    found = {label: platt(z / factors, y) for label, z, y in columns}
    return FindingsCalibration(
        temperatures={label: round(t, 4) for label, (t, _) in found.items()},
        biases={label: round(bias, 4) for label, (_, bias) in found.items()},
        widening=widening,
    )


def platt(logits: Floats, positive: Floats) -> tuple[float, float]:
    """Temperature and bias that give ``logits`` (N,) the smallest log loss (Platt 1999).

    ``positive`` is 1, 0 or NaN for unknown. The targets are Platt's: an answer is never held to be
    more certain than so many positives or negatives can say. Temperatures are those of
    :data:`TEMPERATURES`; (1, 0) where nothing is known.
    """
    known = ~np.isnan(positive)
    z, y = logits[known], positive[known]
    if not len(z):
        return 1.0, 0.0
    target = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / (len(y) - y.sum() + 2))
    columns = z[None, :] / TEMPERATURES[:, None]
    biases = _intercepts(columns, float(target.mean()))
    moved = columns + biases[:, None]
    loss = np.mean(np.logaddexp(0, moved) - target * moved, axis=1)
    at = int(np.argmin(loss))
    return float(TEMPERATURES[at]), float(biases[at])


def _intercepts(logits: Floats, share: float) -> Floats:
    """What to add to each row of ``logits`` (T, N) for its mean probability to be ``share``.

    By bisection: the mean rises with what is added, without exception.
    """
    low = math.log(share / (1 - share)) - logits.max(axis=1)
    high = math.log(share / (1 - share)) - logits.min(axis=1)
    for _ in range(24):
        middle = (low + high) / 2
        below = calibration.sigmoids(logits + middle[:, None]).mean(axis=1) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def temperature(logits: Floats, positive: Floats, bias: float = 0.0) -> float:
    """The one of :data:`TEMPERATURES` that gives ``logits`` the smallest log loss.

    ``bias`` is added to each over its temperature.
    """
    sign = np.where(positive == 1, 1.0, -1.0)
    return _coolest(lambda t: float(np.mean(np.logaddexp(0, -sign * (logits / t + bias)))))


def softmax_temperature(logits: Floats, truth: Floats) -> float:
    """The same of (N, K) logits; ``truth`` are positions of values, (N,)."""
    return _coolest(lambda t: _softmax_loss(logits / t, truth))


def _coolest(loss: Callable[[float], float]) -> float:
    return float(TEMPERATURES[int(np.argmin([loss(t) for t in TEMPERATURES]))])


def _softmax_loss(logits: Floats, truth: Floats) -> float:
    largest = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
    return float(np.mean(total - logits[np.arange(len(logits)), truth.astype(np.intp)]))


class Covered(BaseModel):
    """Share of recorded values within the intervals of one level, and the intervals' mean width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str
    coverage: float
    width: float
    """In the quantity's unit."""


def intervals(
    fitted: Calibration, reference: Distances, cases: Cases, head: QuantityHead
) -> Bounds:
    """Intervals of ``cases`` by a calibration and the distances that it goes with."""
    far = Far.of(cases.distances, reference)
    predicted = fitted.predicted(cases.heads, cases.raw, far)
    mu, sigma = predicted[head.name], cases.raw[head.name][:, 1]
    low = np.empty((len(cases), len(LEVELS)))
    high = low.copy()
    for at, level in enumerate(LEVELS):
        low[:, at], high[:, at] = fitted.quantity(head.name).intervals(
            mu, sigma, level, predicted=predicted, excess=far.excess, bounds=head.bounds
        )
    return low, high


def cross_fitted(
    cases: Cases, fit: Fit, head: QuantityHead, near: NDArray[np.bool_] | None = None
) -> Bounds:
    """Intervals of ``cases``, each by a calibration that has not seen the patient.

    For images that a calibration is made of: its own intervals would cover them by construction.
    Each of :data:`FOLDS` parts of the patients gets those calibrated on the others. The distances
    of those that ``near`` chooses are the reference, of all without it.
    """
    near = np.ones(len(cases), dtype=np.bool_) if near is None else near
    low = np.full((len(cases), len(LEVELS)), np.nan)
    high = low.copy()
    for rest, here in folds(cases):
        reference = cases.at(rest & near).labelled.reference
        low[here], high[here] = intervals(fit(rest), reference, cases.at(here), head)
    return low, high


def cross_predicted(cases: Cases, fit: Callable[[Cases], Calibration]) -> Predicted:
    """What is said of labelled ``cases``, each by a calibration that has not seen the patient."""
    columns: dict[str, Floats] = {}
    for rest, here in folds(cases):
        some, others = cases.at(rest), cases.at(here)
        far = Far.of(others.distances, some.reference)
        for name, said in fit(some).predicted(cases.heads, others.raw, far).items():
            columns.setdefault(name, np.full(len(cases), np.nan))[here] = said
    return columns


def folds(cases: Cases) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield for each of :data:`FOLDS` parts of the patients the images of others, and its own."""
    names, person = np.unique(cases.patients, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[person] % FOLDS
    for one in np.unique(fold):
        yield fold != one, fold == one


def summary(bounds: Bounds, truth: Floats) -> tuple[Covered, ...]:
    """Coverage of ``truth`` (N,) and mean width at every level."""
    low, high = bounds
    inside = (low <= truth[:, None]) & (truth[:, None] <= high)
    return tuple(
        Covered(
            level=level,
            coverage=round(float(inside[:, at].mean()), 4),
            width=round(float((high - low)[:, at].mean()), 4),
        )
        for at, level in enumerate(LEVELS)
    )


def log_loss(fitted: Calibration, reference: Distances, cases: Cases, head: CategoryHead) -> float:
    """Mean negative log likelihood of the recorded one of two values, nats."""
    excess = calibration.excess(cases.texture, reference.texture)
    tempered = fitted.category(head.name).tempered(cases.raw[head.name], excess)
    signed = np.where(cases.truth[head.name] == 0, tempered, -tempered)
    return float(np.mean(np.logaddexp(0, -signed)))
