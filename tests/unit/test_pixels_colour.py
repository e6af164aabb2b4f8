from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_ai_node.pixels import load, read_frame
from tests.builders.pixels import quantised, radiograph, scene, set_codestream, write, write_as

GREY = quantised(scene(), 8)
AS_RGB = np.dstack([GREY] * 3)
AS_YBR = np.dstack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)])


@pytest.mark.parametrize("stated", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("samples", [AS_RGB, AS_YBR], ids=["rgb", "ybr"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_grey_in_colour_clothing_whatever_the_header_says(
    tmp_path: Path, syntax: UID, samples: np.ndarray, stated: str
) -> None:
    path = write_as(tmp_path / "a.dcm", samples, syntax, PhotometricInterpretation=stated)
    np.testing.assert_array_equal(read_frame(path).values, GREY)


@pytest.mark.parametrize("stated", ["RGB", "YBR_FULL_422", "MONOCHROME2"])
@pytest.mark.parametrize(
    "options",
    [
        {"level": 98, "subsampling": "422"},  # to YCbCr, with a JFIF marker
        {"level": 98, "colorspace": "RGB", "outcolorspace": "RGB"},  # RGB, with an Adobe marker
    ],
    ids=["ycbcr", "rgb"],
)
def test_grey_colour_jpeg(tmp_path: Path, options: dict[str, Any], stated: str) -> None:
    ds = radiograph(AS_RGB, PhotometricInterpretation=stated)
    if stated == "MONOCHROME2":
        ds.SamplesPerPixel = 1
    set_codestream(ds, bytes(imagecodecs.jpeg8_encode(AS_RGB, **options)))
    values = read_frame(write(tmp_path / "a.dcm", ds, JPEGBaseline8Bit)).values
    assert np.abs(values.astype(int) - GREY).max() <= 4


def test_grey_colour_in_lossless_codecs(tmp_path: Path) -> None:
    for syntax, code in (
        (JPEGLosslessSV1, imagecodecs.jpeg8_encode(AS_RGB, lossless=True, predictor=1)),
        (JPEG2000Lossless, imagecodecs.jpeg2k_encode(AS_RGB, codecformat="j2k", level=0)),
    ):
        ds = radiograph(AS_RGB)
        set_codestream(ds, bytes(code))
        values = read_frame(write(tmp_path / "a.dcm", ds, syntax)).values
        assert np.abs(values.astype(int) - GREY).max() <= 2


def test_planes(tmp_path: Path) -> None:
    ds = radiograph(AS_RGB, PlanarConfiguration=1)
    ds.PixelData = np.moveaxis(AS_RGB, -1, 0).tobytes()
    np.testing.assert_array_equal(read_frame(write(tmp_path / "a.dcm", ds)).values, GREY)


def test_native_422(tmp_path: Path) -> None:
    ds = radiograph(AS_YBR, PhotometricInterpretation="YBR_FULL_422")
    pairs = GREY.reshape(-1, 2)
    ds.PixelData = np.hstack([pairs, np.full_like(pairs, 128)]).tobytes()
    np.testing.assert_array_equal(read_frame(write(tmp_path / "a.dcm", ds)).values, GREY)


def test_16_bit_rgb(tmp_path: Path) -> None:
    values = quantised(scene(), 16)
    path = write_as(tmp_path / "a.dcm", np.dstack([values] * 3), ExplicitVRLittleEndian)
    np.testing.assert_array_equal(read_frame(path).values, values)


def test_a_coloured_mark_is_tolerated(tmp_path: Path) -> None:
    values = AS_RGB.copy()
    values[:8, :8] = (255, 0, 0)  # 0.8 % of the area
    tensor = load(write_as(tmp_path / "a.dcm", values, ExplicitVRLittleEndian), size=24)
    plain = load(write_as(tmp_path / "b.dcm", GREY, ExplicitVRLittleEndian), size=24)
    assert np.abs(tensor - plain)[4:, 4:].max() < 0.05


def test_grey_palette(tmp_path: Path) -> None:
    ds = radiograph(255 - GREY, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        entries = np.arange(255, -1, -1, dtype="<u2") * 257
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", entries.tobytes())
    values = read_frame(write(tmp_path / "a.dcm", ds)).values
    np.testing.assert_allclose(values / 257, GREY)


def test_8_bit_words_are_turned_round_in_big_endian(tmp_path: Path) -> None:
    ds = radiograph(GREY)
    ds.PixelData = GREY.view(np.uint16).byteswap().tobytes()
    ds["PixelData"].VR = "OW"
    path = write(tmp_path / "a.dcm", ds, ExplicitVRBigEndian)
    np.testing.assert_array_equal(read_frame(path).values, GREY)
