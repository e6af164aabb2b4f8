from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels import load, read_frame
from dicom_ai_node.pixels.codecs import decode
from dicom_ai_node.pixels.codestream import inspect
from dicom_ai_node.pixels.layout import Layout
from tests.builders.pixels import (
    ENCODERS,
    quantised,
    radiograph,
    scene,
    set_codestream,
    write,
    write_as,
)

LOSSLESS = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
]
LOSSY = [
    (JPEGBaseline8Bit, 8, 3),
    (JPEGExtended12Bit, 8, 3),
    (JPEGExtended12Bit, 12, 8),
    (JPEGLSNearLossless, 8, 2),
    (JPEGLSNearLossless, 12, 2),
    (JPEG2000, 8, 4),
    (JPEG2000, 16, 800),
    (HTJ2K, 12, 4),
]


def name(value: object) -> str:
    return value.name if isinstance(value, UID) else str(value)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=name)
def test_lossless_syntaxes_give_back_the_source(tmp_path: Path, syntax: UID, bits: int) -> None:
    values = quantised(scene(), bits)
    decoded = read_frame(write_as(tmp_path / "a.dcm", values, syntax, bits)).values
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=name)
def test_lossless_syntaxes_keep_the_sign(tmp_path: Path, syntax: UID, bits: int) -> None:
    values = quantised(scene(), bits).astype(np.int32) - (1 << (bits - 1))
    path = write_as(tmp_path / "a.dcm", values.astype(np.int16), syntax, bits)
    np.testing.assert_array_equal(read_frame(path).values, values)


@pytest.mark.parametrize(("syntax", "bits", "tolerance"), LOSSY, ids=name)
def test_lossy_syntaxes_come_close(tmp_path: Path, syntax: UID, bits: int, tolerance: int) -> None:
    values = quantised(scene(), bits)
    decoded = read_frame(write_as(tmp_path / "a.dcm", values, syntax, bits)).values
    assert decoded.shape == values.shape
    assert np.abs(decoded.astype(int) - values.astype(int)).max() <= tolerance


@pytest.mark.parametrize("bot", [True, False])
@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, RLELossless], ids=name)
def test_fragments_are_joined_with_and_without_offsets(
    tmp_path: Path, syntax: UID, fragments: int, bot: bool
) -> None:
    values = quantised(scene(), 8)
    ds = radiograph(values)
    set_codestream(ds, ENCODERS[syntax](values, 8), fragments=fragments, bot=bot)
    decoded = read_frame(write(tmp_path / "a.dcm", ds, syntax)).values
    assert np.abs(decoded.astype(int) - values.astype(int)).max() <= 3


def test_offset_table_may_be_left_out_altogether(tmp_path: Path) -> None:
    values = quantised(scene(), 8)
    ds = radiograph(values)
    set_codestream(ds, ENCODERS[JPEGLSLossless](values, 8), bot=False)
    ds.PixelData = ds.PixelData[8:]
    decoded = read_frame(write(tmp_path / "a.dcm", ds, JPEGLSLossless)).values
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("stated", [JPEGLossless, JPEG2000, JPEGBaseline8Bit], ids=name)
def test_codestream_decides_where_the_syntax_is_wrong(tmp_path: Path, stated: UID) -> None:
    values = quantised(scene(), 8)
    ds = radiograph(values)
    set_codestream(ds, ENCODERS[JPEGLSLossless](values, 8))
    np.testing.assert_array_equal(read_frame(write(tmp_path / "a.dcm", ds, stated)).values, values)


def test_jpeg2000_without_its_end_marker_is_whole(tmp_path: Path) -> None:
    values = quantised(scene(), 12)
    ds = radiograph(values, 12)
    set_codestream(ds, ENCODERS[JPEG2000Lossless](values, 12).removesuffix(b"\xff\xd9"))
    path = write(tmp_path / "a.dcm", ds, JPEG2000Lossless)
    np.testing.assert_array_equal(read_frame(path).values, values)


def test_jp2_file_inside_fragments(tmp_path: Path) -> None:
    values = quantised(scene(), 8)
    ds = radiograph(values)
    boxed = imagecodecs.jpeg2k_encode(values, codecformat="jp2", reversible=True, level=0)
    set_codestream(ds, bytes(boxed))
    path = write(tmp_path / "a.dcm", ds, JPEG2000Lossless)
    np.testing.assert_array_equal(read_frame(path).values, values)


