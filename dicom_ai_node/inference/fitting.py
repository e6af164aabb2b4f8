"""Fits a bundle's calibration to cases whose answers are known.

Pure numpy. Shared by ``training`` and by ``model recalibrate``, so that a site's calibration is
made as the shipped one was. :mod:`.coverage` says how well it covers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.calibration import (
    Calibration,
    CategoryCalibration,
    FindingsCalibration,
    HeadCalibration,
    sigmoids,
)
from dicom_ai_node.inference.distances import Distances, Far, Floats
from dicom_ai_node.inference.heads import CategoryHead, FindingsHead, Head, QuantityHead
from dicom_ai_node.inference.intervals import (
    LEVELS,
    TEXTURE,
    Group,
    Movement,
    QuantityCalibration,
    Widening,
    moved,
)
from dicom_ai_node.inference.movement import UNMOVED, Moves
from dicom_ai_node.inference.quantiles import (
    EDGES,
    SMALLEST_GROUP,
    TILTED,
    Part,
    groups,
    pair,
    tilt,
)

TEMPERATURES = np.exp(np.linspace(-np.log(3), np.log(10), 341))
"""No lower than a third: where there is hardly an error, ever more certainty looks ever better."""


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
    """Distances, see :class:`dicom_ai_node.inference.distances.Distances`; ``texture`` too."""
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
    mu = moved(network, sigma, movement, head.bounds)
    columns = {head.name: mu, TEXTURE: far.p_value} | {
        f"{one.name}.{one.values[0]}": 0.5 * (1 + np.sign(cases.raw[one.name]))
        for one in cases.heads
        if isinstance(one, CategoryHead) and len(one.values) == 2
    }
    z = (cases.truth[head.name] - mu) / (sigma * widening.factors(far.excess))
    if tilted:
        found: list[Part] = [({}, np.arange(len(z)))]
    else:
        found = groups(columns, smallest, EDGES.get(head.name, ()))
    fitted = [
        Group(
            where=where if number + 1 < len(found) else {},
            images=len(at),
            quantiles={level: pair(z[at], float(level) / 100) for level in LEVELS},
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
        below = sigmoids(logits + middle[:, None]).mean(axis=1) < share
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
