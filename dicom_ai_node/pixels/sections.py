"""Sections of CT and MR: from a file to Hounsfield units, or to grey where there is no scale.

A CT is taken to Hounsfield units by its modality table or Rescale Slope and Intercept (PS3.3
C.11.1). The image decides whether the intercept can be meant: nothing is much thinner than air, and
a body has some fat below 0. Values that are in Hounsfield units already and state an intercept of
-1024 all the same, and values from 0 on that state none, are both seen in archives. Polarity is a
matter of display and changes no unit.

What has 8 bits, or was coloured or mapped by a palette, is a picture of a CT through some window:
there is no scale to be had, as in MR. Of these larger is brighter once polarity is applied.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.pixels.colour import from_palette, grey_plane
from dicom_ai_node.pixels.display import display_of
from dicom_ai_node.pixels.file import ImageFile
from dicom_ai_node.pixels.frame import bits_of_colour, finding, read_samples
from dicom_ai_node.pixels.functional_groups import frame_header
from dicom_ai_node.pixels.layout import PALETTE, Layout, layout_of
from dicom_ai_node.pixels.lenient import number, text
from dicom_ai_node.pixels.samples import (
    Stored,
    fill_padding,
    is_padding,
    stated_padding,
    stored_values,
)
from dicom_ai_node.types import Finding

AIR: Final = -1000.0
"""Hounsfield units of air, of padding, and of all that is stated to be thinner."""
TISSUE: Final = (-200.0, 300.0)
"""Hounsfield units of fat, water, organs and blood with contrast."""
OFFSET: Final = -1024.0
"""What unsigned values are shifted by, where the header does not say."""
OTHER_UNITS: Final = frozenset({"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"})
"""RescaleType of other images of a CT (PS3.3 C.11.1.1.2); US and what is absent mean HU there."""
THIN_AIR: Final = (-2300.0, -1500.0)
"""Where air comes to lie that is shifted twice; the fill of a field of view is below."""
_SOME, _MUCH = 0.02, 0.1
"""Part of the pixels: as much as is no accident, and as much tissue as a body has."""
_NOISE = 8
"""Different values, at least, of air; a fill has one."""
_FEWEST_BITS = 9
"""Of values on a scale of Hounsfield units; those of 8 bits are windowed."""

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Section:
    """One decoded section."""

    values: NDArray[np.float32]
    """Shape (rows, columns); in Hounsfield units from :data:`AIR` on, else larger is brighter."""
    hounsfield: bool
    findings: tuple[Finding, ...] = ()
    """What the header says wrongly of the pixels."""


def section(
    image: ImageFile, limits: Limits = DEFAULT, *, frame: int = 0, frames: int = 1
) -> Section:
    """Decode frame number ``frame``, from 0 on, of the ``frames`` of an image.

    Raises PixelsRefused: any code that concerns pixels.
    """
    header = image.header if frames == 1 else frame_header(image.header, frame)
    layout = layout_of(header, limits)
    samples, stream = read_samples(image, layout, None, limits, frame=frame, frames=frames)
    if samples.ndim == 3:
        bits, findings = bits_of_colour(samples, layout, stream)
        return Section(_floats(grey_plane(samples, bits)), False, findings)
    stored = stored_values(samples, layout, stream, padding=stated_padding(header))
    findings = (finding("I5", stored.fault),) if stored.fault else ()
    if layout.photometric == PALETTE:
        plane = grey_plane(*from_palette(stored.values, header))
        return Section(_floats(plane), False, findings)
    of_ct = text(header, "Modality") == "CT" and text(header, "RescaleType") not in OTHER_UNITS
    if of_ct and stored.layout.stored >= _FEWEST_BITS:
        values, wrong = _hounsfield(header, stored, layout)
        return Section(values, True, (*findings, *wrong))
    return Section(_grey(header, stored, layout), False, findings)


def _grey(header: Dataset, stored: Stored, layout: Layout) -> NDArray[np.float32]:
    """Return values of no unit, larger being brighter, with the padding as dark as the dark."""
    display = display_of(header, signed=layout.signed)
    dark_is_high = display.dark_is_high
    padding = stated_padding(header)
    values = fill_padding(stored.values, padding, stored.layout, dark_is_high=dark_is_high)
    return -_floats(values) if dark_is_high else _floats(values)


def _hounsfield(
    header: Dataset, stored: Stored, layout: Layout
) -> tuple[NDArray[np.float32], tuple[Finding, ...]]:
    """Return Hounsfield units, and what the header says wrongly of them."""
    padding = is_padding(stored.values, stated_padding(header), stored.layout)
    modality = display_of(header, signed=layout.signed).modality
    table = next((one for one in modality if one.fits(stored.values.astype(np.float64))), None)
    findings: tuple[Finding, ...] = ()
    if table is not None:
        values = _floats(table.apply(stored.values.astype(np.float64)))
    else:
        slope = number(header, "RescaleSlope") or 1.0
        intercept = number(header, "RescaleIntercept") or 0.0
        values, wrong = _rescaled(_floats(stored.values), slope, intercept, ~padding)
        findings = (finding("I6", wrong),) if wrong else ()
    values[padding] = AIR
    return np.maximum(values, np.float32(AIR)), findings


def _rescaled(
    stored: NDArray[np.float32], slope: float, intercept: float, real: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], str]:
    """Apply what is stated, or what the image shows to be meant; and say why that is not the same.

    ``real`` are the pixels that are no padding.
    """
    values = stored * np.float32(slope) + np.float32(intercept)
    seen = values[real]
    if not seen.size:
        return values, ""
    thin = seen[(seen > THIN_AIR[0]) & (seen < THIN_AIR[1])]
    if intercept < 0 and thin.size >= _SOME * seen.size and len(np.unique(thin)) >= _NOISE:
        wrong = f"RescaleIntercept {intercept:g}: air lies at {np.median(thin):.0f}: not applied"
        return values - np.float32(intercept), wrong
    low, high = TISSUE[0] - OFFSET, TISSUE[1] - OFFSET
    if not intercept and seen.min() >= 0 and ((seen >= low) & (seen <= high)).mean() >= _MUCH:
        wrong = f"RescaleIntercept 0: no pixel is below 0: {OFFSET:g} is applied"
        return values + np.float32(OFFSET), wrong
    return values, ""


def _floats(values: Values) -> NDArray[np.float32]:
    return values.astype(np.float32)
