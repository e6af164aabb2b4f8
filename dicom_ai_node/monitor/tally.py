"""What is watched of a bundle's studies, and the sums that say it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from dicom_ai_node.monitor.observation import Observation


class ChartedQuantity(StrEnum):
    """What a chart watches."""

    MAE = "mae"
    BIAS = "bias"
    COVERAGE = "coverage"
    SEX_ACCURACY = "sex_accuracy"
    REFUSED = "refused"


PLAIN: Mapping[ChartedQuantity, str] = {
    ChartedQuantity.MAE: "mean absolute error of the age, years",
    ChartedQuantity.BIAS: "bias of the age, years",
    ChartedQuantity.COVERAGE: "share of recorded ages within the 90 % interval",
    ChartedQuantity.SEX_ACCURACY: "share of recorded sexes that are the more probable one",
    ChartedQuantity.REFUSED: "share of studies that a gate refused",
}


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over studies: all that a chart needs of them, and nothing of any one of them."""

    aged: int = 0
    absolute: float = 0.0
    signed: float = 0.0
    squared: float = 0.0
    covered: int = 0
    sexed: int = 0
    right: int = 0
    seen: int = 0
    refused: int = 0

    @classmethod
    def of(cls, one: Observation) -> "Tally":
        """Return the sums of one study."""
        error = one.error
        return cls(
            aged=int(error is not None),
            absolute=abs(error or 0.0),
            signed=error or 0.0,
            squared=(error or 0.0) ** 2,
            covered=int(bool(one.covered)),
            sexed=int(one.right is not None),
            right=int(bool(one.right)),
            seen=int(one.seen),
            refused=int(one.gated),
        )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, Any]:
        """Return the sums for the database."""
        return asdict(self)

    def n(self, quantity: ChartedQuantity) -> int:
        """How many studies say something of ``quantity``."""
        match quantity:
            case ChartedQuantity.SEX_ACCURACY:
                return self.sexed
            case ChartedQuantity.REFUSED:
                return self.seen
            case _:
                return self.aged

    def hits(self, quantity: ChartedQuantity) -> int:
        """The count behind a share."""
        match quantity:
            case ChartedQuantity.COVERAGE:
                return self.covered
            case ChartedQuantity.SEX_ACCURACY:
                return self.right
            case ChartedQuantity.REFUSED:
                return self.refused
            case _:
                raise ValueError(f"{quantity} is no share")

    def value(self, quantity: ChartedQuantity) -> float:
        """The figure itself; there must be a study."""
        match quantity:
            case ChartedQuantity.MAE:
                return self.absolute / self.aged
            case ChartedQuantity.BIAS:
                return self.signed / self.aged
            case _:
                return self.hits(quantity) / self.n(quantity)
