from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing

from dicom_ai_node.pixels import grey, load, normalise
from dicom_ai_node.pixels.display import display_of
from tests.builders.pixels import quantised, radiograph, scene, write


def table(entries: list[int], *, first: int = 0, bits: int = 16, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) & 0xFFFF, first & 0xFFFF, bits])
    if vr == "US":
        item.add_new("LUTData", "US", entries)
    else:
        item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def shown(tmp_path: Path, ds: Dataset) -> np.ndarray:
    return grey(write(tmp_path / "a.dcm", ds))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_follow_the_standard(tmp_path: Path, function: str) -> None:
    values = quantised(scene(), 12)
    ds = radiograph(
        values,
        12,
        RescaleSlope="2",
        RescaleIntercept="-1000",
        WindowCenter=["2500", "1"],
        WindowWidth=["4000", "2"],
        VOILUTFunction=function,
    )
    # pydicom scales to 0..2^bits - 1 with the slope in; ours is on [0, 1].
    low, high = -1000, 2 * 4095 - 1000
    expected = (apply_windowing(apply_modality_lut(values, ds), ds) - low) / (high - low)
    np.testing.assert_allclose(shown(tmp_path, ds), expected, atol=1e-6)


@pytest.mark.parametrize("vr", ["US", "OW"])
def test_voi_table_goes_before_the_window(tmp_path: Path, vr: str) -> None:
    values = quantised(scene(), 8)
    curve = [int(65535 * (i / 199) ** 2) for i in range(200)]
    ds = radiograph(values, WindowCenter="128", WindowWidth="256")
    ds.VOILUTSequence = [table(curve, first=20, vr=vr)]
    expected = np.asarray(curve)[np.clip(values.astype(int) - 20, 0, 199)]
    np.testing.assert_array_equal(shown(tmp_path, ds), expected)


def test_voi_table_with_a_negative_first_value(tmp_path: Path) -> None:
    values = quantised(scene(), 8).astype(np.int16) - 128
    ds = radiograph(values, 8)
    ds.VOILUTSequence = [table([i * i for i in range(256)], first=-128)]
    expected = (values.astype(int) + 128) ** 2
    np.testing.assert_array_equal(shown(tmp_path, ds), expected)


def test_modality_table_goes_before_the_voi(tmp_path: Path) -> None:
    values = quantised(scene(), 8)
    ds = radiograph(values, WindowCenter="32768", WindowWidth="65536")
    ds.ModalityLUTSequence = [table([65535 - 257 * i for i in range(256)])]
    expected = 1.0 - values / 255.0
    np.testing.assert_allclose(shown(tmp_path, ds), expected, atol=1e-4)


def test_table_of_65536_entries_is_written_with_0(tmp_path: Path) -> None:
    values = quantised(scene(), 16)
    ds = radiograph(values)
    ds.VOILUTSequence = [table(list(range(65536)), vr="OW")]
    np.testing.assert_array_equal(shown(tmp_path, ds), values)


def test_entries_of_8_bits_may_be_packed(tmp_path: Path) -> None:
    values = quantised(scene(), 8)
    ds = radiograph(values)
    item = table([0] * 256, bits=8, vr="OW")
    item.LUTData = bytes(255 - i for i in range(256))
    ds.VOILUTSequence = [item]
    np.testing.assert_array_equal(shown(tmp_path, ds), 255 - values.astype(int))


@pytest.mark.parametrize("damage", ["no data", "no descriptor", "one entry", "constant", "empty"])
def test_damaged_tables_are_ignored(tmp_path: Path, damage: str) -> None:
    values = quantised(scene(), 8)
    ds = radiograph(values)
    item = table([7, 7, 7] if damage == "constant" else [7])
    if damage == "no data":
        del item.LUTData
    if damage == "no descriptor":
        del item.LUTDescriptor
    ds.VOILUTSequence = [] if damage == "empty" else [item]
    np.testing.assert_array_equal(shown(tmp_path, ds), values)


def test_curve_on_the_averaged_image_is_nearly_the_curve_before(tmp_path: Path) -> None:
    values = quantised(scene(384, 320), 12)
    ds = radiograph(values, 12)
    sigmoid = 65535 / (1 + np.exp(-np.linspace(-5, 5, 4096)))
    ds.VOILUTSequence = [table(sigmoid.astype(int).tolist())]
    path = write(tmp_path / "a.dcm", ds)
    assert np.abs(load(path, size=24) - normalise(grey(path), 24)).mean() < 0.01


@pytest.mark.parametrize(
    ("photometric", "slope", "dark_is_high"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", "-1", True),
        ("MONOCHROME1", "-1", False),
    ],
)
def test_which_end_is_dark(photometric: str, slope: str | None, dark_is_high: bool) -> None:
    ds = Dataset()
    ds.PhotometricInterpretation = photometric
    if slope:
        ds.RescaleSlope = slope
    assert display_of(ds, signed=False).dark_is_high is dark_is_high
