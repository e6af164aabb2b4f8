"""Answers of destinations that bend PS3.8 and PS3.7: understood, or refused in words."""

import struct
import threading
from collections.abc import Callable

import pytest

from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.ops.echo import echo_destination as echo
from tests.builders import wire
from tests.builders.ports import free_port
from tests.builders.waiting import wait_for
from tests.builders.wire import (
    ABORT,
    IMPLEMENTATION,
    MAXIMUM,
    accept,
    accepting,
    answered,
    answering,
    item,
    p_data,
    pdu,
    proposed,
    response,
    us,
)


def config(port: int, *, timeout: float = 60.0) -> Config:
    """The time-out is long, so that what ends at once was not ended by it."""
    destination = {"host": "127.0.0.1", "port": port, "ae_title": "PACS", "timeout": timeout}
    return parse_config({"destinations": {"pacs": destination}})


def contexts(body: bytes, *odd: bytes) -> bytes:
    """Every context accepted, with ``odd`` behind."""
    taken = [answered(number, 0, syntaxes[0]) for number, _, syntaxes in proposed(body)]
    return b"".join([*taken, *odd])


ODD_AND_HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "version name of 17": lambda body: accept(
        body, user=MAXIMUM + item(0x55, b"ACME_PACS_GW_5.10")
    ),
    "version name padded with NUL": lambda body: accept(body, user=MAXIMUM + item(0x55, b"A\0\0")),
    "version name in Latin-1": lambda body: accept(body, user=MAXIMUM + item(0x55, b"R\xf6")),
    "class UID missing": lambda body: accept(body, user=MAXIMUM),
    "class UID of 70": lambda body: accept(body, user=MAXIMUM + item(0x52, b"1." * 35)),
    "unknown user item": lambda body: accept(body, user=MAXIMUM + item(0x5F, b"xx")),
    "async window cut": lambda body: accept(body, user=MAXIMUM + item(0x53, b"\0")),
    "role cut": lambda body: accept(body, user=MAXIMUM + item(0x54, b"\0\x40")),
    "user identity cut": lambda body: accept(body, user=MAXIMUM + item(0x59, b"\0")),
    "no user information": lambda body: accept(body, user=b""),
    "no maximum length": lambda body: accept(body, user=IMPLEMENTATION),
    "maximum length 0": lambda body: accept(body, user=item(0x51, bytes(4))),
    "maximum length 1": lambda body: accept(body, user=item(0x51, bytes((0, 0, 0, 1)))),
    "maximum length 6": lambda body: accept(body, user=item(0x51, bytes((0, 0, 0, 6)))),
    "maximum length 7": lambda body: accept(body, user=item(0x51, bytes((0, 0, 0, 7)))),
    "maximum length 9": lambda body: accept(body, user=item(0x51, bytes((0, 0, 0, 9)))),
    "maximum length of 4 GB": lambda body: accept(body, user=item(0x51, b"\xff" * 4)),
    "maximum length of 2 bytes": lambda body: accept(body, user=item(0x51, b"\x40\0")),
    "a context that was not proposed": lambda body: accept(
        body, contexts=contexts(body, answered(201), answered(2), answered(0))
    ),
    "contexts twice": lambda body: accept(body, contexts=contexts(body) + contexts(body)),
    "result 9": lambda body: accept(body, contexts=answered(1) + answered(3, 9) + answered(5, 255)),
    "a rejected context without syntax": lambda body: accept(
        body, contexts=answered(1) + answered(3, 3, None) + answered(5, 4, b"\xff")
    ),
    "titles of another node": lambda body: pdu(2, b"\0\1\0\0" + b"\xff" * 64 + accept(body)[74:]),
}


@pytest.mark.parametrize("answer", ODD_AND_HARMLESS.values(), ids=ODD_AND_HARMLESS)
def test_odd_items_of_an_answer_cost_nothing(answer: Callable[[bytes], bytes]) -> None:
    with accepting(free_port(), answering(answer, whole(response))) as peer:
        assert echo(config(peer.port), "pacs").ok
        assert peer.kinds()[-1] == 5, "released in good order"


@pytest.mark.parametrize(
    "odd",
    [
        answered(1, 0, None),
        answered(1, 0, b""),
        answered(1, 0, b"\xff\xfe"),
        answered(1, 0, b"1.2.840.10008.1.2.2"),  # was not proposed
        item(0x21, b"\1"),
    ],
)
def test_a_context_accepted_in_no_syntax_of_ours_is_not_accepted(odd: bytes) -> None:
    """Context 1 is Verification; a context of storage is accepted as it should be."""
    with accepting(
        free_port(), answering(lambda body: accept(body, contexts=odd + answered(3)))
    ) as peer:
        result = echo(config(peer.port), "pacs")
    assert result.status is None
    assert len(result.accepted) == 1


