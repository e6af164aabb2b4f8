"""Tables and windows that cannot be meant for the image: it looks as if they were not there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_ai_node.pixels import load, normalise
from tests.builders.pixels import UID, quantised, radiograph, scene, set_pixels, write

SIZE = 24
VALUES = quantised(scene(), 12)
PLAIN = normalise(VALUES, SIZE)
RAMP = np.arange(4096)
GAMMA = np.round(4095 * (RAMP / 4095) ** 2).astype(int)
NOISE = np.random.default_rng(0).integers(0, 4096, 4096)


def table(
    data: bytes, *, count: int = 4096, first: int = 0, bits: int = 12, vr: str = "OW"
) -> Dataset:
    """An item of a LUT sequence whose descriptor and data need not agree."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count & 0xFFFF, first & 0xFFFF, bits])
    if vr == "US":
        item.add_new("LUTData", "US", np.frombuffer(data, "<u2").tolist())
    else:
        item.add_new("LUTData", vr, data)
    return item


def words(entries: NDArray[np.integer], order: str = "<") -> bytes:
    return entries.astype(f"{order}u2").tobytes()


def seen(folder: Path, ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> NDArray[np.float32]:
    return load(write(folder / "a.dcm", ds, syntax), size=SIZE)


def same(first: NDArray[np.float32], second: NDArray[np.float32], atol: float = 2e-3) -> None:
    np.testing.assert_allclose(first, second, rtol=0, atol=atol)


UNUSABLE = {
    "a quarter of the entries": table(words(RAMP[:1000])),
    "all entries but one": table(words(RAMP[:-1])),
    "65536 declared": table(words(RAMP), count=0),
    "packed, a few missing": table(bytes(4000), bits=8),
    "zeros from the middle on": table(words(np.where(RAMP < 2000, RAMP, 0))),
    "noise": table(words(NOISE)),
    "one value for all": table(words(np.full(4096, 2000))),
    "black and white alone": table(words(np.where(RAMP < 2000, 0, 4095))),
    "of higher values": table(words(RAMP), first=20000),
    "white from a tenth on": table(words(np.minimum(RAMP * 20, 4095))),
    "empty": table(b""),
}


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("damage", UNUSABLE)
def test_a_table_that_cannot_be_meant_changes_nothing(
    tmp_path: Path, damage: str, sequence: str
) -> None:
    ds = radiograph(VALUES, 12)
    setattr(ds, sequence, [UNUSABLE[damage]])
    same(seen(tmp_path, ds), PLAIN, atol=0)


READABLE: dict[str, Callable[[NDArray[np.integer]], Dataset]] = {
    "as declared": lambda curve: table(words(curve)),
    "other byte order": lambda curve: table(words(curve, ">")),
    "other byte order, as numbers": lambda curve: table(words(curve, ">"), vr="US"),
    "bytes": lambda curve: table(words(curve), vr="OB"),
    "bits that are too few": lambda curve: table(words(curve), bits=8),
    "bits that are too many": lambda curve: table(words(curve), bits=16),
    "packed": lambda curve: table((curve // 16).astype(np.uint8).tobytes(), bits=8),
    "packed, as 16 bit": lambda curve: table((curve // 16).astype(np.uint8).tobytes(), bits=16),
    "packed, turned": lambda curve: table(
        (curve // 16).astype(np.uint8).view(np.uint16).byteswap().tobytes(), bits=8
    ),
    "packed, as numbers": lambda curve: table(
        (curve // 16).astype(np.uint8).tobytes(), bits=8, vr="US"
    ),
    "an odd number, packed": lambda curve: table(
        (curve // 16).astype(np.uint8)[:-1].tobytes() + b"\0", count=4095, bits=8
    ),
    "count in the other byte order": lambda curve: table(words(curve), count=0x10),
    "a byte too many": lambda curve: table(words(curve) + b"\0\0"),
}


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("form", READABLE)
def test_a_curve_is_used_in_whatever_form_it_comes(
    tmp_path: Path, form: str, sequence: str
) -> None:
    ds = radiograph(VALUES, 12)
    setattr(ds, sequence, [READABLE[form](GAMMA)])
    expected = radiograph(GAMMA[VALUES].astype(np.uint16), 12)
    same(seen(tmp_path, ds), seen(tmp_path, expected), atol=0.03)  # the mean before the curve
    assert np.abs(seen(tmp_path, ds) - PLAIN).mean() > 0.03


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=str)
@pytest.mark.parametrize("order", "<>")
def test_curves_in_other_encodings(tmp_path: Path, order: str, syntax: UID) -> None:
    ds = radiograph(VALUES, 12)
    set_pixels(ds, VALUES, syntax)
    ds.VOILUTSequence = [table(words(RAMP, order))]
    same(seen(tmp_path, ds, syntax), PLAIN)


@pytest.mark.parametrize("stated", [-2048 & 0xFFFF, 2048])
def test_first_mapped_values_of_the_wrong_sign(tmp_path: Path, stated: int) -> None:
    signed = VALUES.astype(np.int16) - 2048
    ds = radiograph(signed, 12, RescaleSlope="1", RescaleIntercept="0")
    ds.VOILUTSequence = [table(words(GAMMA), first=stated)]
    curved = seen(tmp_path, ds)
    expected = radiograph(GAMMA[VALUES].astype(np.uint16), 12)
    right = stated != 2048  # which is outside whatever it is taken for
    same(curved, seen(tmp_path, expected) if right else PLAIN, atol=0.03)
    unsigned = radiograph(VALUES, 12, RescaleSlope="1", RescaleIntercept="-2048")
    unsigned.VOILUTSequence = [table(words(GAMMA), first=stated)]
    same(seen(tmp_path, unsigned), curved)


def test_large_first_values_of_unsigned_images(tmp_path: Path) -> None:
    ds = radiograph((VALUES + 40000).astype(np.uint16), 16, PixelRepresentation=1)
    ds.PixelRepresentation = 0
    ds.VOILUTSequence = [table(words(RAMP), first=40000)]
    same(seen(tmp_path, ds), PLAIN)


def test_the_first_of_several_tables_that_fits_is_used(tmp_path: Path) -> None:
    ds = radiograph(VALUES, 12)
    ds.VOILUTSequence = [UNUSABLE["noise"], table(words(GAMMA)), table(words(RAMP))]
    curved = seen(tmp_path, ds)
    ds.VOILUTSequence = [table(words(GAMMA))]
    same(curved, seen(tmp_path, ds), atol=0)


def test_a_damaged_table_leaves_it_to_the_window(tmp_path: Path) -> None:
    ds = radiograph(VALUES, 12, WindowCenter="1500", WindowWidth="1800")
    windowed = seen(tmp_path, ds)
    ds.VOILUTSequence = [UNUSABLE["a quarter of the entries"]]
    same(seen(tmp_path, ds), windowed, atol=0)
    assert np.abs(windowed - PLAIN).mean() > 0.02


@pytest.mark.parametrize(
    ("centres", "widths"),
    [
        (["9000", "1500"], ["10", "1800"]),
        (["1500", "1500"], ["0", "1800"]),
        (["0", "1500", "7"], ["-5", "1800"]),
        (["4000", "1500"], ["800", "1800"]),  # most of the image would be black
    ],
)
def test_the_first_of_several_windows_that_fits_is_used(
    tmp_path: Path, centres: list[str], widths: list[str]
) -> None:
    ds = radiograph(VALUES, 12, WindowCenter="1500", WindowWidth="1800")
    windowed = seen(tmp_path, ds)
    ds.WindowCenter, ds.WindowWidth = centres, widths
    same(seen(tmp_path, ds), windowed, atol=0)


@pytest.mark.parametrize(("centre", "width"), [("4000", "800"), ("100", "600"), ("2000", "300")])
def test_a_window_that_saturates_most_pixels_is_not_used(
    tmp_path: Path, centre: str, width: str
) -> None:
    ds = radiograph(VALUES, 12, WindowCenter=centre, WindowWidth=width)
    same(seen(tmp_path, ds), PLAIN, atol=0)


def test_borders_that_are_black_already_say_nothing_against_a_window(tmp_path: Path) -> None:
    values = np.zeros((160, 120), np.uint16)
    values[40:100, 20:80] = 1000 + VALUES[:60, :60] // 4  # a child on a large detector
    ds = radiograph(values, 12)
    plain = seen(tmp_path, ds)
    ds.WindowCenter, ds.WindowWidth = "1500", "800"
    assert np.abs(seen(tmp_path, ds) - plain).mean() > 0.05


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_damaged_curve_still_says_which_end_is_dark(tmp_path: Path, sequence: str) -> None:
    ds = radiograph((4095 - VALUES).astype(np.uint16), 12)
    setattr(ds, sequence, [table(words(RAMP[::-1][:1000]))])
    same(seen(tmp_path, ds), PLAIN)


def test_tables_without_end_are_not_read(tmp_path: Path) -> None:
    ds = radiograph(VALUES, 12)
    ds.VOILUTSequence = [UNUSABLE["noise"]] * 200 + [table(words(GAMMA))]
    same(seen(tmp_path, ds), PLAIN, atol=0)
