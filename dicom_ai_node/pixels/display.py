"""Stored values to grey as it is meant to be seen (PS3.3 C.11.1, C.11.2; PS3.4 N.2).

The order is modality transformation, VOI transformation, polarity. Two choices are this program's:

*The transformations run on the reduced image.* Clipping a window or looking up a curve at full
resolution costs more than decoding. Every path reduces stored values first and transforms the small
image instead; on radiographs under windows that clip a fifth of the pixels, the tensors differ by
0.0004 in the mean (at most 0.0013).

*PhotometricInterpretation alone decides the polarity:* MONOCHROME1 is inverted, once.
PresentationLUTShape says the same again for DX (PS3.3 C.8.11.3.1.2) and is not consulted: where
the two disagree, toolkits differ, and the attribute that every image has is the better kept one.
The header check reports the disagreement.

A table or a window is used only where it can be meant for this image
(:mod:`dicom_ai_node.pixels.lookup`): the first table that fits, in its declared or in the other
byte order, else the first window that fits, else all of the range.
"""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.pixels.lenient import number, numbers, text
from dicom_ai_node.pixels.lookup import Lookup, distinguishes, lookups_of

MAX_WINDOWS = 16
"""Windows that are looked at; more are alternatives that nobody needs."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window, in units of the modality transformation's output."""

    centre: float
    width: float
    function: str
    """``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``."""

    def fits(self, values: Floats) -> bool:
        """Whether the window leaves most of ``values`` neither black nor white."""
        return distinguishes(values, lambda some: np.abs(some - self.centre) < self.width / 2)

    def apply(self, values: Floats) -> Floats:
        """Map to [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
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

    slope: float = 1.0
    intercept: float = 0.0
    """Rescale Slope and Intercept, for where no modality table fits."""
    modality: tuple[Lookup, ...] = ()
    """Readings of the modality table, best first."""
    curves: tuple[Lookup, ...] = ()
    """Readings of the VOI tables, best first."""
    windows: tuple[Window, ...] = ()
    """For where no curve fits."""
    inverted: bool = False

    @property
    def dark_is_high(self) -> bool:
        """Whether higher stored values are seen darker."""
        falling = _fall(self.modality) if self.modality else self.slope < 0
        return self.inverted != falling

    def judged(self, stored: NDArray[Any]) -> tuple["Display", tuple[str, ...]]:
        """Return what of this is meant for an image, and keywords of what is not.

        ``stored`` may be a part of it, evenly spread.
        """
        values = stored.astype(np.float64)
        modality = next((table for table in self.modality if table.fits(values)), None)
        values = modality.apply(values) if modality else values * self.slope + self.intercept
        curve = next((curve for curve in self.curves if curve.fits(values)), None)
        window = next((window for window in self.windows if window.fits(values)), None)
        passed = {
            "ModalityLUTSequence": self.modality and modality is not self.modality[0],
            "VOILUTSequence": self.curves and curve is not self.curves[0],
            "WindowCenter": self.windows and not curve and window is not self.windows[0],
        }
        # A table that cannot be used may still say that higher values are darker.
        inverted = self.inverted != (modality is None and _fall(self.modality))
        if curve is None and window is None:
            inverted = inverted != _fall(self.curves)
        judged = replace(
            self,
            modality=(modality,) if modality else (),
            curves=(curve,) if curve else (),
            windows=(window,) if window and not curve else (),
            inverted=inverted,
        )
        return judged, tuple(keyword for keyword, is_passed in passed.items() if is_passed)

    def apply(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``stored`` as grey in MONOCHROME2 sense: same shape, float32, arbitrary scale.

        The first of each kind is applied: :meth:`judged` comes before.
        """
        values = stored.astype(np.float64)
        voi: tuple[Lookup | Window, ...] = (*self.curves, *self.windows)
        if self.modality:
            values = self.modality[0].apply(values)
        elif voi:
            values = values * self.slope + self.intercept
        elif self.slope < 0:
            # Without a VOI the units do not matter, and a huge intercept would cost precision.
            values = -values
        shown = voi[0].apply(values) if voi else values
        return np.asarray(-shown if self.inverted else shown, dtype=np.float32)


def _fall(tables: tuple[Lookup, ...]) -> bool:
    """Whether tables say that higher values are darker, which also damaged ones can."""
    return next((table.direction for table in tables if table.direction), 1) < 0


def display_of(header: Dataset, *, signed: bool) -> Display:
    """Read the transformations of a grey image from ``header``; what makes no sense is left out.

    A VOI LUT Sequence goes before a window (it is the maker's own curve; the standard lets the
    application choose), the first of several before the others. ``signed`` is the
    PixelRepresentation, which decides how the first mapped value of a table reads.
    """
    modality = lookups_of(header, "ModalityLUTSequence", signed=signed)
    # A slope that is absent, unreadable, or 0 which would leave nothing, is 1.
    slope = number(header, "RescaleSlope") or 1.0
    intercept = number(header, "RescaleIntercept") or 0.0
    # A VOI table is mapped from the modality's output, which for a table is never negative.
    negative = not modality and (signed or intercept < 0)
    return Display(
        slope=slope,
        intercept=intercept,
        modality=modality,
        curves=lookups_of(header, "VOILUTSequence", signed=negative),
        windows=_windows(header),
        inverted=text(header, "PhotometricInterpretation") == "MONOCHROME1",
    )


def _windows(header: Dataset) -> tuple[Window, ...]:
    """Return the windows that can be applied; what one lacks of a centre or a width is left out."""
    function = text(header, "VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return ()
    pairs = zip(numbers(header, "WindowCenter"), numbers(header, "WindowWidth"), strict=False)
    return tuple(
        Window(centre, width, function)
        for centre, width in islice(pairs, MAX_WINDOWS)
        if centre is not None
        and width is not None
        and (width >= 1 if function == "LINEAR" else width > 0)
    )
