"""What a compressed image says of itself, read from its markers before a decoder sees it.

The decoders allocate what these markers ask for and some of them fill up what is missing, so size
and completeness are checked here: ITU-T T.81 (JPEG), T.87 (JPEG-LS), T.800 (JPEG 2000) and
T.814 (HTJ2K). The markers, not the transfer syntax, choose the decoder: files are mislabelled.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_ai_node.dicom.syntaxes import Coding
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

MAX_SCANS = 64
"""Scans of a progressive JPEG; encoders make about ten."""

MAX_TILES = 4096
"""Tiles of a JPEG 2000 image: OpenJPEG keeps some 10 kB for each."""

MAX_PARTS = 1_000_000
"""Code-blocks and packets of a JPEG 2000 image; one of 64 megapixels has some 50,000."""

_SOF_JPEG = frozenset({0xC0, 0xC1, 0xC2, 0xC3})
_SOF_JPEG_LS = 0xF7
_SOF_OTHER = frozenset({0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SOS = 0xDA
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_SOC_SIZ = b"\xff\x4f\xff\x51"
_SOT = 0xFF90
_SOD = 0xFF93
_COD = 0xFF52
_COC = 0xFF53
_EOC = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Codestream:
    """A complete codestream and what its markers say."""

    coding: Coding
    data: bytes
    rows: int
    columns: int
    components: int
    precision: int
    """Bits a sample."""
    signed: bool
    lossy: bool
    """Whether decoded values may differ from the encoded; true where only the encoder knows."""
    parts: int = 0
    """Code-blocks and packets of JPEG 2000, about, at most."""
    reversible: bool = False
    """Whether the wavelet of JPEG 2000 is that of integers (5/3), in all of its parts."""


def inspect(data: bytes) -> Codestream:
    """Read the markers of ``data``.

    Raises PixelsRefused: ``undecodable``, ``truncated`` or ``unsupported_syntax``.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _inspect_jpeg(data)
        start = data.find(_SOC_SIZ, 0, 4096)  # not 0 where a JP2 file was stored
        if start >= 0:
            return _inspect_jpeg2000(data[start:])
    except (struct.error, IndexError) as error:
        raise refuse(RefusalCode.TRUNCATED, "within the header of the codestream") from error
    raise refuse(RefusalCode.UNSUPPORTED_SYNTAX, "neither JPEG, JPEG-LS nor JPEG 2000")


def _inspect_jpeg(data: bytes) -> Codestream:
    frame: tuple[int, tuple[int, int, int, int]] | None = None
    near, position = 0, 2
    while True:
        if data[position] != 0xFF:
            raise refuse(RefusalCode.UNDECODABLE, "a JPEG marker is expected")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _SOF_OTHER:
            raise refuse(RefusalCode.UNSUPPORTED_SYNTAX, "hierarchical or arithmetic JPEG")
        if marker in _SOF_JPEG or marker == _SOF_JPEG_LS:
            frame = marker, struct.unpack_from(">BHHB", data, position + 2)
        elif marker == _SOS:
            # NEAR of JPEG-LS follows the list of components.
            near = data[position + 3 + 2 * data[position + 2]]
            break
        position += length
    if frame is None:
        raise refuse(RefusalCode.UNDECODABLE, "a JPEG scan without a frame header")
    refuse_many_scans(data)
    # Entropy-coded data escape 0xFF, so this is the end marker itself; libjpeg would otherwise
    # paint what is missing in grey.
    if data.find(_EOC, position) < 0:
        raise refuse(RefusalCode.TRUNCATED, "JPEG without an end marker")
    marker, (precision, rows, columns, components) = frame
    is_ls = marker == _SOF_JPEG_LS
    return Codestream(
        coding=Coding.JPEG_LS if is_ls else Coding.JPEG,
        data=data,
        rows=rows,
        columns=columns,
        components=components,
        precision=precision,
        signed=False,
        lossy=near > 0 if is_ls else marker != 0xC3,
    )


def refuse_many_scans(data: bytes) -> None:
    """Raise ``undecodable`` for a JPEG of more scans than any encoder makes.

    libjpeg passes over the whole image for each of them, and an empty one takes ten bytes.
    """
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise refuse(RefusalCode.UNDECODABLE, f"a JPEG of {scans} scans, expected {MAX_SCANS}")


