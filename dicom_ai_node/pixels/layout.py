"""How the header says that pixels are laid out (Image Pixel module, PS3.3 C.7.6.3)."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_ai_node.pixels.fitness import refuse_multi_frame
from dicom_ai_node.pixels.header import integer, quotable, tagged, text
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

MAX_PIXELS = 100_000_000
"""The largest detectors have 20 megapixels; more than five times that is an attack or damage."""

GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
PALETTE = "PALETTE COLOR"
YBR_422 = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape and encoding of the one frame."""

    rows: int
    columns: int
    samples: int
    """Samples per pixel: 1 or 3."""
    photometric: str
    """PhotometricInterpretation."""
    allocated: int
    """Bits a sample takes in native pixel data: 8 or 16."""
    stored: int
    """Bits of a sample that carry its value."""
    high_bit: int
    """Index of the most significant of them."""
    signed: bool
    """Whether values are in two's complement."""
    planar: bool
    """Whether native colour is stored plane by plane."""
    overlays: int = 0
    """Bits of a cell that the header gives to overlays (retired, PS3.5 8.1.2), as a mask."""


def layout_of(header: Dataset) -> Layout:
    """Read the layout from ``header``; nothing is allocated yet.

    Raises
    ------
    PixelsRefused
        ``multi_frame``, ``no_pixels``, ``too_large``, ``one_bit``, ``unsupported_depth`` or
        ``unsupported_layout``.
    """
    refuse_multi_frame(header)
    rows, columns = _shape(header)
    allocated, stored, high_bit = _depth(header)
    samples = integer(header, "SamplesPerPixel") or 1
    photometric = text(header, "PhotometricInterpretation")
    if samples not in (1, 3):
        raise refuse(RefusalCode.UNSUPPORTED_LAYOUT, f"SamplesPerPixel {samples}")
    if samples == 1 and photometric not in GREY | {PALETTE}:
        # Guessing would be guessing whether bones are black or white.
        detail = f"PhotometricInterpretation {quotable(photometric)}"
        raise refuse(RefusalCode.UNSUPPORTED_LAYOUT, detail)
    return Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=integer(header, "PixelRepresentation") == 1,
        planar=integer(header, "PlanarConfiguration") == 1,
        overlays=_overlays(header, allocated),
    )


def _overlays(header: Dataset, allocated: int) -> int:
    """Return the bits of the cells that overlays take; such an overlay is as wide as a cell."""
    mask = 0
    for group in range(0x6000, 0x6020, 2):
        if tagged(header, group, 0x0100) == allocated:
            place = tagged(header, group, 0x0102)
            mask |= 1 << place if place is not None and 0 <= place < allocated else 0
    return mask


def _shape(header: Dataset) -> tuple[int, int]:
    rows, columns = (integer(header, keyword) or 0 for keyword in ("Rows", "Columns"))
    if rows <= 0 or columns <= 0:
        raise refuse(RefusalCode.NO_PIXELS, f"Rows {rows}, Columns {columns}")
    if rows * columns > MAX_PIXELS:
        raise refuse(RefusalCode.TOO_LARGE, f"{rows} x {columns}")
    return rows, columns


def _depth(header: Dataset) -> tuple[int, int, int]:
    """BitsAllocated, BitsStored and HighBit; values that cannot be are mended where one can."""
    allocated = integer(header, "BitsAllocated") or 0
    if allocated == 1:
        raise refuse(RefusalCode.ONE_BIT)
    if allocated not in (8, 16):
        raise refuse(RefusalCode.UNSUPPORTED_DEPTH, f"BitsAllocated {allocated}")
    stored = integer(header, "BitsStored") or allocated
    if stored == 1:
        raise refuse(RefusalCode.ONE_BIT)
    if not 2 <= stored <= allocated:
        raise refuse(RefusalCode.UNSUPPORTED_DEPTH, f"BitsStored {stored} of {allocated}")
    high_bit = integer(header, "HighBit")
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return allocated, stored, high_bit
