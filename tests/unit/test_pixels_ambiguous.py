"""Attributes whose VR depends on PixelRepresentation (US or SS) or on their length (US or OW).

Explicit VR says which of them it is, be it the wrong one; a file in Implicit VR says nothing.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_ai_node.demo.images import Image
from dicom_ai_node.pixels import load, normalise, show
from tests.builders.pixels import UID, quantised, radiograph, scene, set_pixels, write

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
SIZE = 64


def stored(picture: NDArray[np.float64], *, signed: bool) -> Image:
    """``picture`` in 12 bits."""
    values = quantised(picture, 12).astype(np.int16)
    return values - np.int16(2048) if signed else values.astype(np.uint16)


def padded(padding: int) -> Image:
    """An image with a border of ``padding``; it is signed where that is negative."""
    values = stored(0.1 + 0.8 * scene(), signed=padding < 0)
    values[:12] = values[:, -9:] = padding
    return values


def written(path: Path, ds: Dataset, values: Image, syntax: UID) -> Path:
    set_pixels(ds, values, syntax)
    return write(path, ds, syntax)


def twins(path: Path, ds: Dataset, values: Image) -> list[Path]:
    """``ds`` in each native transfer syntax."""
    return [written(path / f"{syntax}.dcm", ds, values, syntax) for syntax in SYNTAXES]


def same(files: list[Path]) -> NDArray[np.float32]:
    """The tensor that all of ``files`` have, none of them with a finding."""
    first, *others = (show(file, size=SIZE) for file in files)
    for other in others:
        np.testing.assert_array_equal(other.tensor, first.tensor)
        assert other.findings == first.findings == ()
    return first.tensor


@pytest.mark.parametrize("is_range", [False, True])
@pytest.mark.parametrize("padding", [4095, 0, 0xFFFF, 0xF830, -2048, -2000, -1900])
def test_padding_is_the_same_with_and_without_a_vr(
    tmp_path: Path, padding: int, is_range: bool
) -> None:
    values, vr = padded(padding), "SS" if padding < 0 else "US"
    ds = radiograph(values, 12)
    without = load(twins(tmp_path, ds, values)[1], size=SIZE)
    ds.add_new("PixelPaddingValue", vr, padding)
    if is_range:
        ds.add_new("PixelPaddingRangeLimit", vr, padding + (12 if padding <= 0 else -12))
    files = twins(tmp_path, ds, values)
    tensor = same(files)
    assert b"\x28\x00\x20\x01\x02\x00\x00\x00" in files[1].read_bytes(), "a length and no VR"
    assert tensor[:6].max() == tensor[:, -4:].max() == 0.0, "padding is dark"
    assert (tensor != without).any()


@pytest.mark.parametrize("padding", [0xFFFF, 0xF830])
def test_padding_above_bits_stored_whatever_sign_it_is_read_with(
    tmp_path: Path, padding: int
) -> None:
    """The VR, or where there is none PixelRepresentation, may make a negative number of it."""
    values = padded(padding)
    ds = radiograph(values, 12)
    ds.add_new("PixelPaddingValue", "US", padding)
    right, implicit, _ = twins(tmp_path, ds, values)
    representation = b"\x28\x00\x03\x01\x02\x00\x00\x00"
    content = implicit.read_bytes()
    assert content.count(representation + b"\0\0") == 1
    odd, empty = tmp_path / "odd.dcm", tmp_path / "empty.dcm"
    odd.write_bytes(content.replace(representation + b"\0\0", representation + b"\2\0"))
    without = representation[:4] + bytes(4)
    empty.write_bytes(content.replace(representation + b"\0\0", without))
    ds.add_new("PixelPaddingValue", "SS", padding - 0x10000)
    wrong = written(tmp_path / "wrong.dcm", ds, values, ExplicitVRLittleEndian)
    same([right, odd, empty, wrong])


def table(first: int, vr: str, data: str) -> Dataset:
    """A curve over 4096 values."""
    curve = np.round(4095 * (np.arange(4096) / 4095) ** 2).astype(np.uint16)
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [4096, first, 16])
    item.add_new("LUTData", data, curve.tolist() if data == "US" else curve.tobytes())
    return item


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("data", ["US", "OW"])
def test_tables_are_the_same_with_and_without_a_vr(
    tmp_path: Path, keyword: str, signed: bool, data: str
) -> None:
    values = stored(scene(), signed=signed)
    ds = radiograph(values, 12)
    without = same(twins(tmp_path, ds, values)[:2])
    setattr(ds, keyword, [table(-2048 if signed else 0, "SS" if signed else "US", data)])
    # pydicom would leave the words of OW as they are in big endian.
    assert abs(same(twins(tmp_path, ds, values)[:2]) - without).mean() > 0.05


def test_palettes_are_the_same_with_and_without_a_vr(tmp_path: Path) -> None:
    indices = quantised(scene(), 8)
    ds = radiograph(indices, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        entries = (np.arange(256, dtype=np.uint16) * 257).tobytes()
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", entries)
    tensor = same(twins(tmp_path, ds, indices)[:2])
    np.testing.assert_allclose(tensor, normalise(indices, SIZE), atol=1e-6)
