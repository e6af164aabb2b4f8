"""Bits above BitsStored: overlays, signs, or a header that is wrong."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels import normalise, read_frame, show
from dicom_ai_node.rules.image_rules import IMAGE_RULES
from tests.builders.pixels import (
    UID,
    quantised,
    radiograph,
    scene,
    set_codestream,
    write,
    write_as,
)

SIZE = 24
VALUES = quantised(scene(), 12)


def findings(path: Path) -> list[str]:
    return [one.rule for one in show(path, size=SIZE).findings]


def with_overlay(ds: Dataset, bit: int, group: int = 0x6000) -> Dataset:
    """An overlay in a bit of the cells (retired, PS3.3-2004 C.9.2)."""
    for element, vr, value in (
        (0x0010, "US", ds.Rows),
        (0x0011, "US", ds.Columns),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 16),
        (0x0102, "US", bit),
    ):
        ds.add_new((group, element), vr, value)
    return ds


def graphic(values: NDArray[np.integer], bit: int) -> NDArray[np.uint16]:
    """A filled half, which alone would look like a smooth image of higher values."""
    drawn = values.astype(np.uint16)
    drawn[:, : values.shape[1] // 2] |= 1 << bit
    return drawn


@pytest.mark.parametrize("stated", [8, 10, 11])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=str
)
def test_values_beyond_bits_stored_are_not_wrapped_and_said(
    tmp_path: Path, syntax: UID, stated: int
) -> None:
    path = write_as(tmp_path / "a.dcm", VALUES, syntax, 12)
    content = bytearray(path.read_bytes())
    for tag, value in (
        (b"\x28\x00\x01\x01US\x02\x00", stated),
        (b"\x28\x00\x02\x01US\x02\x00", stated - 1),
    ):
        content[content.index(tag) + 8] = value
    path.write_bytes(content)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    shown = show(path, size=SIZE)
    # JPEG 2000 is decoded at a lower resolution.
    np.testing.assert_allclose(shown.tensor, normalise(VALUES, SIZE), atol=0.02)
    assert [one.rule for one in shown.findings] == ["I5"]
    assert f"BitsStored {stated}" in shown.findings[0].reason
    assert shown.findings[0].severity == IMAGE_RULES["I5"].severity


@pytest.mark.parametrize("bits", [12, 16])
def test_values_within_bits_stored_find_nothing(tmp_path: Path, bits: int) -> None:
    assert findings(write(tmp_path / "a.dcm", radiograph(VALUES, bits))) == []


def test_a_picture_that_is_left_aligned_against_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", radiograph((VALUES << 4).astype(np.uint16), 12))
    np.testing.assert_array_equal(read_frame(path).values, VALUES << 4)
    assert findings(path) == ["I5"]


def test_values_that_are_not_where_high_bit_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", radiograph(VALUES, 12, HighBit=15))
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == ["I5"]


def test_dark_images_are_where_high_bit_says(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.dcm", radiograph((VALUES >> 4 << 4).astype(np.uint16), 12, HighBit=15)
    )
    np.testing.assert_array_equal(read_frame(path).values, VALUES >> 4)
    assert findings(path) == []


@pytest.mark.parametrize("bit", [12, 13, 15])
@pytest.mark.parametrize("group", [0x6000, 0x6002, 0x601E])
def test_declared_overlays_are_left_out(tmp_path: Path, bit: int, group: int) -> None:
    ds = radiograph(graphic(VALUES, bit), 12)
    path = write(tmp_path / "a.dcm", with_overlay(ds, bit, group))
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == []


def test_two_overlays_and_one_below_the_value(tmp_path: Path) -> None:
    cells = graphic(graphic(VALUES << 2, 15), 0)
    ds = radiograph(cells, 12, HighBit=13)
    for group, bit in ((0x6000, 15), (0x6002, 0)):
        with_overlay(ds, bit, group)
    path = write(tmp_path / "a.dcm", ds)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == []


def test_an_overlay_does_not_excuse_other_bits(tmp_path: Path) -> None:
    ds = radiograph(graphic(VALUES, 15), 12, BitsStored=10, HighBit=9)
    path = write(tmp_path / "a.dcm", with_overlay(ds, 15))
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == ["I5"]


def test_an_overlay_that_claims_the_value_takes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", with_overlay(radiograph(VALUES, 12), 7))
    np.testing.assert_array_equal(read_frame(path).values, VALUES)


def test_an_overlay_in_a_signed_image(tmp_path: Path) -> None:
    signed = VALUES.astype(np.int16) - 2048
    cells = graphic(signed.view(np.uint16) & 0x0FFF, 14)
    ds = with_overlay(radiograph(cells, 12, PixelRepresentation=1), 14)
    path = write(tmp_path / "a.dcm", ds)
    np.testing.assert_array_equal(read_frame(path).values, signed)
    assert findings(path) == []


@pytest.mark.parametrize("bit", [13, 14, 15])
def test_bits_of_an_undeclared_use_are_left_out_and_said(tmp_path: Path, bit: int) -> None:
    path = write(tmp_path / "a.dcm", radiograph(graphic(VALUES, bit), 12))
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == ["I5"]


def test_writing_in_the_bit_next_to_the_value(tmp_path: Path) -> None:
    cells = VALUES.copy()
    cells[10:20, 10:60:3] |= 1 << 12
    path = write(tmp_path / "a.dcm", radiograph(cells, 12))
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == ["I5"]


@pytest.mark.parametrize("value", [4096, 0xFFFF])
def test_single_marks_become_white(tmp_path: Path, value: int) -> None:
    cells = VALUES.copy()
    cells[5:15, 5:25] = value
    path = write(tmp_path / "a.dcm", radiograph(cells, 12))
    expected = VALUES.copy()
    expected[5:15, 5:25] = 4095
    np.testing.assert_array_equal(read_frame(path).values, expected)
    assert findings(path) == ["I5"]


def test_padding_may_lie_above_bits_stored(tmp_path: Path) -> None:
    cells = VALUES.copy()
    cells[:8] = 0xFFFF
    ds = radiograph(cells, 12)
    ds.add_new("PixelPaddingValue", "US", 0xFFFF)
    path = write(tmp_path / "a.dcm", ds)
    assert read_frame(path).values[:8].max() < 100
    assert findings(path) == []


@pytest.mark.parametrize("extended", [True, False])
def test_signs_carried_up_or_not_find_nothing(tmp_path: Path, extended: bool) -> None:
    signed = VALUES.astype(np.int16) - 2048
    cells = signed.view(np.uint16) if extended else signed.view(np.uint16) & 0x0FFF
    path = write(tmp_path / "a.dcm", radiograph(cells, 12, PixelRepresentation=1))
    np.testing.assert_array_equal(read_frame(path).values, signed)
    assert findings(path) == []


@pytest.mark.parametrize("stated", [8, 10])
def test_signed_values_beyond_bits_stored(tmp_path: Path, stated: int) -> None:
    signed = VALUES.astype(np.int16) - 2048
    ds = radiograph(signed, 12, BitsStored=stated, HighBit=stated - 1)
    path = write(tmp_path / "a.dcm", ds)
    np.testing.assert_array_equal(read_frame(path).values, signed)
    assert findings(path) == ["I5"]


def test_signed_values_beyond_bits_stored_that_are_never_negative(tmp_path: Path) -> None:
    ds = radiograph(VALUES.astype(np.int16), 12)
    path = write(tmp_path / "a.dcm", ds)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == ["I5"]


def test_a_test_pattern_of_black_and_white_goes_by_its_header(tmp_path: Path) -> None:
    """Its neighbours differ either way, and signs that are not carried up prove nothing."""
    signed = np.where(np.indices((64, 64)).sum(0) % 2, 2047, -2048).astype(np.int16)
    path = write(
        tmp_path / "a.dcm", radiograph(signed.view(np.uint16) & 0x0FFF, 12, PixelRepresentation=1)
    )
    np.testing.assert_array_equal(read_frame(path).values, signed)
    assert findings(path) == []


def test_grey_in_colour_clothing_beyond_bits_stored(tmp_path: Path) -> None:
    ds = radiograph(np.dstack([VALUES] * 3), 12, BitsStored=8, HighBit=7)
    path = write(tmp_path / "a.dcm", ds)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert findings(path) == ["I5"]


def test_the_overshoot_of_a_reduced_image_proves_nothing(tmp_path: Path) -> None:
    """Edges between black and white in a cell of 16 bits: a wavelet's low band goes beyond."""
    across, down = np.indices((512, 512)) // 20 % 2
    values = np.where(across & down, 4095, 0).astype(np.uint16)
    ds = radiograph(values, 12)
    code = imagecodecs.jpeg2k_encode(
        values, codecformat="j2k", bitspersample=16, reversible=True, level=0
    )
    set_codestream(ds, bytes(code))
    path = write(tmp_path / "a.dcm", ds, JPEG2000)
    assert findings(path) == []


