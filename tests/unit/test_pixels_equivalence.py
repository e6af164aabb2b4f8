"""One picture in many encodings gives one tensor.

Tolerances: at the same depth the variants differ by float32 rounding alone, so 1e-5. Across depths
each value is off by up to half a step of the coarser depth at either end of the stretch, so two
steps of it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_ai_node.pixels import grey, load, normalise, read_frame
from tests.builders.pixels import quantised, radiograph, scene, write

SIZE = 24
SAME = 1e-5

seeds = st.integers(0, 10_000)
depths = st.sampled_from([8, 10, 12, 14, 15, 16])
wordy = st.sampled_from([10, 12, 14, 15])


def tensor(ds: Dataset) -> NDArray[np.float32]:
    with TemporaryDirectory() as folder:
        return load(write(Path(folder) / "a.dcm", ds), size=SIZE)


def plain(values: NDArray[Any]) -> NDArray[np.float32]:
    return normalise(values, SIZE)


def assert_same(first: NDArray[Any], second: NDArray[Any], tolerance: float = SAME) -> None:
    np.testing.assert_allclose(first, second, rtol=0, atol=tolerance)


@given(seed=seeds, bits=depths)
@settings(max_examples=20, deadline=None)
def test_plain_image_is_normalised_as_it_is(seed: int, bits: int) -> None:
    values = quantised(scene(seed=seed), bits)
    np.testing.assert_array_equal(tensor(radiograph(values, bits)), plain(values))


@given(seed=seeds, bits=depths, other=depths)
@settings(max_examples=20, deadline=None)
def test_depth_does_not_matter(seed: int, bits: int, other: int) -> None:
    picture = scene(seed=seed)
    steps = 2 / (1 << min(bits, other))
    first, second = (tensor(radiograph(quantised(picture, n), n)) for n in (bits, other))
    assert_same(first, second, steps)


@given(seed=seeds, bits=depths)
@settings(max_examples=20, deadline=None)
def test_monochrome1_is_inverted_once(seed: int, bits: int) -> None:
    values = quantised(scene(seed=seed), bits)
    negative = ((1 << bits) - 1 - values.astype(np.int64)).astype(values.dtype)
    for shape in (None, "INVERSE", "IDENTITY"):  # the shape never counts
        ds = radiograph(negative, bits, PhotometricInterpretation="MONOCHROME1")
        if shape:
            ds.PresentationLUTShape = shape
        assert_same(tensor(ds), plain(values))
    ds = radiograph(values, bits, PresentationLUTShape="INVERSE")
    assert_same(tensor(ds), plain(values))


@given(
    seed=seeds,
    bits=depths,
    slope=st.floats(0.01, 100).map(lambda slope: round(slope, 3)),
    intercept=st.integers(-5000, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", None]),
)
@settings(max_examples=30, deadline=None)
def test_rescale_and_a_window_around_everything_do_not_matter(
    seed: int, bits: int, slope: float, intercept: int, function: str | None
) -> None:
    values = quantised(scene(seed=seed), bits)
    low, high = intercept, intercept + slope * ((1 << bits) - 1)
    ds = radiograph(values, bits, RescaleSlope=str(slope), RescaleIntercept=str(intercept))
    assert_same(tensor(ds), plain(values))
    ds.WindowCenter = f"{(low + high) / 2:.10g}"
    ds.WindowWidth = f"{(high - low) * 1.5 + 2:.10g}"
    if function:
        ds.VOILUTFunction = function
    assert_same(tensor(ds), plain(values))


@given(seed=seeds, bits=wordy)
@settings(max_examples=20, deadline=None)
def test_negative_slope_under_monochrome1_is_plain(seed: int, bits: int) -> None:
    values = quantised(scene(seed=seed), bits)
    ds = radiograph(values, bits, RescaleSlope="-1", RescaleIntercept="100")
    ds.PhotometricInterpretation = "MONOCHROME1"
    assert_same(tensor(ds), plain(values))


@given(seed=seeds, bits=depths.filter(lambda bits: bits > 8), extended=st.booleans())
@settings(max_examples=20, deadline=None)
def test_signed_values_do_not_matter(seed: int, bits: int, extended: bool) -> None:
    values = quantised(scene(seed=seed), bits)
    signed = values.astype(np.int64) - (1 << (bits - 1))
    # Above the sign bit there may be more of the sign, or nothing.
    stored = signed if extended else signed & ((1 << bits) - 1)
    ds = radiograph(stored.astype(np.uint16), bits, PixelRepresentation=1)
    assert_same(tensor(ds), plain(values))


@given(seed=seeds, bits=st.sampled_from([8, 10, 12]), overlay=st.booleans())
@settings(max_examples=20, deadline=None)
def test_position_of_the_bits_and_overlays_above_them_do_not_matter(
    seed: int, bits: int, overlay: bool
) -> None:
    values = quantised(scene(seed=seed), bits).astype(np.uint16)
    shift = 15 - bits
    cells = values << shift | (np.indices(values.shape).sum(0) % 2 << 15 if overlay else 0)
    ds = radiograph(cells.astype(np.uint16), bits, HighBit=bits - 1 + shift)
    assert_same(tensor(ds), plain(values))


@given(
    seed=seeds,
    signed=st.booleans(),
    inverted=st.booleans(),
    rows=st.integers(1, 20),
    spread=st.integers(0, 40),
    windowed=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_padding_does_not_matter(
    seed: int, signed: bool, inverted: bool, rows: int, spread: int, windowed: bool
) -> None:
    # Bits 0 to 13 of a 14 bit image; the upper half is free for padding.
    picture = scene(seed=seed)
    picture[:rows] = picture[:, -9:] = 0.0
    picture[40:60, 30:50] = 0.0  # dark of its own, as air beside a patient
    values = quantised(picture, 13).astype(np.int64)
    shown = (1 << 13) - 1 - values if inverted else values
    padded = shown.copy()
    rng = np.random.default_rng(seed)
    first = 16000 - spread
    padded[:rows] = rng.integers(first, 16001, padded[:rows].shape)
    padded[:, -9:] = rng.integers(first, 16001, padded[:, -9:].shape)
    offset = 8192 if signed else 0
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    dtype = np.int16 if signed else np.uint16
    ds = radiograph((padded - offset).astype(dtype), 14, PhotometricInterpretation=photometric)
    ds.add_new("PixelPaddingValue", "SS" if signed else "US", 16000 - offset)
    if spread:
        ds.add_new("PixelPaddingRangeLimit", "SS" if signed else "US", first - offset)
    if windowed:
        ds.WindowCenter, ds.WindowWidth = str(4096 - offset), "9000"
    assert_same(tensor(ds), plain(values))


def test_padding_value_inside_the_image_is_image(tmp_path: Path) -> None:
    values = np.clip(quantised(scene(), 12), 100, 4095).astype(np.uint16)
    values[30:40, 30:40] = 0
    ds = radiograph(values, 12)
    ds.add_new("PixelPaddingValue", "US", 0)
    np.testing.assert_array_equal(read_frame(write(tmp_path / "a.dcm", ds)).values, values)


@pytest.mark.parametrize(
    ("centre", "width", "function"),
    [
        ("50000", "100", "LINEAR"),  # beside the image
        ("2048", "0", "LINEAR"),
        ("2048", "-300", "LINEAR_EXACT"),
        ("2048", "0.5", "LINEAR"),
        ("2048", "4", "SIGMOID"),  # nearly all clipped
        ("nan", "400", "LINEAR"),
        ("2048", "4000", "CUBIC"),
        ("", "", "LINEAR"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_nonsense_windows_are_ignored(
    tmp_path: Path, centre: str, width: str, function: str
) -> None:
    values = quantised(scene(), 12)
    ds = radiograph(values, 12, VOILUTFunction=function)
    for keyword, value in (("WindowCenter", centre), ("WindowWidth", width)):
        ds.add_new(keyword, "LO", value)
        ds[keyword].VR = "DS"
    assert_same(load(write(tmp_path / "a.dcm", ds), size=SIZE), plain(values))


@given(seed=seeds, width=st.integers(1500, 6000), centre=st.integers(1200, 2800))
@settings(max_examples=20, deadline=None)
def test_windowing_after_averaging_is_nearly_windowing_before(
    seed: int, width: int, centre: int
) -> None:
    values = quantised(scene(384, 320, seed=seed), 12)
    # About half of the pixels inside, the full image and the averaged may disagree whether it fits.
    assume(np.mean(np.abs(values.astype(int) - centre) < width / 2) > 0.65)
    ds = radiograph(values, 12, WindowCenter=str(centre), WindowWidth=str(width))
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.dcm", ds)
        after, before = load(path, size=64), normalise(grey(path), 64)
    assert np.abs(after - before).mean() < 0.005
