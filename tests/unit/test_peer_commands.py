"""Whatever bytes come as a command set, pynetdicom can read what is made of them, or it is said."""

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

import dicom_ai_node.peer.upper_layer  # noqa: F401 - it lets every UID pass
from dicom_ai_node.peer.commands import CommandSet, cleaned, encode, p_data, plain_comment, response
from dicom_ai_node.peer.pdus import UnreadablePdu
from tests.builders.wire import command, fragments, parse, us

pytestmark = pytest.mark.filterwarnings("ignore:.*for VR UI")
FIELDS = [0x0001, 0x0030, 0x8001, 0x8010, 0x8020, 0x8021, 0x8030]
TAGS = [0x2, 0x3, 0x100, 0x110, 0x120, 0x600, 0x700, 0x800, 0x900, 0x901, 0x902, 0x1000, 0x1020]
VALUES = st.binary(max_size=90) | st.sampled_from([b"", b"\0", us(1), us(0x0101), b"1.2.3\0"])


@given(st.sampled_from(FIELDS), st.dictionaries(st.sampled_from(TAGS), VALUES))
def test_any_values_are_read_or_replaced(field: int, odd: dict[int, bytes]) -> None:
    asked = CommandSet(command(odd | {0x100: us(field)}))
    elements = cleaned(asked) | {0x800: us(0x0101)}  # what follows is no matter here
    message, primitive = DIMSEMessage(), P_DATA()
    primitive.presentation_data_value_list.append((1, b"\3" + encode(elements)))
    assert message.decode_msg(primitive)
    message.data_set = BytesIO()
    comment = getattr(message.message_to_primitive(), "ErrorComment", None) or ""
    assert comment.isprintable()
    assert len(comment) <= 64


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_unreadable(data: bytes) -> None:
    with suppress(UnreadablePdu):
        encode(cleaned(CommandSet(data)))


@given(st.text(), st.integers(8, 200))
def test_a_response_is_whole_in_pdus_of_any_length(comment: str, longest: int) -> None:
    asked = CommandSet(command({0x100: us(1), 0x110: us(5)}))
    whole = response(asked, 0xC000, comment=comment, offending=(0x00080018,), sop_class_uid="1.2")
    pdus = list(p_data(whole, 3, longest & ~1))
    assert all(len(pdu) - 6 <= longest for pdu in pdus)
    assert b"".join(content for pdu in pdus for _, _, content in fragments(pdu[6:])) == whole
    assert parse(whole)[0x901] == us(0x0008, 0x0018)
    assert len(parse(whole).get(0x902, b"")) <= 64


def test_a_comment_is_one_line_that_any_terminal_shows() -> None:
    assert plain_comment(" a\\b\x1b[2J\r\nc\0\u202e\u00fc ") == "a/b?[2J  c ??".replace(
        "??", "?\u00fc"
    )
    assert len(plain_comment("x" * 500)) == 64
