"""The header of a file: followed to the pixel data or to its end, within bounds, or refused."""

import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_ai_node.analyse.headers import check_file
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.dicom.encoding import BIG_ENDIAN as BIG
from dicom_ai_node.dicom.encoding import EXPLICIT as EXPLICIT_ENCODING
from dicom_ai_node.dicom.encoding import IMPLICIT as IMPLICIT_ENCODING
from dicom_ai_node.dicom.encoding import Encoding
from dicom_ai_node.dicom.header import header_of_file
from dicom_ai_node.dicom.limits import DEFAULT
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pixels import read_header
from tests.builders.dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    UNDEFINED,
    Syntax,
    data_set,
    dicom_file,
)
from tests.builders.headers import TODAY

ENCODINGS = (EXPLICIT, IMPLICIT, BIG_ENDIAN)
CR = b"1.2.840.10008.5.1.4.1.1.1\0"
SR = b"1.2.840.10008.5.1.4.1.1.88.33\0"
AGE, SPECIES, PIXELS = 0x00101010, 0x00102202, 0x7FE00010


def elements(syntax: Syntax = EXPLICIT, sop_class: bytes = CR) -> dict[int, tuple[str, bytes]]:
    def number(value: int) -> tuple[str, bytes]:
        return "US", syntax.pack("H", value)

    return {
        0x00080016: ("UI", sop_class),
        0x00080018: ("UI", b"1.2.3.4\0"),
        0x00080020: ("DA", b"20240105"),
        0x00100020: ("LO", b"P1"),
        0x00100030: ("DA", b"19600105"),
        0x00100040: ("CS", b"M "),
        0x00180015: ("CS", b"CHEST "),
        AGE: ("AS", b"064Y"),
        0x0020000D: ("UI", b"1.2.3\0"),
        0x0020000E: ("UI", b"1.2.3.5\0"),
        0x00280002: number(1),
        0x00280010: number(2),
        0x00280011: number(2),
        0x00280103: number(0),
        PIXELS: ("OW", bytes(8)),
    }


RECORDED = {"age": "064Y", "sex": "M", "body_part": "CHEST", "birth_date_age": 64.0}


def pieces(syntax: Syntax, more: dict[int, bytes] | None = None) -> dict[int, bytes]:
    """Each element of an image as bytes, with ``more`` in their places."""
    own = elements(syntax)
    return {tag: syntax.element(tag, *own[tag]) for tag in own} | (more or {})


def image(syntax: Syntax = EXPLICIT, more: dict[int, bytes] | None = None) -> bytes:
    found = pieces(syntax, more)
    return dicom_file(b"".join(found[tag] for tag in sorted(found)), syntax)


def checked(path: Path, content: bytes) -> dict[str, object]:
    path.write_bytes(content)
    return check_file(path, RulesSettings(), today=TODAY)


def why(content: bytes, **limits: int) -> str:
    with pytest.raises(UnreadableInstance) as caught:
        header_of_file(memoryview(content), replace(DEFAULT, **limits))
    return str(caught.value)


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda each: each.uid)
def test_a_header_is_whole_or_refused_wherever_the_file_ends(
    tmp_path: Path, syntax: Syntax
) -> None:
    content, found = image(syntax), pieces(syntax)
    start = content.index(found[0x00080016])
    last, pixels = content.index(found[0x00280103]), content.index(found[PIXELS])
    series = content.index(found[0x0020000E]) + len(found[0x0020000E])
    for end in range(start + 1, len(content)):
        document = checked(tmp_path / "cut.dcm", content[:end])
        # Freed of its pixels, or of the whole Image Pixel module, it is a header all the same.
        # A zero byte behind either is padding, or the first of a group in big endian.
        if end in (series, pixels) or end >= pixels + 4 or content[series:end] == b"\0":
            assert document["error"] is None, end
            assert document["status"] == dict.fromkeys(("age", "sex", "body_part"), "CONSISTENT")
            continue
        assert document["status"] is None
        assert document["proposals"] == document["findings"] == []
        if end > start + 8:
            assert str(document["error"]).startswith("cannot be read: ends within its header, "), (
                end
            )
    assert "behind (0010,0040) PatientSex" in why(content[: content.index(found[AGE])])
    assert "at (0010,1010) PatientAge" in why(content[: content.index(found[AGE]) + 9])
    assert "at (0028,0103) PixelRepresentation" in why(content[: last + 9])


