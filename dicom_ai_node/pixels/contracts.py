"""The input contracts: what the input of a network is made of, one row each.

A bundle's manifest names one (``accepts.contract``). Training and serving make inputs by the same
functions, so that both see the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:  # a receiver reads manifests and loads no numpy
    import numpy as np
    from numpy.typing import NDArray

Takes = Literal["image", "series"]
"""What one input is made of."""

SQUARE: Final = "square-1"
WINDOWS: Final = "windows-1"
PROJECTIONS: Final = "projections-1"


@dataclass(frozen=True, slots=True)
class Contract:
    """What an input is made of, and its shape; float32, in [0, 1]."""

    name: str
    takes: Takes
    channels: int
    shown: Mapping[int, str] = field(default_factory=lambda: {0: ""})
    """The channels that people are shown, and what each is called; '' where one goes by itself."""

    def shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of an input of that side: (S, S), or (channels, S, S) of several."""
        return (size, size) if self.channels == 1 else (self.channels, size, size)

    def views(self, tensor: "NDArray[np.float32]") -> "dict[str, NDArray[np.float32]]":
        """Return an input as people are shown it: by name its views, each (S, S)."""
        channels = tensor[None] if self.channels == 1 else tensor
        return {name: channels[at] for at, name in self.shown.items()}


CONTRACTS: Final[Mapping[str, Contract]] = {
    row.name: row
    for row in (
        # Any grey image as it is meant to be seen, stretched (pixels/normalise.py).
        Contract(SQUARE, "image", 1),
        # A section of CT: lung, soft tissue and bone window of its Hounsfield units; of MR and
        # all else its percentile stretch in each of the three (pixels/windows.py). The soft tissue
        # window is shown.
        Contract(WINDOWS, "image", 3, shown={1: ""}),
        # A series of CT: coronal and sagittal maximum intensity projection of the body without the
        # table (pixels/projections.py).
        Contract(
            PROJECTIONS, "series", 2, shown={0: "coronal projection", 1: "sagittal projection"}
        ),
    )
}
"""By name."""
