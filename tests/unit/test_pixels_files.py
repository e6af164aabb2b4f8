"""Headers that can and cannot be read, and pictures that are not DICOM."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_ai_node.dicom.limits import Limits
from dicom_ai_node.dicom.syntaxes import NATIVE_SYNTAXES
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.pixels import (
    RefusalCode,
    grey_from_picture,
    load,
    normalise,
    read_frame,
    read_header,
)
from dicom_ai_node.pixels.lenient import integer, number
from tests.builders.pixels import UID, quantised, radiograph, scene, write, write_as

VALUES = quantised(scene(), 12)


@pytest.mark.parametrize("syntax", NATIVE_SYNTAXES, ids=lambda syntax: syntax.name)
def test_header_stops_before_the_pixels(tmp_path: Path, syntax: UID) -> None:
    header = read_header(write_as(tmp_path / "a.dcm", VALUES, syntax, 12))
    assert header.Rows == 96
    assert "PixelData" not in header
    assert header.file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 10, b"no DICOM at all " * 40, bytes(128) + b"DICM", b"\x89PNG" * 99]
)
def test_what_is_not_dicom(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "name.dcm"
    path.write_bytes(content)
    with pytest.raises(UnreadableInstance, match=r"^name\.dcm: expected"):
        read_header(path)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.dcm"):
        with pytest.raises(UnreadableInstance, match="expected a readable file"):
            read_header(path)


def test_data_set_without_file_meta(tmp_path: Path) -> None:
    for implicit in (True, False):
        path = tmp_path / "a.dcm"
        radiograph(VALUES, 12).save_as(path, implicit_vr=implicit, little_endian=True)
        np.testing.assert_array_equal(read_frame(path).values, VALUES)


def test_deflated_bomb(tmp_path: Path) -> None:
    path = write_as(tmp_path / "a.dcm", VALUES, DeflatedExplicitVRLittleEndian, 12)
    assert read_header(path).Rows == 96
    limits = Limits(header_bytes=2000, decoded_bytes=10_000)
    with pytest.raises(PixelsRefused, match="over 12000 bytes when inflated") as caught:
        load(path, size=24, limits=limits)
    assert caught.value.reason.code == RefusalCode.TOO_LARGE


def test_damaged_deflation(tmp_path: Path) -> None:
    path = write_as(tmp_path / "a.dcm", VALUES, DeflatedExplicitVRLittleEndian, 12)
    content = path.read_bytes()
    path.write_bytes(content[:-3000])
    with pytest.raises(PixelsRefused) as caught:
        load(path, size=24)
    assert caught.value.reason.code == RefusalCode.TRUNCATED
    meta = 144 + read_file_meta_info(path).FileMetaInformationGroupLength
    path.write_bytes(content[:meta] + b"\xff" * 64)  # RFC 1951 has no block of type 3
    with pytest.raises(UnreadableInstance):
        read_header(path)


@pytest.mark.parametrize("position", range(130, 700, 19))
def test_damaged_headers_end_in_a_tensor_or_a_reason(tmp_path: Path, position: int) -> None:
    path = write_as(tmp_path / "a.dcm", VALUES, ExplicitVRLittleEndian, 12)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    try:
        tensor = load(path, size=24)
    except (PixelsRefused, UnreadableInstance):
        return
    assert tensor.shape == (24, 24)


def test_icon_is_not_the_image(tmp_path: Path) -> None:
    ds = radiograph(VALUES, 12)
    icon = Dataset()
    icon.update(radiograph(np.zeros((8, 8), np.uint8)))
    ds.IconImageSequence = [icon]
    np.testing.assert_array_equal(read_frame(write(tmp_path / "a.dcm", ds)).values, VALUES)


@pytest.mark.parametrize("extra", [1, 2, 100])
def test_bytes_after_the_pixels_are_ignored(tmp_path: Path, extra: int) -> None:
    values = quantised(scene(95, 81), 8)
    ds = radiograph(values, PixelData=values.tobytes() + bytes(extra))
    np.testing.assert_array_equal(read_frame(write(tmp_path / "a.dcm", ds)).values, values)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_unreadable_numbers_are_done_without(tmp_path: Path) -> None:
    ds = radiograph(VALUES, 12)
    for keyword in ("RescaleSlope", "WindowCenter", "WindowWidth", "NumberOfFrames"):
        ds.add_new(keyword, "LO", "about 3")
        ds[keyword].VR = "IS" if keyword == "NumberOfFrames" else "DS"
    tensor = load(write(tmp_path / "a.dcm", ds), size=24)
    np.testing.assert_array_equal(tensor, normalise(VALUES, 24))


def test_values_of_the_wrong_length_are_done_without() -> None:
    ds = Dataset()
    ds[0x00280010] = RawDataElement(Tag(0x00280010), "US", 3, b"abc", 0, False, True)
    assert integer(ds, "Rows") is None
    assert number(ds, "Rows") is None


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg", ".webp"])
def test_pictures_of_8_bits(tmp_path: Path, suffix: str) -> None:
    values = quantised(scene(), 8)
    for mode in ("L", "RGB"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(values).convert(mode).save(path, quality=95)
        assert np.abs(grey_from_picture(path).astype(int) - values).max() <= 6


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_pictures_of_16_bits(tmp_path: Path, suffix: str) -> None:
    values = quantised(scene(), 16)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(grey_from_picture(path), values)
    assert normalise(grey_from_picture(path), 24).shape == (24, 24)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    values = quantised(scene(), 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(grey_from_picture(tmp_path / "a.png"), np.rot90(values, -1))


def test_pictures_with_transparency_and_palette(tmp_path: Path) -> None:
    values = quantised(scene(), 8)
    for mode in ("LA", "RGBA", "P"):
        Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
        assert np.abs(grey_from_picture(tmp_path / "a.png").astype(int) - values).max() <= 1


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for content in (b"", b"nonsense", b"GIF89a"):
        path.write_bytes(content)
        with pytest.raises(UnreadableInstance, match="expected a picture"):
            grey_from_picture(path)
    with pytest.raises(UnreadableInstance):
        grey_from_picture(tmp_path / "absent.png")
    Image.new("1", (64, 64)).save(path)
    with pytest.raises(PixelsRefused) as caught:
        grey_from_picture(path)
    assert caught.value.reason.code == RefusalCode.ONE_BIT


def test_damaged_and_huge_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (200, 200), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(PixelsRefused) as caught:
        grey_from_picture(path)
    assert caught.value.reason.code == RefusalCode.UNDECODABLE
    Image.new("L", (10_001, 10_000)).save(path)
    with pytest.raises(PixelsRefused) as caught:
        grey_from_picture(path)
    assert caught.value.reason.code == RefusalCode.TOO_LARGE
