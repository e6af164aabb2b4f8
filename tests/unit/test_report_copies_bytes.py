"""Copies, down to the byte: what is not meant to change is what it was."""

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.encoding import Encoding
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report.copies import Fill, coerced, filled_copy
from dicom_ai_node.report.copies.source import elements_of, opened
from tests.builders.dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    UIDS,
    Syntax,
    data_set,
    dicom_file,
)

AT = datetime(2024, 3, 16, 8, 0, tzinfo=UTC)
FILL = Fill("PatientAge", "063Y", "inference", low=55.1, high=71.2)
INTENDED = {
    *(0x00080008, 0x00080012, 0x00080013, 0x00080014, 0x00080018, 0x0008103E, 0x00082111),
    *(0x00082112, 0x00101010, 0x00104000, 0x0018A001, 0x0020000E, 0x00200011, 0x04000561),
}
"""What a copy may change, beside its private block in group 4149."""
TEXT_VRS = ("LO", "PN", "ST", "SH", "UT", "UC", "UN", "OB", "OW", "US", "FD", "AS", "DA", "ZZ")
ALL = (EXPLICIT, IMPLICIT, BIG_ENDIAN)


def both(content: bytes, fill: Fill = FILL) -> tuple[bytes, bytes]:
    copy = filled_copy(content, [fill], at=AT, settings=ReportSettings())
    return copy.content, coerced(content, fill, at=AT).content


def only_intended(content: bytes, before: list[tuple[int, bytes]], syntax: Syntax) -> None:
    """Every piece of the source that was not to change stands in the copy, in its order."""
    data = opened(content).data
    encoding = Encoding(syntax.implicit, syntax.little)
    tags = [part.tag for part in elements_of(data, encoding)]
    assert tags == sorted(set(tags))
    offset = 0
    for tag, piece in before:
        if tag in INTENDED:
            continue
        start = data.index(piece, offset)
        between = {part.tag for part in elements_of(data[offset:start], encoding)}
        assert {each for each in between if each >> 16 != 0x4149} <= INTENDED
        offset = start + len(piece)
    between = {part.tag for part in elements_of(data[offset:], encoding)}
    assert {each for each in between if each >> 16 != 0x4149} <= INTENDED


@st.composite
def elements(draw: st.DrawFn, syntax: Syntax, depth: int = 0) -> list[tuple[int, bytes]]:
    """A data set as (tag, bytes) in order: private, nested, unknown, odd, empty."""
    tags = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0x0008, 0x0009, 0x0010, 0x0018, 0x0029, 0x4149, 0x7FE1]),
                st.integers(0x1100, 0x11FF),
            ),
            max_size=6,
            unique=True,
        )
    )
    found = []
    for group, number in sorted(tags):
        tag = group << 16 | number
        if draw(st.booleans()) or depth > 2:
            vr = draw(st.sampled_from(TEXT_VRS))
            value = draw(st.binary(max_size=40))
            if vr == "ZZ":  # of a later edition, and so with a long length
                piece = syntax.element(tag, "OB", value)
                piece = piece if syntax.implicit else piece[:4] + b"ZZ" + piece[6:]
            else:
                piece = syntax.element(tag, vr, value)
        else:
            piece = draw(sequences(tag, syntax, depth))
        found.append((tag, piece))
    return found


@st.composite
def sequences(draw: st.DrawFn, tag: int, syntax: Syntax, depth: int) -> bytes:
    unknown = draw(st.booleans()) and not syntax.implicit
    inner = IMPLICIT if unknown else syntax
    items = [
        inner.item(b"".join(piece for _, piece in content), undefined=draw(st.booleans()))
        for content in draw(st.lists(elements(inner, depth + 1), max_size=2))
    ]
    undefined = draw(st.booleans())
    if not unknown:
        return syntax.sequence(tag, items, undefined=undefined)
    value = b"".join(items) + (inner.pack("HHL", 0xFFFE, 0xE0DD, 0) if undefined else b"")
    return syntax.element(tag, "UN", value, length=0xFFFFFFFF if undefined else None)


@pytest.mark.parametrize("syntax", ALL, ids=lambda each: each.uid)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_other_byte_stays(syntax: Syntax, data: st.DataObject) -> None:
    fixed = UIDS | {0x00101010: ("AS", data.draw(st.sampled_from([b"", b"64", b"063Y"])))}
    if data.draw(st.booleans()):
        fixed[0x00104000] = ("LT", b"a comment ")
    pieces = [(tag, syntax.element(tag, *fixed[tag])) for tag in fixed]
    pieces = sorted([*pieces, *data.draw(elements(syntax))])
    content = dicom_file(b"".join(piece for _, piece in pieces), syntax)
    for copy in both(content):
        only_intended(copy, pieces, syntax)
        assert both(content) == both(content)