def _inspect_jpeg2000(data: bytes) -> Codestream:
    length, _capabilities, *grid = struct.unpack_from(">HH8L", data, 4)
    width, height, left, top, tile_width, tile_height, tile_left, tile_top = grid
    (components,) = struct.unpack_from(">H", data, 40)
    depth = data[42]
    if not (tile_width and tile_height and width > left and height > top):
        raise refuse(RefusalCode.UNDECODABLE, "an empty JPEG 2000 image")
    across, down = -(-(width - tile_left) // tile_width), -(-(height - tile_top) // tile_height)
    if across * down > MAX_TILES:
        raise refuse(RefusalCode.UNDECODABLE, f"JPEG 2000 of {across * down} tiles")
    whole, styles = _complete(data, 4 + length, across * down)
    parts = (style.parts(width - left, height - top, across * down) for style in styles)
    return Codestream(
        coding=Coding.JPEG_2000,
        data=whole,
        rows=height - top,
        columns=width - left,
        components=components,
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        lossy=True,
        parts=max(parts, default=0) * components,
        reversible=all(style.reversible for style in styles),
    )


@dataclass(frozen=True, slots=True)
class _Style:
    """A coding style (T.800 A.6.1, A.6.2): into how many pieces it cuts an image."""

    layers: int
    levels: int
    block: tuple[int, int]
    """Exponents of the width and height of a code-block."""
    precincts: bytes
    """Exponents of each resolution, the smallest first; empty where precincts have no end."""
    reversible: bool

    def parts(self, width: int, height: int, tiles: int) -> int:
        """Return about how many code-blocks and packets a component has, at most."""
        total = 0
        for resolution in range(self.levels + 1):
            shrunk = self.levels - resolution
            sides = [-(-side >> shrunk) or 1 for side in (width, height)]
            exponents = self.precincts[resolution : resolution + 1]
            precinct = (exponents[0] & 15, exponents[0] >> 4) if exponents else (15, 15)
            precincts = _pieces(sides, precinct) + tiles
            cut = [min(b, max(0, p - 1)) for b, p in zip(self.block, precinct, strict=True)]
            total += precincts * self.layers + _pieces(sides, cut) + tiles
        return total


def _pieces(sides: Sequence[int], exponents: Sequence[int]) -> int:
    across, down = (-(-side >> exponent) for side, exponent in zip(sides, exponents, strict=True))
    return across * down


def _styles(data: bytes, position: int, layers: int = 1) -> Iterator[_Style]:
    """Yield the coding styles among the markers of a header that begins at ``position``.

    ``layers`` are those of a style for one component (COC), which states none. An image has up to
    256 components here.
    """
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        if marker < 0xFF00 or marker in (_SOT, _SOD):
            return
        if marker == _COD:
            flags, _order, layers = struct.unpack_from(">BBH", data, position + 4)
            yield _style(data, position + 9, layers, has_precincts=bool(flags & 1))
        elif marker == _COC:
            yield _style(data, position + 6, layers, has_precincts=bool(data[position + 5] & 1))
        position += 2 + length


def _style(data: bytes, position: int, layers: int, *, has_precincts: bool) -> _Style:
    """Read what COD and COC have in common, from the number of levels on."""
    levels, wide, high = struct.unpack_from(">BBB", data, position)
    if levels > 32:
        raise refuse(RefusalCode.UNDECODABLE, f"JPEG 2000 with {levels} levels")
    precincts = data[position + 5 : position + 6 + levels] if has_precincts else b""
    return _Style(layers, levels, (wide + 2, high + 2), precincts, data[position + 4] == 1)


def _complete(data: bytes, position: int, tiles: int) -> tuple[bytes, set[_Style]]:
    """Return ``data`` with its end marker once every tile-part is seen to be there in full.

    With it come the coding styles of the main header and of all tile-parts.

    Only this tells apart a truncated codestream and a complete one that merely lacks its end
    marker: OpenJPEG refuses both.
    """
    seen: set[int] = set()
    styles = set(_styles(data, position))
    layers = max((style.layers for style in styles), default=1)
    while position + 2 <= len(data):
        (marker,) = struct.unpack_from(">H", data, position)
        if marker == 0xFFD9:
            break
        if marker != _SOT:
            if seen or marker < 0xFF00:
                break
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            continue
        tile, length = struct.unpack_from(">HL", data, position + 4)
        seen.add(tile)
        styles.update(_styles(data, position + 12, layers))
        if length == 0:  # the last tile-part, up to the end marker
            position = data.rfind(_EOC)
            if position < 0:
                raise refuse(RefusalCode.TRUNCATED, "JPEG 2000 without an end marker")
            break
        if length < 14 or position + length > len(data):
            raise refuse(RefusalCode.TRUNCATED, "JPEG 2000 with an incomplete tile-part")
        position += length
    if len(seen) < tiles:
        raise refuse(RefusalCode.TRUNCATED, f"JPEG 2000 with {len(seen)} of {tiles} tiles")
    ended = data[position : position + 2] == _EOC
    return data if ended else data[:position] + _EOC, styles
