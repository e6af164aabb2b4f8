"""From pixel data to an array of samples, one decoder per coding.

All decoders come from imagecodecs: libjpeg-turbo for every JPEG (8 and 12 bit lossy, 2 to 16 bit
lossless), CharLS, and OpenJPEG for JPEG 2000 and HTJ2K. OpenJPH would be twice as fast at HTJ2K,
but version 0.26 loops for ever on some damaged codestreams and keeps other damage to itself. None
converts colours: what the samples mean is settled in :mod:`~dicom_ai_node.pixels.colour`.
"""

import threading
from contextlib import nullcontext
from functools import cache
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.syntaxes import Coding
from dicom_ai_node.pixels.codestream import MAX_PARTS, Codestream
from dicom_ai_node.pixels.layout import YBR_422, Layout
from dicom_ai_node.pixels.normalise import block
from dicom_ai_node.pixels.refusals import RefusalCode, refuse, refuse_large

Samples = NDArray[Any]
"""Integer samples of shape (rows, columns) or (rows, columns, 3)."""

LARGE = 24_000_000
"""Samples of an image that is decoded while no other so large one is."""

_one_large = threading.Lock()

REDUCED_SIDE = 1.5
"""A reduced JPEG 2000 image keeps at least this many pixels for each pixel of the tensor's side."""

RINGING = 1 + 1 / 64
"""How far above the largest value that of a low band may come, as a factor."""

_REVERSIBLE = (0.75, 0.25, -0.125)
_IRREVERSIBLE = (0.602949018236, 0.266864118443, -0.078223266529, -0.016864118443, 0.026748757411)
"""Low-pass analysis filters of JPEG 2000 (T.800 annex F: 5/3 and 9/7), from their centre on."""
_REACH = tuple(range(-3, 5))
"""Samples of a low band, counted from its own place, that one of the area mean is made of."""


def decode(
    stream: Codestream, layout: Layout, *, size: int | None = None, limits: Limits = DEFAULT
) -> Samples:
    """Decode ``stream``, whose size must be the header's.

    With ``size``, the side of the wanted tensor, a grey JPEG 2000 image may be decoded at a
    reduced resolution of at least :data:`REDUCED_SIDE` times that, six times faster: the low band
    is made into the area mean that the contract takes, see :func:`_as_area_mean`.

    Raises PixelsRefused: ``size_mismatch``, ``unsupported_layout``, ``too_large`` or
    ``undecodable``.
    """
    expected = (layout.rows, layout.columns)
    if (stream.rows, stream.columns) != expected:
        detail = f"{stream.rows} x {stream.columns} for {layout.rows} x {layout.columns}"
        raise refuse(RefusalCode.SIZE_MISMATCH, detail)
    if stream.components not in (1, 3):
        raise refuse(RefusalCode.UNSUPPORTED_LAYOUT, f"{stream.components} components")
    if stream.precision > 16:
        raise refuse(RefusalCode.UNSUPPORTED_DEPTH, f"{stream.precision} bits")
    refuse_large(
        stream.rows,
        stream.columns,
        samples=stream.components,
        bits=stream.precision,
        limits=limits,
        whose="codestream",
    )
    if stream.parts > MAX_PARTS:
        raise refuse(RefusalCode.UNDECODABLE, f"JPEG 2000 in {stream.parts} blocks and packets")
    # Overlays and signs that the codestream does not know of are no numbers to be averaged.
    is_plain = not (layout.signed or layout.overlays)
    reduced = _decode_reduced(stream, size) if size and is_plain else None
    # Beyond some ringing only all of the image tells whether its header is wrong.
    if reduced is not None and int(reduced.max()) < RINGING * (1 << (layout.high_bit + 1)):
        return reduced
    # OpenJPEG takes 4 bytes for each sample, so large images are decoded one after the other.
    large = stream.rows * stream.columns * stream.components > LARGE
    try:
        with _one_large if large else nullcontext():
            samples = np.asarray(_decode(stream))
    except Exception as error:
        # Each codec has errors of its own, and damage can surface as a ValueError or MemoryError.
        raise refuse(RefusalCode.UNDECODABLE, f"{stream.coding}: {_brief(error)}") from error
    if samples.shape != (expected if stream.components == 1 else (*expected, 3)):
        raise refuse(RefusalCode.UNDECODABLE, f"{stream.coding}: decoded to {samples.shape}")
    return samples


