"""Stored values to grey as it is meant to be seen (PS3.3 C.11.1, C.11.2; PS3.4 N.2).

The order is modality transformation, VOI transformation, polarity. Two choices are this program's:

*The transformations run on the reduced image.* Clipping a window or looking up a curve at full
resolution costs more than decoding. Every path reduces stored values first and transforms the small
image instead; on radiographs under windows that clip a fifth of the pixels, the tensors differ by
0.0004 in the mean (at most 0.0013).

*PhotometricInterpretation alone decides the polarity:* MONOCHROME1 is inverted, once.
PresentationLUTShape says the same again for DX (PS3.3 C.8.11.3.1.2) and is not consulted: where
the two disagree, toolkits differ, and the attribute that every image has is the better kept one.
The header audit reports the disagreement.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.pixels.header import number, text
from dicom_ai_node.pixels.lookup import Lookup, lookup_of

MIN_INSIDE = 0.1
"""A window with less than this part of the pixels inside it belongs to another image."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope and Intercept."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window, in units of the modality transformation's output."""

    centre: float
    width: float
    function: str
    """``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``."""

    def apply(self, values: Floats) -> Floats | None:
        """Map to [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3); None when the window fits badly."""
        inside = np.abs(values - self.centre) < self.width / 2
        if inside.mean() < MIN_INSIDE:
            return None
        if self.function == "SIGMOID":
            scaled = -4.0 * (values - self.centre) / self.width
            return 1.0 / (1.0 + np.exp(np.clip(scaled, -700.0, 700.0)))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.centre) / self.width + 0.5, 0.0, 1.0)
        # The half and the one make LINEAR hit whole numbers of an integer range.
        slope = 1.0 / max(self.width - 1.0, 1e-6)
        return np.clip((values - (self.centre - 0.5)) * slope + 0.5, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Display:
    """The grey scale transformations of one image."""

    modality: Rescale | Lookup = Rescale()
    voi: tuple[Lookup | Window, ...] = ()
    """Candidates in order; the first that fits the image is used."""
    inverted: bool = False

    @property
    def dark_is_high(self) -> bool:
        """Whether higher stored values are seen darker."""
        falling = isinstance(self.modality, Rescale) and self.modality.slope < 0
        return self.inverted != falling

    def apply(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``stored`` as grey in MONOCHROME2 sense: same shape, float32, arbitrary scale."""
        shown = self._shown(stored)
        return np.asarray(-shown if self.inverted else shown, dtype=np.float32)

    def _shown(self, stored: NDArray[Any]) -> Floats:
        values = stored.astype(np.float64)
        if isinstance(self.modality, Lookup):
            values = self.modality.apply(values)
        elif self.voi:
            values = values * self.modality.slope + self.modality.intercept
        elif self.modality.slope < 0:
            # Without a VOI the units do not matter, and a huge intercept would cost precision.
            values = -values
        for voi in self.voi:
            shown = voi.apply(values)
            if shown is not None and shown.min() < shown.max():
                return shown
        # No VOI, or none that fits: all of the range, without the units that it was meant in.
        return values


def display_of(header: Dataset, *, signed: bool) -> Display:
    """Read the transformations of a grey image from ``header``; what makes no sense is left out.

    A VOI LUT Sequence goes before a window (it is the maker's own curve; the standard lets the
    application choose), the first of several before the others. ``signed`` is the
    PixelRepresentation, which decides how the first mapped value of a table reads.
    """
    table = lookup_of(header, "ModalityLUTSequence", signed=signed)
    rescale = _rescale(header)
    # A VOI table is mapped from the modality's output, which for a table is never negative.
    negative = table is None and (signed or rescale.intercept < 0)
    curve = lookup_of(header, "VOILUTSequence", signed=negative)
    window = _window(header)
    return Display(
        modality=table or rescale,
        voi=tuple(candidate for candidate in (curve, window) if candidate is not None),
        inverted=text(header, "PhotometricInterpretation") == "MONOCHROME1",
    )


def _rescale(header: Dataset) -> Rescale:
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if not slope:  # absent, unreadable, or 0 which would leave nothing
        slope = 1.0
    return Rescale(slope, intercept or 0.0)


def _window(header: Dataset) -> Window | None:
    centre, width = number(header, "WindowCenter"), number(header, "WindowWidth")
    function = text(header, "VOILUTFunction") or "LINEAR"
    if centre is None or width is None or function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return None
    if width < 1 if function == "LINEAR" else width <= 0:
        return None
    return Window(centre, width, function)
