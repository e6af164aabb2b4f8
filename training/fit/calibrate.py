"""Fits what only the makers of a bundle can fit; the rest is ``dicom_ai_node.inference.fitting``.

Spaces: a Gaussian in the principal components of the features, or of the texture, of training
images. Widening: how much larger errors are on images whose texture lies far from it. It is seen on
images of the calibration set changed on purpose (:mod:`training.data.shift`), never on another
hospital's. What a network says of images is computed a part of them at a time, for an archive does
not fit into memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from dicom_ai_node.inference import coverage, distances, fitting, quantiles
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.coverage import Bounds
from dicom_ai_node.inference.distances import Distances, Floats, Space
from dicom_ai_node.inference.engine import Raw
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, HEADS, SEX, CategoryHead
from dicom_ai_node.inference.intervals import Widening
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import run
from training.data import shift
from training.data.images import Images
from training.data.tables import DataError

COMPONENTS = {"content": 64, "texture": 32}
SHRINKAGE = 0.1
BINS = 10

PER_BIN = 40
"""Fewer far images than this make no knot."""

AGE_CAP, SEX_CAP = 2.5, 4.0
"""Largest factors; with them an interval is about as wide as all ages, a sex about even odds."""
CATEGORY_CAP = 4.0
"""The same of a head of several values."""

RAMP = (0.15, 0.55)
"""In excess: from about the 70 % quantile of the calibration images' texture to the 95 %."""

LEVEL = 0.9
"""The widening holds the size of errors at this quantile, where coverage is asked for."""

CHANGED_COPIES = 8
"""Changed copies of each calibration image that the widening is fitted on."""

CHANGED = 2400
"""Where there are twice as many calibration images or more, only so many are changed, or spoilt."""

Pixels = NDArray[np.float32]

Change = Callable[[Pixels], Pixels]
"""From (N, S, S) to (N, S, S)."""

Measure = Callable[[Pixels], tuple[Raw, Distances]]
"""Answers, and distances from the training images."""


