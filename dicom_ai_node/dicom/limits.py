"""How much of an object is read: what is beyond is refused before it takes memory or time."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one data set; ``[limits]`` of the configuration."""

    header_bytes: int = 32 << 20
    """Bytes before the pixel data."""
    element_bytes: int = 16 << 20
    """Bytes of one value that is no sequence, the pixel data aside."""
    elements: int = 400_000
    """Data elements and sequence items before the pixel data, nested ones too. An Enhanced CT of
    2,000 frames has 310,000 where each frame has all functional groups that it may have."""
    depth: int = 32
    """Sequences within each other."""
    pixels: int = 50_000_000
    """Rows x Columns. The largest radiographs have some 36 million."""
    decoded_bytes: int = 128 << 20
    """Bytes of the decoded pixels: Rows x Columns x samples, of 8 or 16 bits each."""


DEFAULT: Final = Limits()
