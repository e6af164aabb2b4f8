"""How the header says that pixels are laid out (Image Pixel module, PS3.3 C.7.6.3)."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.pixels.lenient import integer, quotable, text
from dicom_ai_node.pixels.refusals import RefusalCode, refuse, refuse_large, refuse_multi_frame

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


def layout_of(header: Dataset, limits: Limits = DEFAULT) -> Layout:
    """Read the layout from ``header``; nothing is allocated yet.

    Raises PixelsRefused: ``multi_frame``, ``no_pixels``, ``too_large``, ``one_bit``,
    ``unsupported_depth`` or ``unsupported_layout``.
    """
    refuse_multi_frame(header)
    rows, columns = (integer(header, keyword) or 0 for keyword in ("Rows", "Columns"))
    if rows <= 0 or columns <= 0:
        raise refuse(RefusalCode.NO_PIXELS, f"Rows {rows}, Columns {columns}")
    samples = integer(header, "SamplesPerPixel") or 1
    photometric = text(header, "PhotometricInterpretation")
    # Palettes are looked up into three samples of 16 bits.
    shown = (3, 16) if photometric == PALETTE else (samples, integer(header, "BitsAllocated") or 8)
    refuse_large(rows, columns, samples=shown[0], bits=shown[1], limits=limits, whose="header")
    allocated, stored, high_bit = _depth(header)
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
        bits = group << 16 | 0x0100
        if bits in header and integer(header, bits) == allocated:
            place = integer(header, group << 16 | 0x0102)
            mask |= 1 << place if place is not None and 0 <= place < allocated else 0
    return mask


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
