"""How raw answers become calibrated ones. Pure numpy; fitted by :mod:`.fitting`.

Quantities by :mod:`.intervals`; of all else the logits over a temperature. Temperatures grow with
the distance of the texture, or of the content where that says more of the errors.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Discriminator, Field, RootModel, Tag

from dicom_ai_node.inference.distances import Far, Floats
from dicom_ai_node.inference.heads import CategoryHead, FindingsHead, Head, QuantityHead
from dicom_ai_node.inference.intervals import (
    TEXTURE,
    ManifestPart,
    Predicted,
    QuantityCalibration,
    Widening,
    moved,
)


class CategoryCalibration(ManifestPart):
    """Temperature of a category's logits, and of two values a bias (Platt scaling)."""

    temperature: float = Field(gt=0)
    bias: float = Field(0.0, exclude_if=operator.not_)
    """What is added to the logit of the first of two values over its temperature."""
    widening: Widening = Widening()
    """Of the temperature."""
    widened_by: Literal["texture", "content"] = Field(
        "texture", exclude_if=lambda name: name == "texture"
    )
    """Which of the :class:`Distances` the widening is by."""

    def excess(self, far: "Far") -> Floats:
        """Of what the widening is by."""
        return far.content if self.widened_by == "content" else far.excess

    def probabilities(self, logits: Floats, excess: Floats) -> Floats:
        """Calibrated probability of each value: (N, 2) from (N,) logits of the first, or (N, K)."""
        cooled = self.tempered(logits, excess)
        if cooled.ndim == 1:
            first = sigmoids(cooled)
            return np.stack([first, 1 - first], axis=1)
        powers = np.exp(cooled - cooled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def tempered(self, logits: Floats, excess: Floats) -> Floats:
        """Return the logits over their temperature, and the bias added."""
        cooled = (logits.T / (self.temperature * self.widening.factors(excess))).T
        return np.asarray(cooled + self.bias)


class FindingsCalibration(ManifestPart):
    """Temperature and bias of each label's logit (Platt scaling)."""

    temperatures: dict[str, float]
    biases: dict[str, float] = Field(default_factory=dict, exclude_if=operator.not_)
    """What is added to each logit over its temperature; none: 0 for all."""
    widening: Widening = Widening()
    """Of all temperatures."""

    def probabilities(self, logits: Floats, excess: Floats) -> Floats:
        """Calibrated probability of each label, shape (N, K); ``logits`` of one are (N,)."""
        of_label = np.array(list(self.temperatures.values()))
        added = np.array([self.biases.get(label, 0.0) for label in self.temperatures])
        columns = logits.reshape(len(logits), len(of_label))
        return sigmoids(columns / (of_label * self.widening.factors(excess)[:, None]) + added)


HeadCalibration = QuantityCalibration | CategoryCalibration | FindingsCalibration
_KINDS: Mapping[type[HeadCalibration], str] = {
    QuantityCalibration: "quantity",
    CategoryCalibration: "category",
    FindingsCalibration: "findings",
}
_MARKS = {"groups": "quantity", "temperature": "category", "temperatures": "findings"}


def _kind(value: Any) -> str | None:
    """Tell from its keys which kind of head a calibration is of."""
    if isinstance(value, HeadCalibration):
        return _KINDS[type(value)]
    return next((kind for mark, kind in _MARKS.items() if mark in value), None)


class Calibration(
    RootModel[
        dict[
            str,
            Annotated[
                Annotated[QuantityCalibration, Tag("quantity")]
                | Annotated[CategoryCalibration, Tag("category")]
                | Annotated[FindingsCalibration, Tag("findings")],
                Discriminator(_kind),
            ],
        ]
    ]
):
    """Everything that turns raw answers into calibrated ones, but for the tensors of the spaces."""

    model_config = ConfigDict(frozen=True)

    def quantity(self, name: str) -> QuantityCalibration:
        """Return that of the quantity of this name."""
        found = self.root[name]
        assert isinstance(found, QuantityCalibration)
        return found

    def category(self, name: str) -> CategoryCalibration:
        """Return that of the category of this name."""
        found = self.root[name]
        assert isinstance(found, CategoryCalibration)
        return found

    def findings(self, name: str) -> FindingsCalibration:
        """Return that of the findings of this name."""
        found = self.root[name]
        assert isinstance(found, FindingsCalibration)
        return found

    def check(self, heads: Sequence[Head]) -> None:
        """Raise ValueError unless this is a calibration of these heads."""
        expected = {head.name: head.kind for head in heads}
        found = {name: _KINDS[type(one)] for name, one in self.root.items()}
        if found != expected:
            raise ValueError(f"calibration of {found}, expected {expected}")
        for head in heads:
            many = isinstance(head, CategoryHead) and len(head.values) > 2
            if many and self.category(head.name).bias:
                raise ValueError(f"{head.name}: a bias, and more than two values")
            if isinstance(head, FindingsHead):
                labels = tuple(self.findings(head.name).temperatures)
                if labels != head.labels:
                    raise ValueError(f"{head.name}: temperatures of {labels}, not {head.labels}")
                if strangers := set(self.findings(head.name).biases) - set(labels):
                    raise ValueError(f"{head.name}: biases of {sorted(strangers)}: no such labels")

    def predicted(
        self, heads: Sequence[Head], raw: Mapping[str, NDArray[np.floating]], far: "Far"
    ) -> Predicted:
        """Return what the groups of N images are told apart by.

        This is where estimates are moved: every answer is made of what is returned here.
        """
        columns: dict[str, Floats] = {TEXTURE: far.p_value}
        for head in heads:
            if isinstance(head, FindingsHead):
                continue
            values = raw[head.name].astype(np.float64)
            if isinstance(head, QuantityHead):
                movement = self.quantity(head.name).movement
                mu, sigma = values.T
                columns[head.name] = moved(mu, sigma, movement, head.bounds)
            elif isinstance(head, CategoryHead):
                fitted = self.category(head.name)
                found = fitted.probabilities(values, fitted.excess(far))
                names = [f"{head.name}.{value}" for value in head.values]
                columns |= dict(zip(names, found.T, strict=True))
        return columns


def sigmoid(logit: float) -> float:
    """Logistic function that never overflows."""
    return float(0.5 * (1.0 + np.tanh(0.5 * logit)))


def sigmoids(logits: Floats) -> Floats:
    """:func:`sigmoid` of each."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)