@pytest.mark.parametrize("syntax", ALL, ids=lambda each: each.uid)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bytes_make_a_copy_or_an_error(syntax: Syntax, data: st.DataObject) -> None:
    content = bytearray(dicom_file(data_set(UIDS, syntax), syntax))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(132, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(100, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        with suppress(UnreadableInstance):
            both(damaged)


def test_encapsulated_pixels_keep_table_and_fragments() -> None:
    fragments = [b"\0\0\0\0\x10\0\0\0", b"\xff\xd8\xfe\xff\xdd\xe0\0\0\0\0\xff\xd9", b"", b"\1\2"]
    pixels = EXPLICIT.sequence(0x7FE00010, map(EXPLICIT.item, fragments), undefined=True, vr="OB")
    behind = EXPLICIT.element(0xFFFCFFFC, "OB", bytes(6))
    syntax = Syntax("1.2.840.10008.1.2.4.50")
    for copy in both(dicom_file(data_set(UIDS) + pixels + behind, syntax)):
        assert copy.endswith(pixels + behind)
        assert opened(copy).transfer_syntax_uid == syntax.uid


def test_zeros_behind_the_last_element_stay() -> None:
    for copy in both(dicom_file(data_set(UIDS) + bytes(11))):
        assert copy.endswith(bytes(11))


def test_a_deflated_data_set_is_inflated_and_deflated_again() -> None:
    data = data_set(UIDS | {0x7FE00010: ("OW", b"\1\2" * 500)})
    deflater = zlib.compressobj(level=1, wbits=-15)
    packed = deflater.compress(data) + deflater.flush()
    for copy in both(dicom_file(packed, DEFLATED)):
        file = opened(copy)
        assert file.transfer_syntax_uid == DEFLATED.uid
        assert file.data.endswith(b"\1\2" * 500)
        assert len(copy) < 2000
    with pytest.raises(UnreadableInstance, match="cut off"):
        opened(dicom_file(packed[:20], DEFLATED))
    with pytest.raises(UnreadableInstance, match="deflated"):
        opened(dicom_file(b"\xff" * 20, DEFLATED))


@pytest.mark.parametrize("syntax", ALL, ids=lambda each: each.uid)
def test_lengths_that_count_bytes_are_set_right(syntax: Syntax) -> None:
    """Group lengths of a group that changes, and Length to End; others stay, right or wrong."""
    values = UIDS | {0x00100010: ("PN", b"Doe^Jane"), 0x00280010: ("US", syntax.pack("H", 4))}
    counts = (0x00080000, 0x00080001, 0x00100000, 0x00280000)
    values |= {tag: ("UL", syntax.pack("L", 77)) for tag in counts}
    for copy in both(dicom_file(data_set(values, syntax), syntax)):
        data = opened(copy).data
        parts = elements_of(data, Encoding(syntax.implicit, syntax.little))
        ends = {part.tag >> 16: part.end for part in parts}
        count = {
            part.tag: struct.unpack_from("<L" if syntax.little else ">L", data, part.value)[0]
            for part in parts
            if part.tag in counts
        }
        end_of = {part.tag: part.end for part in parts}
        assert count[0x00100000] == ends[0x0010] - end_of[0x00100000]
        assert count[0x00080001] == len(data) - end_of[0x00080001]
        assert count[0x00280000] == 77
    assert count[0x00080000] == 77  # mode D changes nothing in that group


def test_what_is_there_twice_or_no_sequence_is_refused() -> None:
    twice = data_set({tag: UIDS[tag] for tag in UIDS if tag < 0x00100000})
    twice += EXPLICIT.element(0x00101010, "AS", b"") * 2
    twice += data_set({tag: UIDS[tag] for tag in UIDS if tag > 0x00100000})
    with pytest.raises(UnreadableInstance, match=r"\(0010,1010\) stands 2 times"):
        both(dicom_file(twice))
    odd = data_set(UIDS | {0x04000561: ("LO", b"not a sequence")})
    with pytest.raises(UnreadableInstance, match=r"\(0400,0561\) is no sequence"):
        both(dicom_file(odd))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no DICM"),
        (bytes(128) + b"DICM", "TransferSyntaxUID is missing"),
        (dicom_file(data_set(UIDS)[:-3]), "ends within its header, at .0020,000E. Series"),
        (dicom_file(data_set(UIDS) + b"\1\2\3"), "ends within its header, behind .0020,000E."),
        (dicom_file(data_set(UIDS, IMPLICIT), EXPLICIT), "not in the transfer syntax"),
        (dicom_file(data_set(UIDS, EXPLICIT), IMPLICIT), "ends within its header"),
        (dicom_file(EXPLICIT.sequence(0x00081140, [b"no item."])), "an item is expected"),
        (
            dicom_file(b"".join([EXPLICIT.element(0x00081140, "SQ", b"", length=0xFFFFFFFF)])),
            "ends within",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(content: bytes, message: str) -> None:
    makers: tuple[Callable[[], object], ...] = (
        lambda: filled_copy(content, [FILL], at=AT, settings=ReportSettings()),
        lambda: coerced(content, FILL, at=AT),
    )
    for make in makers:
        with pytest.raises(UnreadableInstance, match=message):
            make()


@pytest.mark.parametrize("missing", UIDS)
def test_an_instance_without_its_uids_is_refused(missing: int) -> None:
    content = dicom_file(data_set({tag: UIDS[tag] for tag in UIDS if tag != missing}))
    with pytest.raises(UnreadableInstance, match="UID is missing"):
        both(content)
    content = dicom_file(data_set(UIDS | {missing: ("UI", b"Doe^Jane")}))
    with pytest.raises(UnreadableInstance, match="is not a UID") as caught:
        both(content)
    assert "Doe" not in str(caught.value)


def test_deep_nesting_ends_in_an_error() -> None:
    deep = b""
    for _ in range(200):
        deep = EXPLICIT.sequence(0x00081140, [EXPLICIT.item(deep, undefined=True)], undefined=True)
    with pytest.raises(UnreadableInstance, match="nested"):
        both(dicom_file(data_set({0x00080016: UIDS[0x00080016]}) + deep))