def test_another_object_may_end_between_two_elements() -> None:
    own = elements(sop_class=SR)
    content = dicom_file(data_set({tag: own[tag] for tag in own if tag < 0x00280000}))
    header = header_of_file(memoryview(content), DEFAULT).header
    assert header.value(AGE) == b"064Y"
    assert header.end == len(content)
    padded = header_of_file(memoryview(content + bytes(100)), DEFAULT).header
    assert padded.parts == header.parts
    assert "ends within its header" in why(content + b"\1\2\3")


CODES = (b"??", b"  ", b"\0\0", b"lo", b"Lo", b"1A", b"--", b"\xff\xff")


@pytest.mark.parametrize("code", [*CODES, b"OX", b"ZZ"])
@pytest.mark.parametrize("long", [False, True], ids=["16 bit", "32 bit"])
@pytest.mark.parametrize("value", [b"abcd", b"", b"\xff" * 300])
def test_what_stands_behind_a_vr_that_is_none_is_read(
    tmp_path: Path, code: bytes, long: bool, value: bytes
) -> None:
    length = struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))
    for number in (1, 3):  # alone, and several in a row
        run = b"".join(
            struct.pack("<HH", 9, 0x1001 + each) + code + length + value for each in range(number)
        )
        content = image(
            more={0x00090010: EXPLICIT.element(0x00090010, "LO", b"ACME"), 0x00091001: run}
        )
        document = checked(tmp_path / "a.dcm", content)
        assert document["error"] is None
        assert document["recorded"] == RECORDED
        header = header_of_file(memoryview(content), DEFAULT).header
        assert header.value(0x00091000 + number) == value
        assert header.value(PIXELS) is None
        assert header.end == len(content) - 20


@pytest.mark.parametrize("code", [b"as", b"??", b"\0\0"])
def test_a_known_attribute_whose_vr_is_none_is_read(tmp_path: Path, code: bytes) -> None:
    age = EXPLICIT.element(AGE, "AS", b"064Y").replace(b"AS", code)
    document = checked(tmp_path / "a.dcm", image(more={AGE: age}))
    assert document["recorded"] == RECORDED
    assert read_header(tmp_path / "a.dcm").PatientAge == "064Y"


def test_implicit_elements_between_explicit_ones_are_read(tmp_path: Path) -> None:
    sequence = EXPLICIT.sequence(
        0x00081140, [IMPLICIT.item(IMPLICIT.element(0x00081150, "UI", CR), undefined=True)]
    )
    private = IMPLICIT.element(0x00091001, "", b"abcd")
    document = checked(tmp_path / "a.dcm", image(more={0x00081140: sequence, 0x00091001: private}))
    assert document["recorded"] == RECORDED
    item = read_header(tmp_path / "a.dcm").ReferencedImageSequence[0]
    assert item.ReferencedSOPClassUID == CR.decode().rstrip("\0")


@pytest.mark.parametrize("written", ENCODINGS, ids=lambda each: each.uid)
@pytest.mark.parametrize("labelled", ENCODINGS, ids=lambda each: each.uid)
def test_the_data_set_says_how_it_is_encoded(written: Syntax, labelled: Syntax) -> None:
    found = pieces(written)
    content = dicom_file(b"".join(found[tag] for tag in sorted(found)), labelled)
    header = header_of_file(memoryview(content), DEFAULT).header
    assert header.encoding == Encoding(written.implicit, written.little)
    assert header.encoding in (EXPLICIT_ENCODING, IMPLICIT_ENCODING, BIG)
    assert header.value(AGE) == b"064Y"


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda each: each.uid)
@pytest.mark.parametrize("undefined", [False, True])
def test_nested_lengths_lie_inside_what_holds_them(syntax: Syntax, undefined: bool) -> None:
    inner = syntax.element(0x00080100, "SH", b"L-80A2")
    good = syntax.sequence(SPECIES, [syntax.item(inner, undefined=undefined)], undefined=undefined)
    content = image(syntax, {SPECIES: good})
    (item,) = header_of_file(memoryview(content), DEFAULT).dataset()[SPECIES].value
    assert item.CodeValue == "L-80A2"
    long_element = syntax.element(0x00080100, "SH", b"L-80A2", length=500)
    long_item = syntax.pack("HHL", 0xFFFE, 0xE000, 500) + inner
    for damaged in (
        syntax.sequence(SPECIES, [syntax.item(long_element)]),
        syntax.sequence(SPECIES, [long_item]),
        syntax.sequence(SPECIES, [syntax.item(inner), b"\1\2\3\4"]),
        syntax.sequence(SPECIES, [syntax.item(b""), inner + bytes(8)]),
    ):
        assert "cannot be followed, at" in why(image(syntax, {SPECIES: damaged}))
    for endless in (
        syntax.element(SPECIES, "SQ", syntax.item(inner), length=UNDEFINED),
        syntax.element(SPECIES, "SQ", syntax.pack("HHL", 0xFFFE, 0xE000, UNDEFINED) + inner),
    ):
        assert "cannot be read: " in why(image(syntax, {SPECIES: endless}))