def test_rle_with_a_stray_byte_at_the_end(tmp_path: Path) -> None:
    values = quantised(scene(97, 81), 8)
    ds = radiograph(values)
    encoded = ENCODERS[RLELossless](values, 8)
    assert encoded.endswith(b"\x00")  # the segment is padded
    set_codestream(ds, encoded[:-1] + b"\x20")
    path = write(tmp_path / "a.dcm", ds, RLELossless)
    np.testing.assert_array_equal(read_frame(path).values, values)


def test_a_reduced_image_lies_where_the_whole_does_though_blocks_leave_some_of_it_over(
    tmp_path: Path,
) -> None:
    """Of 767 pixels 255 blocks of three are taken, and two are left over; of the low band 191."""
    ramp = quantised(np.tile(np.linspace(0.2, 0.8, 767) ** 2, (767, 1)), 16)
    plain = load(write_as(tmp_path / "a.dcm", ramp, ExplicitVRLittleEndian, 16), size=96)
    packed = load(write_as(tmp_path / "b.dcm", ramp, JPEG2000Lossless, 16), size=96)
    assert read_frame(tmp_path / "b.dcm", size=96).values.shape == (191, 191)
    assert np.abs(plain - packed).max() < 0.002


@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_reduced_jpeg2000_gives_nearly_the_same_tensor(
    tmp_path: Path, bits: int, reversible: bool
) -> None:
    values = quantised(scene(640, 512), bits)
    code = imagecodecs.jpeg2k_encode(
        values, codecformat="j2k", bitspersample=bits, reversible=reversible, level=80
    )
    ds = radiograph(values, bits)
    set_codestream(ds, bytes(code))
    path = write(tmp_path / "a.dcm", ds, JPEG2000)
    assert read_frame(path, size=64).values.shape == (160, 128)
    tensor = load(path, size=64)
    furthest = 0.003 if bits == 8 else 0.0005  # eight bits round the low band
    assert np.abs(tensor - read_frame(path).shown(64).tensor).mean() < furthest
    np.testing.assert_array_equal(read_frame(path).values.shape, values.shape)


def test_reduced_jpeg2000_keeps_the_units_of_a_window(tmp_path: Path) -> None:
    values = quantised(scene(640, 512), 12)
    changes = {"WindowCenter": 1500.0, "WindowWidth": 1200.0}
    plain = load(
        write_as(tmp_path / "a.dcm", values, ExplicitVRLittleEndian, 12, **changes), size=64
    )
    packed = load(write_as(tmp_path / "b.dcm", values, JPEG2000Lossless, 12, **changes), size=64)
    assert np.abs(plain - packed).mean() < 0.01


def test_ringing_above_the_bits_of_the_header_is_reduced_all_the_same(tmp_path: Path) -> None:
    """Encoders of HTJ2K state 16 bits for 12, and a low band goes beyond what is full white."""
    values = quantised(scene(640, 512), 12)
    plain = load(write_as(tmp_path / "a.dcm", values, ExplicitVRLittleEndian, 12), size=64)
    path = write_as(tmp_path / "b.dcm", values, HTJ2KLossless, 12)
    assert read_frame(path, size=64).values.shape == (160, 128)
    assert np.abs(plain - load(path, size=64)).mean() < 0.0005


@pytest.mark.parametrize("signed", [False, True])
def test_values_that_the_header_belies_are_not_reduced(tmp_path: Path, signed: bool) -> None:
    values = quantised(scene(640, 512), 13)
    changes = {"PixelRepresentation": 1} if signed else {}
    bits = 16 if signed else 12
    path = write_as(tmp_path / "a.dcm", values, HTJ2KLossless, bits, **changes)
    assert read_frame(path, size=64).values.shape == (640, 512)


GREY_LAYOUT = Layout(96, 80, 1, "MONOCHROME2", 16, 12, 11, signed=False, planar=False)


@pytest.mark.parametrize(
    "syntax", [JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000, HTJ2K], ids=name
)
@given(
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
    cut=st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_damage_ends_in_an_image_or_a_refusal(
    syntax: UID, damage: list[tuple[float, int]], cut: float
) -> None:
    whole = bytearray(ENCODERS[syntax](quantised(scene(), 12), 12))
    for place, byte in damage:
        whole[int(place * len(whole))] = byte
    try:
        decoded = decode(inspect(bytes(whole[: 1 + int(cut * len(whole))])), GREY_LAYOUT)
    except PixelsRefused:
        return
    assert decoded.shape == (96, 80)
