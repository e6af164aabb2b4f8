"""What a compressed image says of itself, read from its markers before a decoder sees it.

The decoders allocate what these markers ask for and some of them fill up what is missing, so size
and completeness are checked here: ITU-T T.81 (JPEG), T.87 (JPEG-LS), T.800 (JPEG 2000) and
T.814 (HTJ2K). The markers, not the transfer syntax, choose the decoder: files are mislabelled.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum

from dicom_ai_node.pixels.refusals import RefusalCode, refuse

_SOF_JPEG = frozenset({0xC0, 0xC1, 0xC2, 0xC3})
_SOF_JPEG_LS = 0xF7
_SOF_OTHER = frozenset({0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SOS = 0xDA
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_SOC_SIZ = b"\xff\x4f\xff\x51"
_SOT = 0xFF90
_EOC = b"\xff\xd9"


class Coding(StrEnum):
    """Which decoder a codestream needs."""

    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"
    """Part 1, and Part 15 which is HTJ2K."""


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


def inspect(data: bytes) -> Codestream:
    """Read the markers of ``data``.

    Raises
    ------
    PixelsRefused
        ``undecodable``, ``truncated`` or ``unsupported_syntax``.
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


def _inspect_jpeg2000(data: bytes) -> Codestream:
    length, _capabilities, *grid = struct.unpack_from(">HH8L", data, 4)
    width, height, left, top, tile_width, tile_height, tile_left, tile_top = grid
    (components,) = struct.unpack_from(">H", data, 40)
    depth = data[42]
    if not (tile_width and tile_height and width > left and height > top):
        raise refuse(RefusalCode.UNDECODABLE, "an empty JPEG 2000 image")
    across, down = -(-(width - tile_left) // tile_width), -(-(height - tile_top) // tile_height)
    if across * down > 65535:
        raise refuse(RefusalCode.UNDECODABLE, "more tiles than JPEG 2000 has numbers")
    return Codestream(
        coding=Coding.JPEG_2000,
        data=_complete(data, 4 + length, across * down),
        rows=height - top,
        columns=width - left,
        components=components,
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        lossy=True,
    )


def _complete(data: bytes, position: int, tiles: int) -> bytes:
    """Return ``data`` with its end marker once every tile-part is seen to be there in full.

    Only this tells apart a truncated codestream and a complete one that merely lacks its end
    marker: OpenJPEG refuses both.
    """
    seen: set[int] = set()
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
    return data if data[position : position + 2] == _EOC else data[:position] + _EOC
