"""Images that ask for more memory than any may take, in their header or in their codestream."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels import codecs, load, load_picture, read_frame
from dicom_ai_node.pixels.codestream import MAX_PARTS, Codestream, inspect
from dicom_ai_node.pixels.layout import layout_of
from tests.acceptance.attack_pixels import CODINGS, write_dicom, write_png
from tests.builders.pixels import (
    ENCODERS,
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
ALL = [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless]


def refusal(path: Path, limits: Limits = DEFAULT) -> tuple[str, str]:
    """Code and words, of a file that is never decoded."""
    with pytest.raises(PixelsRefused) as caught:
        load(path, size=SIZE, limits=limits)
    return caught.value.reason.code, caught.value.reason.text


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoder may be asked."""

    def decoder(*_: object, **__: object) -> None:
        pytest.fail("decoded")

    for name in ("_decode", "_decode_reduced", "_decode_rle"):
        monkeypatch.setattr(codecs, name, decoder)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("coding", CODINGS)
def test_small_files_of_huge_images(tmp_path: Path, coding: str) -> None:
    """The attack of ``tests/acceptance/attack_pixels.py``, with a limit to its size."""
    path = write_dicom(tmp_path / "a.dcm", coding, 1024)
    assert path.stat().st_size < 60_000
    code, words = refusal(path, Limits(pixels=1_000_000))
    assert code == "too_large"
    assert "1024 x 1024 x 3 samples of 8 bits in its header" in words
    assert "limits.pixels = 1000000" in words
    code, words = refusal(path, Limits(decoded_bytes=3_000_000))
    assert "3145728 bytes when decoded; limits.decoded_bytes = 3000000" in words


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("coding", ["jpeg2000", "jpeg-ls", "jpeg"])
def test_a_small_header_before_a_huge_codestream(tmp_path: Path, coding: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", coding, 1024, stated=256)
    assert refusal(path, Limits(pixels=100_000))[0] == "size_mismatch"


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("coding", ["jpeg2000", "jpeg-ls", "jpeg"])
def test_a_codestream_of_more_samples_than_the_header_says(tmp_path: Path, coding: str) -> None:
    syntax, encoded = CODINGS[coding]
    ds = radiograph(np.zeros((1, 1), np.uint8))
    ds.Rows = ds.Columns = 512
    set_codestream(ds, encoded(512))
    path = write(tmp_path / "a.dcm", ds, syntax)
    code, words = refusal(path, Limits(decoded_bytes=500_000))
    assert code == "too_large"
    assert "512 x 512 x 3 samples of 8 bits in its codestream, 786432 bytes when decoded" in words


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("syntax", ALL, ids=str)
def test_within_and_beyond(tmp_path: Path, syntax: UID, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_as(tmp_path / "a.dcm", VALUES, syntax, 12)
    assert refusal(path, Limits(decoded_bytes=2 * VALUES.size - 1))[0] == "too_large"
    assert refusal(path, Limits(pixels=VALUES.size - 1))[0] == "too_large"
    monkeypatch.undo()
    limits = Limits(pixels=VALUES.size, decoded_bytes=2 * VALUES.size)
    np.testing.assert_array_equal(read_frame(path, limits=limits).values, VALUES)


@pytest.mark.parametrize(
    ("rows", "columns", "samples", "bits"),
    [
        (4280, 3520, 1, 16),
        (5000, 4000, 1, 16),
        (6000, 6000, 1, 16),
        (5000, 4000, 3, 8),
        (6000, 6000, 3, 8),
        (3000, 12_000, 1, 16),
    ],
)
def test_large_radiographs_are_within(rows: int, columns: int, samples: int, bits: int) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    ds = radiograph(np.zeros((1, 1) if samples == 1 else (1, 1, 3), dtype))
    ds.Rows, ds.Columns = rows, columns
    assert layout_of(ds).rows == rows


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 x 1 samples of 16 bits"),
        ({"Rows": 10_000, "Columns": 10_000}, "limits.pixels = 50000000"),
        ({"SamplesPerPixel": 65535}, "96 x 80 x 65535 samples"),
        ({"SamplesPerPixel": 3, "BitsAllocated": 64512}, "3 samples of 64512 bits"),
        ({"Rows": 6000, "Columns": 6000, "PhotometricInterpretation": "PALETTE COLOR"}, "x 3 "),
    ],
)
def test_headers_that_ask_for_too_much(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    limits = Limits(decoded_bytes=128 << 20)
    path = write(tmp_path / "a.dcm", radiograph(VALUES, 12, **changes))
    code, text = refusal(path, limits)
    assert code == "too_large"
    assert words in text


def test_a_codestream_longer_than_any_image(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    ds = radiograph(values)
    set_codestream(ds, ENCODERS[JPEGLSLossless](values, 8) + bytes(16_000), fragments=3)
    path = write(tmp_path / "a.dcm", ds, JPEGLSLossless)
    code, words = refusal(path, Limits(decoded_bytes=8000))
    assert (code, "a codestream of" in words) == ("too_large", True)


@pytest.mark.usefixtures("undecoded")
def test_jpeg_of_a_thousand_scans(tmp_path: Path) -> None:
    values = quantised(scene(), 8)
    Image.fromarray(values).save(tmp_path / "a.jpg", progressive=True)
    code = (tmp_path / "a.jpg").read_bytes()
    last = code.rindex(b"\xff\xda")
    bomb = code[:last] + code[last:-2] * 100 + b"\xff\xd9"
    ds = radiograph(values)
    set_codestream(ds, bomb)
    path = write(tmp_path / "a.dcm", ds, JPEGBaseline8Bit)
    found, words = refusal(path)
    assert (found, "scans" in words) == ("undecodable", True)
    (tmp_path / "a.jpg").write_bytes(bomb)
    with pytest.raises(PixelsRefused, match="scans"):
        load_picture(tmp_path / "a.jpg", size=SIZE)
    set_codestream(ds, code)
    assert inspect(code).rows == 96


def jpeg2000_of(width: int, layers: int, block: int, precincts: bytes) -> bytes:
    """A codestream whose coding style asks for so many pieces."""
    code = bytes(imagecodecs.jpeg2k_encode(np.zeros((256, 256), np.uint8), codecformat="j2k"))
    at = code.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", code, at + 2)
    levels = len(precincts) - 1 if precincts else 5
    style = struct.pack(">BBHBBBBBB", bool(precincts), 0, layers, 0, levels, block, block, 0, 1)
    style = b"\xff\x52" + struct.pack(">H", 2 + len(style) + len(precincts)) + style + precincts
    grown = bytearray(code[:at] + style + code[at + 2 + length :])
    struct.pack_into(">LL", grown, 8, width, width)
    struct.pack_into(">LL", grown, 24, width, width)
    return bytes(grown)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    ("layers", "block", "precincts"),
    [(1, 0, b""), (1, 4, bytes(6)), (65535, 4, b"\x88" * 6), (1, 4, b"\x11" * 33)],
    ids=["blocks of 4 x 4", "precincts of 1 x 1", "layers", "levels"],
)
def test_jpeg2000_in_millions_of_pieces(
    tmp_path: Path, layers: int, block: int, precincts: bytes
) -> None:
    ds = radiograph(np.zeros((1, 1), np.uint8))
    ds.Rows = ds.Columns = 6000
    set_codestream(ds, jpeg2000_of(6000, layers, block, precincts))
    code, words = refusal(write(tmp_path / "a.dcm", ds, JPEG2000Lossless))
    assert code == "undecodable"
    assert "blocks and packets" in words


@pytest.mark.parametrize("layers", [1, 50])
def test_jpeg2000_as_encoders_make_it_is_within(layers: int) -> None:
    found = inspect(jpeg2000_of(6000, layers, 4, b"\x88" * 6))
    assert 0 < found.parts < MAX_PARTS
    assert inspect(jpeg2000_of(6000, layers, 3, b"")).parts < MAX_PARTS


def test_jpeg2000_of_too_many_tiles() -> None:
    code = bytearray(ENCODERS[JPEG2000Lossless](VALUES, 12))
    struct.pack_into(">LL", code, 24, 1, 1)
    with pytest.raises(PixelsRefused, match="7680 tiles"):
        inspect(bytes(code))


def test_large_images_are_decoded_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "LARGE", 1000)
    path = write_as(tmp_path / "a.dcm", VALUES, JPEGLSLossless, 12)
    decode = codecs._decode
    held: list[bool] = []

    def watched(stream: Codestream) -> object:
        held.append(codecs._one_large.locked())
        return decode(stream)

    monkeypatch.setattr(codecs, "_decode", watched)
    np.testing.assert_array_equal(read_frame(path).values, VALUES)
    assert (held, codecs._one_large.locked()) == ([True], False)


def test_pictures_that_ask_for_too_much(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", 1024)
    for limits, words in (
        (Limits(pixels=1_000_000), "1024 x 1024 x 3 samples of 8 bits in its header"),
        (Limits(decoded_bytes=3_000_000), "limits.decoded_bytes = 3000000"),
    ):
        with pytest.raises(PixelsRefused, match=words) as caught:
            load_picture(path, size=SIZE, limits=limits)
        assert caught.value.reason.code == "too_large"
    assert load_picture(path, size=SIZE).shape == (SIZE, SIZE)