def test_a_delimiter_that_ends_nothing_is_refused() -> None:
    stray = EXPLICIT.pack("HHL", 0xFFFE, 0xE00D, 0)
    assert "behind (0010,1010) PatientAge" in why(image(more={0x00101011: stray}))


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda each: each.uid)
def test_what_takes_too_much_is_refused_by_the_name_of_its_limit(syntax: Syntax) -> None:
    empty = syntax.item(b"")
    many = image(syntax, {SPECIES: syntax.sequence(SPECIES, [empty] * 2000)})
    assert "limits.elements = 1000, at (0010,2202)" in why(many, elements=1000)
    header_of_file(memoryview(many), DEFAULT)
    deep = b""
    for _ in range(20):
        deep = syntax.sequence(SPECIES, [syntax.item(deep, undefined=True)], undefined=True)
    assert "limits.depth = 8, at (0010,2202)" in why(image(syntax, {SPECIES: deep}), depth=8)
    header_of_file(memoryview(image(syntax, {SPECIES: deep})), DEFAULT)
    large = image(syntax, {0x00091001: syntax.element(0x00091001, "OB", bytes(5000))})
    assert "limits.element_bytes = 4999, at (0009,1001)" in why(large, element_bytes=4999)
    assert "limits.header_bytes = 4999" in why(large, header_bytes=4999)
    header_of_file(memoryview(large), DEFAULT)
    small = header_of_file(memoryview(image(syntax)), replace(DEFAULT, element_bytes=64))
    assert small.header.value(AGE) == b"064Y"


def test_zeros_behind_the_last_element_are_no_way_around_a_limit() -> None:
    own = elements(sop_class=SR)
    content = dicom_file(data_set({tag: own[tag] for tag in own if tag < 0x00280000}))
    assert "limits.header_bytes = 65536" in why(content + bytes(100_000), header_bytes=65536)


def test_nesting_of_thousands_ends_in_an_error() -> None:
    for undefined in (False, True):
        deep = b""
        for _ in range(2000):
            deep = EXPLICIT.sequence(
                SPECIES, [EXPLICIT.item(deep, undefined=undefined)], undefined=undefined
            )
        assert "limits.depth = 32" in why(image(more={SPECIES: deep}))


def test_a_refusal_takes_no_memory() -> None:
    """What is refused was only walked over: 20 MB of header, a small part of it allocated."""
    items = EXPLICIT.sequence(SPECIES, [EXPLICIT.item(b"")] * 2_000_000, undefined=True)
    large = EXPLICIT.element(0x00091001, "OB", bytes(20_000_000))
    for content in (image(more={SPECIES: items}), image(more={0x00091001: large})):
        tracemalloc.start()
        try:
            assert "limits." in why(content, elements=10_000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8_000_000


def test_a_deflated_header_is_inflated_within_the_limit() -> None:
    def packed(data: bytes) -> bytes:
        deflater = zlib.compressobj(wbits=-15)
        return dicom_file(deflater.compress(data) + deflater.flush(), DEFLATED)

    found = pieces(EXPLICIT)
    head = b"".join(found[tag] for tag in sorted(found) if tag < 0x00280000)
    long = EXPLICIT.element(0x00291001, "OB", bytes(3_000_000))
    rest = b"".join(found[tag] for tag in sorted(found) if tag > 0x00280000)
    assert header_of_file(memoryview(packed(head + rest)), DEFAULT).header.value(AGE) == b"064Y"
    content = packed(head + long + rest)
    assert len(content) < 10_000
    assert header_of_file(memoryview(content), DEFAULT).header.value(AGE) == b"064Y"
    assert "limits.header_bytes = 2000000" in why(content, header_bytes=2_000_000)
    assert "ends within its header, behind (0010,0040)" in why(
        packed(head[: head.index(b"AS") - 4])
    )


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b"text " * 40, bytes(128) + b"DICM"])
def test_what_is_no_dicom_has_no_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(UnreadableInstance, match=r"^a\.dcm: expected a DICOM"):
        read_header(path)