@dataclass(frozen=True, slots=True)
class Spaces:
    """Where a network puts the images that it was trained with."""

    content: Space
    texture: Space

    @classmethod
    def of(cls, network: Network, images: NDArray[np.float32]) -> "Spaces":
        """Fitted on ``images``; a small set has fewer of them than dimensions."""
        return cls.around(run(network, images))

    @classmethod
    def around(cls, seen: Raw) -> "Spaces":
        """The same, of what the network has said of them."""
        images = seen.features
        most = max(1, min(len(images) // 2, seen.texture.shape[1] - 1))
        content = space(seen.features, min(COMPONENTS["content"], most))
        texture = space(seen.texture, min(COMPONENTS["texture"], most))
        return cls(content, texture)

    def distances(self, raw: Raw) -> Distances:
        """How far images lie off."""
        return Distances(self.content.distance(raw.features), self.texture.distance(raw.texture))

    def tensors(self, reference: Distances) -> dict[str, NDArray[np.float32]]:
        """As a weights file has them, with the distances of unknown images."""
        found = {f"content.{name}": tensor for name, tensor in asdict(self.content).items()}
        found |= {f"texture.{name}": tensor for name, tensor in asdict(self.texture).items()}
        known = asdict(reference)
        return found | {f"{name}.reference": of.astype(np.float32) for name, of in known.items()}


def answers(network: Network, images: Images, device: str = "cpu") -> Raw:
    """What ``network`` says of at least one of ``images``."""
    return Raw.joined([run(network, part, device=device) for part in images.floats()])


def measured(
    measure: Measure, images: Images, change: Change = lambda x: x
) -> tuple[Raw, Distances]:
    """What ``measure`` gives for at least one of ``images``, each changed before."""
    raws, distances = zip(*(measure(change(part)) for part in images.floats()), strict=True)
    far = (np.concatenate([getattr(d, name) for d in distances]) for name in ("content", "texture"))
    return Raw.joined(raws), Distances(*far)


def calibration_cases(measure: Measure, images: Images, changed: bool = False) -> Cases:
    """What a network says of ``images``, or of :data:`CHANGED_COPIES` changed copies of them.

    Of the changed ones only those that still pass for upright frontal chests: the others get no
    answer, so nothing is to be learnt from how wrong it would be.
    """
    if changed:
        return Cases.joined([*_changed(measure, images)])
    return cases(*measured(measure, images), images)


def _changed(measure: Measure, images: Images) -> Iterator[Cases]:
    images, rng = images.some(CHANGED), np.random.default_rng(0)
    for _ in range(CHANGED_COPIES):
        raw, distances = measured(measure, images, partial(shift.shifted, rng=rng))
        passed = (raw["chest"] >= 0) & (raw["frontal"] >= 0)
        yield cases(raw, distances, images).at(passed)


def cases(raw: Raw, distances: Distances, images: Images) -> Cases:
    """Put answers and the labels of ``images`` together; NaN where a label is unknown."""
    years, female = (images.column(name).astype(np.float64) for name in ("age", "female"))
    return Cases(
        heads=HEADS,
        raw={head.name: raw[head.name].astype(np.float64) for head in HEADS},
        truth={AGE.name: years, SEX.name: 1.0 - female},
        content=distances.content,
        texture=distances.texture,
        patients=np.array([item.patient for item in images.items]),
    )


def calibration(
    plain: Cases,
    shifted: Cases | None = None,
    *,
    beside: Cases | None = None,
    caution: float = 1.0,
    smallest: int = quantiles.SMALLEST_GROUP,
) -> Calibration:
    """Fit on images that trained nothing, and the widening also on them changed (``shifted``).

    ``caution`` is for both widenings, see :func:`cautious`. Goes with the ``reference`` of the
    labelled ones of ``plain``. Images ``beside`` them count for the quantiles of the age alone:
    theirs may be another resolution, and a temperature of both was too sure of the sex elsewhere.
    """
    plain = plain.labelled
    age_widening, sex_widening = Widening(), Widening()
    if shifted is not None:
        seen = [_seen(part, plain.reference) for part in (plain, shifted.labelled)]
        excess, scores, sex, female = (
            np.concatenate(columns) for columns in zip(*seen, strict=True)
        )
        age_widening = widening(excess, scores)
        sex_widening = temperature_widening(excess, sex, female)
    age_widening, sex_widening = (cautious(w, caution) for w in (age_widening, sex_widening))
    widenings = {AGE.name: age_widening, SEX.name: sex_widening}
    every = plain if beside is None else Cases.joined([plain, beside.labelled])
    found = fitting.fit(every, widenings, smallest=smallest, reference=plain.reference, tilted=True)
    of_sex = fitting.category(plain, SEX, sex_widening)
    return Calibration({**found.root, SEX.name: of_sex})


def cautious(found: Widening, caution: float) -> Widening:
    """Return ``found``, and no less than a factor that rises to ``caution`` over :data:`RAMP`.

    A decision, not a fit: changed images of one hospital show less of what distance does to errors
    than another hospital does. Quantiles are fitted after it, so that the calibration set is
    covered as it should be all the same; its near images pay for the far ones' width.
    """
    if caution <= 1:
        return found
    floor = Widening(knots=((RAMP[0], 1.0), (RAMP[1], caution)))
    x = np.unique([knot[0] for knot in (*found.knots, *floor.knots)])
    larger = np.maximum(found.factors(x), floor.factors(x))
    return Widening(knots=tuple(zip(x.tolist(), larger.round(4).tolist(), strict=True)))


def cross_fitted(
    plain: Cases,
    shifted: Cases | None = None,
    *,
    beside: Cases | None = None,
    caution: float = 1.0,
) -> Bounds:
    """Intervals of ``plain`` and of those ``beside`` it, in this order.

    Each by a :func:`calibration` that has not seen the patient.
    """
    every = plain if beside is None else Cases.joined([plain, beside])
    near = np.arange(len(every)) < len(plain)

    def fit(chosen: NDArray[np.bool_]) -> Calibration:
        some = every.at(chosen & near)
        same = shifted and shifted.at(np.isin(shifted.patients, some.patients))
        others = every.at(chosen & ~near) if beside is not None else None
        return calibration(some, same, beside=others, caution=caution)

    return coverage.cross_fitted(every, fit, AGE, near)


def _seen(part: Cases, reference: Distances) -> tuple[Floats, ...]:
    far = distances.excess(part.texture, reference.texture)
    mu, sigma = part.raw[AGE.name].T
    scores = np.abs(part.truth[AGE.name] - mu) / sigma
    return far, scores, part.raw[SEX.name], 1.0 - part.truth[SEX.name]


def widening(excess: Floats, scores: Floats, *, bins: int = BINS, cap: float = AGE_CAP) -> Widening:
    """How much larger errors get with the distance.

    Parameters
    ----------
    excess
        Logarithm of the distance over the median of the calibration set, shape (N,).
    scores
        abs(residual) / sigma of the same images.

    Returns
    -------
    1 up to the median; beyond it, at the median of each bin of equally many images, the
    :data:`LEVEL` quantile of their scores over that of the near images, made monotone (isotonic
    regression) and no more than ``cap``. No widening where too few images are far or near.
    """
    return _widening(excess, lambda at: float(np.quantile(scores[at], LEVEL)), bins, cap)


def temperature_widening(
    excess: Floats, logits: Floats, female: Floats, *, bins: int = BINS // 2, cap: float = SEX_CAP
) -> Widening:
    """Like :func:`widening` for the temperature that each bin's sex logits want."""
    return _widening(excess, lambda at: fitting.temperature(logits[at], female[at]), bins, cap)


def category_widening(
    plain: Cases, changed: Sequence[Cases], head: CategoryHead, *, cap: float = CATEGORY_CAP
) -> Widening:
    """The same for a head of several values, by content: cases and changed copies of them.

    All are labelled. An image that is unlike those of its kind is wrong more often than one of
    another texture, see docs/body-region.md.
    """
    parts = (plain, *changed)
    excess = np.concatenate([distances.excess(p.content, plain.reference.content) for p in parts])
    logits, truth = (
        np.concatenate([columns[head.name] for columns in of])
        for of in ([p.raw for p in parts], [p.truth for p in parts])
    )
    return _widening(
        excess, lambda at: fitting.softmax_temperature(logits[at], truth[at]), BINS // 2, cap
    )


def _widening(
    excess: Floats, size: Callable[[NDArray[np.int64]], float], bins: int, cap: float
) -> Widening:
    near, far = np.flatnonzero(excess <= 0), np.flatnonzero(excess > 0)
    bins = min(bins, len(far) // PER_BIN)
    if bins < 1 or len(near) < PER_BIN:
        return Widening()
    parts = np.array_split(far[np.argsort(excess[far], kind="stable")], bins)
    sizes = np.array([size(part) for part in parts]) / max(size(near), 1e-9)
    rising = isotonic_regression(sizes, sample_weight=[len(part) for part in parts])
    knots = {0.0: 1.0}
    for part, factor in zip(parts, rising, strict=True):
        x = round(float(np.median(excess[part])), 4)
        knots[x] = max(round(float(np.clip(factor, 1, cap)), 4), knots.get(x, 1.0))
    return Widening(knots=tuple(knots.items()))


def space(features: NDArray[np.float32], components: int) -> Space:
    """Fit on the features (N, F) of training images, F greater than ``components``.

    Raises DataError: every image has the same features.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    covariance = centred.T @ centred / len(features)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if not values[0] > 0:
        raise DataError(
            "expected features that tell the training images apart, got the same for all of them:"
            " the training has gone wrong (a lower rate, frozen_norms?)"
        )
    largest = values[:components]
    shrunk = (1 - SHRINKAGE) * largest + SHRINKAGE * largest.mean()
    residual = max(float(values[components:].mean()), 1e-9)
    return Space(
        mean.astype(np.float32),
        (vectors[:, :components] / np.sqrt(shrunk)).astype(np.float32),
        np.array([residual], dtype=np.float32),
    )
