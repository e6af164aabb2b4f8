"""Whatever bytes come, a cleaned PDU decodes, or why it cannot be followed is said."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ

from dicom_ai_node.peer.pdus import (
    LARGEST_SENT,
    UnreadablePdu,
    clean_abort,
    clean_accept,
    read_reject,
    read_request,
    what_begins,
)
from tests.builders.wire import (
    DX,
    EXPLICIT,
    IMPLEMENTATION,
    IMPLICIT,
    MAXIMUM,
    accept,
    answered,
    context,
    item,
    pdu,
    request,
)

USER = MAXIMUM + IMPLEMENTATION + item(0x54, b"\0\x111.2.840.10008.1.1\1\1") + item(0x55, b"ACME")
REQUEST = request(contexts=context(1) + context(3, DX, EXPLICIT, IMPLICIT), user=USER)
ACCEPT = accept(REQUEST[6:], contexts=answered(1) + answered(3, 0, EXPLICIT), user=USER)
PROPOSED = {1: {IMPLICIT.decode()}, 3: {IMPLICIT.decode(), EXPLICIT.decode()}}


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A PDU with bytes changed, taken out or put in, and a length that says so."""
    body = bytearray(whole[6:])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                body[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del body[place : place + draw(st.integers(1, 8))]
            case "insert":
                body[place:place] = draw(st.binary(min_size=1, max_size=8))
    return pdu(whole[0], bytes(body))


@given(damaged(REQUEST) | st.binary().map(lambda body: pdu(1, REQUEST[6:74] + body)))
def test_any_request_decodes_or_is_unreadable(data: bytes) -> None:
    with suppress(UnreadablePdu):
        found = read_request(data)
        decoded = A_ASSOCIATE_RQ()
        decoded.decode(found.pdu)
        primitive = decoded.to_primitive()
        assert 8 <= (primitive.maximum_length_received or 0) <= LARGEST_SENT
        assert (primitive.maximum_length_received or 0) % 2 == 0
        contexts = primitive.presentation_context_definition_list
        assert all(one.abstract_syntax and one.transfer_syntax for one in contexts)
        assert bool(contexts) or found.rejection is not None
        assert (found.calling + found.called).isprintable()


@given(damaged(ACCEPT) | st.binary().map(lambda body: pdu(2, ACCEPT[6:74] + body)))
def test_any_answer_decodes_or_is_unreadable(data: bytes) -> None:
    with suppress(UnreadablePdu):
        decoded = A_ASSOCIATE_AC()
        decoded.decode(clean_accept(data, PROPOSED))
        primitive = decoded.to_primitive()
        assert 8 <= (primitive.maximum_length_received or 0) <= LARGEST_SENT
        for one in primitive.presentation_context_definition_results_list:
            assert one.context_id in PROPOSED
            assert one.result != 0 or str(one.transfer_syntax[0]) in PROPOSED[one.context_id]


@given(st.binary(max_size=8))
def test_any_rejection_and_abort_decode(body: bytes) -> None:
    rejected, words = read_reject(pdu(3, body))
    rejection = A_ASSOCIATE_RJ()
    rejection.decode(rejected)
    assert rejection.to_primitive().reason_str != "(no value available)"
    assert words
    abort = A_ABORT_RQ()
    abort.decode(clean_abort(pdu(7, body)))
    abort.to_primitive()


@given(st.binary(max_size=8))
def test_what_is_no_pdu_is_said_in_characters_that_print(head: bytes) -> None:
    assert what_begins(head).isprintable()


def test_roles_of_an_answer_are_kept() -> None:
    """C-GET rests on them (PS3.7 D.3.3.4)."""
    decoded = A_ASSOCIATE_AC()
    decoded.decode(clean_accept(ACCEPT, PROPOSED))
    (role,) = decoded.user_information.role_selection.values()
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == ("1.2.840.10008.1.1", 1, 1)