def _decode(stream: Codestream) -> object:
    if stream.coding is Coding.JPEG_LS:
        return imagecodecs.jpegls_decode(stream.data)
    if stream.coding is Coding.JPEG_2000:
        return imagecodecs.jpeg2k_decode(stream.data)
    # Naming the same space twice keeps libjpeg from converting, whatever the file claims.
    space = "YCBCR" if stream.components == 3 else None
    return imagecodecs.jpeg8_decode(stream.data, colorspace=space, outcolorspace=space)


def _decode_reduced(stream: Codestream, size: int) -> Samples | None:
    """Decode at the lowest resolution that serves ``size``, None when only all of it will do."""
    levels = int(np.log2(max(1.0, min(stream.rows, stream.columns) / (REDUCED_SIDE * size))))
    if stream.coding != Coding.JPEG_2000 or levels == 0:
        return None
    if stream.components != 1 or stream.signed or stream.precision > 16:
        return None
    try:
        with Image.open(BytesIO(stream.data)) as image:
            image.reduce = levels  # type: ignore[assignment, method-assign]
            samples = np.asarray(image)
    except Exception:  # noqa: BLE001 - too few levels, or damage that the full decoder will name
        return None
    if samples.ndim != 2 or samples.dtype not in (np.uint8, np.uint16):
        return None
    # Pillow moves samples up to the most significant bit.
    samples = samples >> (8 * samples.dtype.itemsize - stream.precision)
    means = samples.astype(np.float32)
    for axis, side in enumerate((stream.rows, stream.columns)):
        means = _as_area_mean(means, axis, side, block(side, size), levels, stream.reversible)
    # Beyond what the codestream can hold is overshoot.
    return np.clip(np.rint(means), 0, (1 << stream.precision) - 1).astype(samples.dtype)


def _as_area_mean(
    low_band: NDArray[np.float32], axis: int, side: int, wide: int, levels: int, reversible: bool
) -> NDArray[np.float32]:
    """Make of a wavelet low band what means over blocks of ``wide`` pixels would be, along an axis.

    ``side`` is that of the whole image. What it leaves over from whole blocks is cut off by the
    contract; here the other samples move along, by up to a block at the far end.
    """
    used = side - side % wide
    count = min(round(used / (1 << levels)), low_band.shape[axis])
    first, last = (  # pixels from the place of the band's sample to the centre of the wanted one
        (at + 0.5) * used / count - 0.5 - at * (1 << levels) for at in (0, count - 1)
    )
    ends = [_taps(levels, wide, reversible, round(shift, 3)) for shift in (first, last)]
    along = np.linspace(0, 1, count)[:, None]
    weights = ((1 - along) * ends[0] + along * ends[1]).astype(np.float32)
    before, after = -_REACH[0], _REACH[-1]
    padded = np.pad(
        low_band,
        [(before, after) if one == axis else (0, 0) for one in (0, 1)],
        mode="edge",  # the last sample of a line stands for those beyond it
    )
    columns = weights if axis else weights[:, :, None]
    found = np.zeros((), np.float32)
    for start in range(len(_REACH)):
        part = (slice(None),) * axis + (slice(start, start + count),)
        found = found + columns[:, start] * padded[part]
    return np.asarray(found)


@cache
def _taps(levels: int, wide: int, reversible: bool, shift: float) -> NDArray[np.float64]:
    """Return the weights that make a low band the means over blocks of ``wide`` pixels.

    They are of the samples :data:`_REACH` around each. A sample of the band sits on the first pixel
    of 2^levels, the wanted one ``shift`` pixels further, and the wavelet weighs the pixels around
    as no block does. Least squares over the frequencies that the band holds, each weighed as
    radiographs have it; what the band has folded over is left.
    """
    half = _REVERSIBLE if reversible else _IRREVERSIBLE
    frequency = np.linspace(0.01, np.pi, 200)  # of the band, radians a sample
    of_pixels = frequency / (1 << levels)
    low = np.ones_like(frequency)
    for level in range(levels):
        waves = [2 * h * np.cos(at * of_pixels * (1 << level)) for at, h in enumerate(half) if at]
        low *= half[0] + sum(waves)
    mean = np.sin(wide * of_pixels / 2) / (wide * np.sin(of_pixels / 2))
    wanted = mean / low * np.exp(1j * of_pixels * shift)
    weight = 1 / (0.1 + frequency)
    left = np.exp(1j * np.outer(frequency, np.array(_REACH))) * weight[:, None]
    right = wanted * weight
    taps, *_ = np.linalg.lstsq(
        np.concatenate([left.real, left.imag]), np.concatenate([right.real, right.imag])
    )
    return np.asarray(taps / taps.sum())