def test_noise_is_shown_as_it_is(tmp_path: Path) -> None:
    """Nothing is smooth here: bits that may be values are not thrown away."""
    noise = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype(np.uint16)
    path = write(tmp_path / "a.dcm", radiograph(noise, 12, BitsStored=9, HighBit=8))
    np.testing.assert_array_equal(read_frame(path).values, noise)


def private(path: Path, syntax: str) -> Path:
    """Native pixels under the name of another transfer syntax."""
    ds = radiograph(VALUES, 12)
    write(path, ds)
    old = b"1.2.840.10008.1.2.1\0"
    content = path.read_bytes()
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    start = content.index(old)
    length = 132 + 8
    grown = int.from_bytes(content[length : length + 4], "little") + len(new) - len(old)
    content = (
        content[:length]
        + grown.to_bytes(4, "little")
        + content[length + 4 : start - 2]
        + len(new).to_bytes(2, "little")
        + new
        + content[start + len(old) :]
    )
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "syntax", ["1.2.840.113619.5.2", "1.3.46.670589.33.1.4.1", "1.2.840.10008.1.2.77", "1.2.3"]
)
def test_native_pixels_of_a_private_syntax_are_refused(tmp_path: Path, syntax: str) -> None:
    with pytest.raises(
        PixelsRefused, match=f"private or unknown transfer syntax {syntax}$"
    ) as info:
        show(private(tmp_path / "a.dcm", syntax), size=SIZE)
    assert info.value.reason.code == "unsupported_syntax"


def test_native_pixels_that_lost_their_compression_are_read(tmp_path: Path) -> None:
    path = private(tmp_path / "a.dcm", "1.2.840.10008.1.2.4.90")
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
