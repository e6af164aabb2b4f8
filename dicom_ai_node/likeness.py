"""Whether studies that claim to be of one patient show one chest. Pure, and without numpy.

A bundle may turn an image into an *embedding*: a few numbers, alike for images of one person and
unlike for those of two. Their similarity is the cosine. A :class:`Scale`, fitted on patients whose
images trained nothing, says what a similarity is worth: how often two studies of one patient are
as unlike, and how much more likely it is of one patient than of two.

An embedding is biometric data. It is compared with those of the same PatientID alone, and stands
in no answer, report, log or metric; of a comparison only the :class:`Likeness` is told.
"""

import base64
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scale:
    """What a similarity is worth, as a bundle's manifest states it."""

    centre: float
    """Median similarity of two studies of one patient."""
    spread: float
    """Of similarities below it, in the units of Student's t with 7 degrees of freedom."""
    intercept: float
    slope: float
    """log10 of the likelihood ratio, one patient to two: intercept + slope * similarity."""
    bounds: tuple[float, float]
    """No ratio (log10) is beyond: so few pairs were measured that they show nothing rarer."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """One chest as numbers."""

    space: str
    """SHA-256 of the weights that made it; embeddings of others are not comparable."""
    vector: tuple[float, ...] = field(repr=False)
    """Of length 1."""
    scale: Scale

    def to_json(self) -> dict[str, Any]:
        """Return it for the database, in half precision."""
        packed = struct.pack(f"<{len(self.vector)}e", *self.vector)
        text = base64.b64encode(packed).decode()
        return {"space": self.space, "vector": text, "scale": asdict(self.scale)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Embedding":
        """Read what :meth:`to_json` wrote."""
        packed = base64.b64decode(values["vector"])
        scale = values["scale"]
        bounds = (scale["bounds"][0], scale["bounds"][1])
        return cls(
            values["space"],
            _unit(struct.unpack(f"<{len(packed) // 2}e", packed)),
            Scale(**{**scale, "bounds": bounds}),
        )

    def similarity(self, other: "Embedding") -> float:
        """Return the cosine of both, in [-1, 1]."""
        return sum(one * two for one, two in zip(self.vector, other.vector, strict=True))


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a chest looks beside those of the patient's other studies."""

    studies: int
    """How many others it was compared with."""
    deviation: float
    """How far their mean similarity lies from the usual one, below 0 where it is less."""
    ratio: float
    """log10 of how much more likely that is of one patient than of two."""

    @property
    def p_value(self) -> float:
        """How often studies of one patient are as unlike, or more."""
        return lower_tail(self.deviation)


def likeness(chest: Embedding | None, others: Iterable[Embedding]) -> Likeness | None:
    """Compare a chest with those of the patient's other studies; None where that cannot be.

    The mean of the similarities is read as if it were one: of several it varies less, so that less
    is claimed than they show.
    """
    if chest is None:
        return None
    found = [chest.similarity(other) for other in others if other.space == chest.space]
    if not found:
        return None
    scale, mean = chest.scale, sum(found) / len(found)
    low, high = scale.bounds
    ratio = min(high, max(low, scale.intercept + scale.slope * mean))
    return Likeness(len(found), (mean - scale.centre) / scale.spread, ratio)


def together(embeddings: Sequence[Embedding]) -> Embedding | None:
    """Return the embedding of several images of one study: their direction; None of none."""
    if not embeddings:
        return None
    first = embeddings[0]
    sums = [math.fsum(column) for column in zip(*(one.vector for one in embeddings), strict=True)]
    return Embedding(first.space, _unit(sums), first.scale)


def lower_tail(deviation: float) -> float:
    """P(T <= deviation) of Student's t with 7 degrees of freedom, in closed form."""
    angle = math.atan(abs(deviation) / math.sqrt(7))
    cosine2 = math.cos(angle) ** 2
    series = 1 + 2 / 3 * cosine2 * (1 + 4 / 5 * cosine2)
    within = 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * series)
    tail = max(0.0, 1 - within) / 2
    return tail if deviation < 0 else 1 - tail


def _unit(vector: Sequence[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(part * part for part in vector))
    if not length > 0:
        raise ValueError("an embedding without a direction")
    return tuple(part / length for part in vector)