def decode_rle(data: bytes, layout: Layout) -> Samples:
    """Decode one RLE frame (PS3.5 annex G) into unsigned samples.

    Raises PixelsRefused: ``undecodable`` or ``truncated``.
    """
    dtype = np.dtype("<u1" if layout.allocated == 8 else "<u2")
    shape = (layout.samples, layout.rows, layout.columns)
    segments = int.from_bytes(data[:4], "little")
    if len(data) < 64 or segments != layout.samples * dtype.itemsize:
        raise refuse(RefusalCode.UNDECODABLE, f"RLE with {segments} segments")
    expected = int(np.prod(shape)) * dtype.itemsize
    try:
        decoded = _decode_rle(data, dtype, expected)
    except Exception as error:
        raise refuse(RefusalCode.UNDECODABLE, f"RLE: {_brief(error)}") from error
    if len(decoded) < expected:
        raise refuse(RefusalCode.TRUNCATED, f"RLE: {len(decoded)} of {expected} bytes")
    planes = np.frombuffer(decoded, dtype, count=expected // dtype.itemsize).reshape(shape)
    return planes[0] if layout.samples == 1 else np.moveaxis(planes, 0, -1)


def _decode_rle(data: bytes, dtype: np.dtype[Any], expected: int) -> bytes:
    try:
        return bytes(imagecodecs.dicomrle_decode(data, dtype, out=expected))
    except imagecodecs.DicomrleError:
        # Some writers pad to even length with a byte that is no zero and reads as a broken run.
        return bytes(imagecodecs.dicomrle_decode(data[:-1], dtype, out=expected))


def native_length(layout: Layout) -> int:
    """Return how many bytes the native pixel data of ``layout`` have (PS3.5 8.2)."""
    per_pixel = 2 if _is_subsampled(layout) else layout.samples
    return layout.rows * layout.columns * per_pixel * (layout.allocated // 8)


def _is_subsampled(layout: Layout) -> bool:
    return layout.samples == 3 and layout.photometric in YBR_422


def unpack_native(value: memoryview, layout: Layout, *, vr: str, little_endian: bool) -> Samples:
    """View native pixel data (PS3.5 8.2) as unsigned samples, without a copy where possible.

    Raises PixelsRefused: ``truncated``: fewer bytes than the header promises.
    """
    width = layout.allocated // 8
    expected = native_length(layout)
    count = expected // width
    if len(value) < expected:
        raise refuse(RefusalCode.TRUNCATED, f"{len(value)} of {expected} bytes")
    if width == 1 and vr == "OW" and not little_endian and len(value) % 2 == 0:
        # Two 8-bit samples share a word, and words are what big endian turns round.
        flat = np.frombuffer(value, np.uint16).byteswap().view(np.uint8)[:count]
    else:
        dtype = np.dtype(np.uint8) if width == 1 else np.dtype("<u2" if little_endian else ">u2")
        flat = np.frombuffer(value, dtype, count=count)
    if _is_subsampled(layout):
        return _from_422(flat, layout)
    if layout.samples == 1:
        return flat.reshape(layout.rows, layout.columns)
    if layout.planar:
        return np.moveaxis(flat.reshape(3, layout.rows, layout.columns), 0, -1)
    return flat.reshape(layout.rows, layout.columns, 3)


def _from_422(flat: Samples, layout: Layout) -> Samples:
    """Spread Y1 Y2 Cb Cr (PS3.3 C.7.6.3.1.2) over two pixels."""
    if layout.columns % 2:
        raise refuse(RefusalCode.UNSUPPORTED_LAYOUT, "an odd number of columns in 4:2:2")
    pairs = flat.reshape(-1, 4)
    pixels = np.empty((len(pairs), 2, 3), flat.dtype)
    pixels[:, :, 0] = pairs[:, :2]
    pixels[:, :, 1:] = pairs[:, np.newaxis, 2:]
    return pixels.reshape(layout.rows, layout.columns, 3)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