UNREADABLE = {
    "item that overruns": (
        lambda body: pdu(2, accept(body)[6:] + b"\x50\0\1\0"),
        "A-ASSOCIATE-AC: item of type 50H is longer than what holds it",
    ),
    "too short": (lambda _: pdu(2, bytes(10)), "A-ASSOCIATE-AC of 16 bytes, less than"),
    "HTTP": (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP response: a web server"),
    "TLS alert": (lambda _: b"\x15\x03\x01\0\2\2\x28", "a TLS alert: the other side speaks TLS"),
    "noise": (lambda _: b"220 mail.example.org\r\n", "no PDU of DICOM: first bytes 32 32 30"),
    "4 GB": (lambda _: b"\x02\0\xff\xff\xff\xff", "a PDU of type 02H and 4294967295 bytes"),
}


@pytest.mark.parametrize(("answer", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_that_cannot_be_read_is_said_in_words_at_once(
    answer: Callable[[bytes], bytes], words: str
) -> None:
    with accepting(free_port(), answering(answer)) as peer:
        with pytest.raises(PeerUnavailable, match=words):
            echo(config(peer.port), "pacs")
        wait_for(lambda: ABORT in peer.kinds())


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1, 1, 5), r"\(.*source: Service User\): reason 5, which has no meaning"),
        ((1, 3, 0), r"\(.*Presentation\)\): reason 0, which has no meaning"),
        ((9, 1, 1), r"\(result 9, source: Service User\): No reason given"),
        ((1, 9, 9), r"\(rejected permanent, source: 9\): reason 9, which has no meaning"),
        ((0, 0, 0), r"\(result 0, source: 0\): reason 0, which has no meaning"),
        ((2, 3, 1), r"\(rejected transient, source: Service Provider \(Presentation\)\): Temp"),
    ],
)
def test_a_rejection_with_any_numbers_is_a_rejection(
    numbers: tuple[int, int, int], words: str
) -> None:
    with (
        accepting(free_port(), answering(lambda _: pdu(3, bytes([0, *numbers])))) as peer,
        pytest.raises(PeerUnavailable, match=f"rejected the association {words}"),
    ):
        echo(config(peer.port), "pacs")


@pytest.mark.parametrize("body", [b"\0\0\0\0", b"\0\0\x09\x09", b"\0\0\2\3", b"", b"\0\0\2"])
def test_an_abort_with_any_numbers_is_an_abort(body: bytes) -> None:
    with (
        accepting(free_port(), answering(lambda _: pdu(7, body))) as peer,
        pytest.raises(PeerUnavailable, match="aborted the association request"),
    ):
        echo(config(peer.port), "pacs")


RESPONSES: dict[str, dict[str, bytes]] = {
    "instance of 70 in the response": {"t00001000": b"1." * 35},
    "class of no UID in the response": {"t00000002": b"\xff\xfe"},
    "no class": {},
    "status of 4 bytes": {"status": us(0, 0)},
    "wrong data set type": {"t00000800": us(0x0102)},
    "no message ID": {"t00000120": b""},
    "an unknown element": {"t00009999": b"what"},
    "a priority": {"t00000700": us(77)},
    "a comment of 200": {"t00000902": b"x" * 200},
}


@pytest.mark.parametrize("more", RESPONSES.values(), ids=RESPONSES)
def test_odd_values_of_a_response_cost_nothing(more: dict[str, bytes]) -> None:
    def respond(body: bytes) -> bytes:
        return response(body, **more)  # type: ignore[arg-type]

    with accepting(free_port(), answering(accept, whole(respond))) as peer:
        assert echo(config(peer.port), "pacs").ok


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no status": (lambda body: response(body, status=b""), "answered with what is no response"),
    "status of 1 byte": (lambda _: pdu(4, b"\0\0\0\3\1\3x"), "cannot be read: a command set"),
    "an unknown command": (lambda body: response(body, field=0x9999), "cannot be read"),
    "a request": (lambda body: response(body, field=0x0030), "answered with what is no response"),
    "no command field": (
        lambda _: p_data((3, wire.command({0x900: us(0)}))),
        "cannot be read: a message without a Command Field",
    ),
    "no command set": (lambda _: p_data((3, b"\0" * 7)), "cannot be read: a command set that ends"),
    "a data set first": (lambda _: p_data((2, b"abcd")), "cannot be read: a data set without"),
    "an empty value": (lambda _: pdu(4, b"\0\0\0\1\1"), "cannot be read"),
    "lengths that disagree": (lambda _: pdu(4, b"\0\0\xff\xff\1\3"), "cannot be read"),
    "another request for an association": (lambda _: wire.request(), "ended the association"),
    "an unknown PDU": (lambda _: b"\x2a\0\0\0\0\1x", "cannot be read: no PDU of DICOM"),
}


@pytest.mark.parametrize(("respond", "words"), BROKEN.values(), ids=BROKEN)
def test_a_response_that_cannot_be_followed_is_said_in_words_at_once(
    respond: Callable[[bytes], bytes], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", crashed.append)
    with (
        accepting(free_port(), answering(accept, respond)) as peer,
        pytest.raises(PeerUnavailable, match=words),
    ):
        echo(config(peer.port), "pacs")
    assert not crashed


def test_a_failure_shows_the_comment_as_text_of_one_line() -> None:
    comment = b"no room\\ \x1b[31mred\nwine \0\0"
    with accepting(
        free_port(),
        answering(accept, whole(lambda body: response(body, status=us(0xA700), t00000902=comment))),
    ) as peer:
        result = echo(config(peer.port), "pacs")
    assert not result.ok
    assert result.comment == "no room/ ?[31mred wine"
    assert result.text.splitlines()[0].endswith(": no room/ ?[31mred wine")


@pytest.mark.parametrize("status", [0x0122, 0x0001, 0xFFFF, 0xC123, 0x5555])
def test_any_status_is_said(status: int) -> None:
    with accepting(
        free_port(), answering(accept, whole(lambda body: response(body, status=us(status))))
    ) as peer:
        result = echo(config(peer.port), "pacs")
    assert f"0x{status:04X}" in result.text


def whole(respond: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Respond when the last fragment of a command has come, to all of it."""
    held = bytearray()

    def respond_to(body: bytes) -> bytes:
        for context_id, control, content in wire.fragments(body):
            held.extend(content)
            if control & 3 == 3:
                command = struct.pack(">IBB", len(held) + 2, context_id, 3) + held
                held.clear()
                return respond(command)
        return b""

    return respond_to
