"""Association requests as real systems send them, and the trace that those leave which fail."""

import socket
import struct
import threading
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.builders import wire
from tests.builders.receiving import Node, receiving
from tests.builders.waiting import wait_for
from tests.builders.wire import (
    ABORT,
    AC,
    CLOSED,
    DX,
    EXPLICIT,
    IMPLEMENTATION,
    IMPLICIT,
    MAXIMUM,
    RJ,
    VERIFICATION,
    ask,
    asking,
    context,
    item,
    request,
)

Log = list[MutableMapping[str, Any]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Time-outs so long that what ends at once cannot be what a time-out has ended."""
    timeouts = {"acse_timeout": 600.0, "dimse_timeout": 600.0}
    with receiving(tmp_path_factory.mktemp("associations"), receive=timeouts) as node:
        yield node


@pytest.fixture
def log() -> Iterator[Log]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def role(uid: bytes, *, length: int | None = None) -> bytes:
    size = len(uid) if length is None else length
    return item(0x54, struct.pack(">H", size) + uid + b"\1\1")


ODD_AND_HARMLESS = {
    "called AE padded with NUL": request(called=b"DICOMAINODE".ljust(16, b"\0")),
    "both padded with NUL": request(
        called=b"DICOMAINODE".ljust(16, b"\0"), calling=b"MOD".ljust(16, b"\0")
    ),
    "what a C program left behind the NUL": request(called=b"DICOMAINODE\0abcd"),
    "leading blanks": request(called=b"  DICOMAINODE   "),
    "line end behind the title": request(called=b"DICOMAINODE\r\n   "),
    "calling AE in Latin-1": request(calling="RÖNTGEN".encode("latin-1").ljust(16)),
    "calling AE with a control character": request(calling=b"MOD\x07A".ljust(16)),
    "calling AE with a backslash": request(calling=b"MOD\\A".ljust(16)),
    "version name of 17": request(user=MAXIMUM + IMPLEMENTATION + item(0x55, b"ACME_PACS_GW_5.10")),
    "version name of 64": request(user=MAXIMUM + IMPLEMENTATION + item(0x55, b"A" * 64)),
    "version name padded with NUL": request(user=MAXIMUM + item(0x55, b"ACME\0\0")),
    "version name in Latin-1": request(user=MAXIMUM + item(0x55, b"R\xf6ntgen")),
    "version name empty": request(user=MAXIMUM + item(0x55, b"")),
    "class UID missing": request(user=MAXIMUM),
    "class UID of 70": request(user=MAXIMUM + item(0x52, b"1." * 35)),
    "class UID padded": request(user=MAXIMUM + item(0x52, b"1.2.3\0\0\0")),
    "class UID no UID": request(user=MAXIMUM + item(0x52, b"ACME \xff")),
    "class UID empty": request(user=MAXIMUM + item(0x52, b"")),
    "class UID twice": request(user=MAXIMUM + IMPLEMENTATION + IMPLEMENTATION),
    "unknown user items": request(
        user=MAXIMUM + item(0x5F, b"xx") + item(0xFF, b"") + IMPLEMENTATION
    ),
    "unknown item of the PDU": request(more=item(0x99, b"whatever")),
    "an item of an answer": request(more=wire.answered(1)),
    "trailing NUL": request(more=b"\0\0\0"),
    "async window of 3 bytes": request(user=MAXIMUM + item(0x53, b"\0\1\0")),
    "async window of 0": request(user=MAXIMUM + item(0x53, bytes(4))),
    "async window twice": request(user=MAXIMUM + item(0x53, bytes(4)) * 2),
    "role of a wrong length": request(user=MAXIMUM + role(VERIFICATION, length=900)),
    "role without roles": request(user=MAXIMUM + item(0x54, b"\0\x02")),
    "role of no UID": request(user=MAXIMUM + role(b"\xff\xfe")),
    "role of values": request(user=MAXIMUM + item(0x54, b"\0\x111.2.840.10008.1.1\x07\x09")),
    "extended negotiation cut": request(user=MAXIMUM + item(0x56, b"\0")),
    "extended negotiation of no UID": request(user=MAXIMUM + item(0x56, b"\0\4\xff\xff\xff\xff")),
    "common extended negotiation cut": request(user=MAXIMUM + item(0x57, b"\0\5" + b"1.2")),
    "user identity cut": request(user=MAXIMUM + item(0x58, b"\1")),
    "user identity of type 9": request(user=MAXIMUM + item(0x58, b"\x09\1\0\4user\0\0")),
    "user item that overruns": request(user=MAXIMUM + b"\x55\0\0\x40ACME"),
    "maximum length of 2 bytes": request(user=item(0x51, b"\x40\0") + IMPLEMENTATION),
    "maximum length of 8 bytes": request(user=item(0x51, b"\0\0\x40\0" * 2)),
    "maximum length twice": request(user=MAXIMUM + MAXIMUM + IMPLEMENTATION),
    "no user information": request(user=None),
    "user information empty": request(user=b""),
    "protocol version 3": request(version=3),
    "protocol version FFFFH": request(version=0xFFFF),
    "application context padded": request(application=item(0x10, b"1.2.840.10008.3.1.1.1\0\0 ")),
    "no application context": request(application=None),
}


@pytest.mark.parametrize("data", ODD_AND_HARMLESS.values(), ids=ODD_AND_HARMLESS)
def test_odd_informative_items_cost_nothing(node: Node, data: bytes) -> None:
    with asking(node.port, data) as (connection, answer):
        assert answer.results == {1: 0}
        connection.sendall(wire.pdu(5, bytes(4)))
        assert wire.read_pdu(connection).kind == wire.RELEASE_RP


ODD_CONTEXTS: dict[str, tuple[bytes, dict[int, int]]] = {
    "even ID": (context(2), {}),
    "ID 0": (context(0), {}),
    "ID twice": (context(1, DX, EXPLICIT), {}),
    "no transfer syntax": (item(0x20, b"\3\0\0\0" + item(0x30, DX)), {3: 4}),
    "no abstract syntax": (item(0x20, b"\3\0\0\0" + item(0x40, IMPLICIT)), {3: 3}),
    "neither": (item(0x20, b"\3\0\0\0"), {3: 3}),
    "no body": (item(0x20, b""), {}),
    "only an ID": (item(0x20, b"\3"), {3: 3}),
    "abstract syntax of 70": (context(3, b"1.2.840.113619." + b"1" * 55), {3: 3}),
    "abstract syntax no UID": (context(3, b"ACME"), {3: 3}),
    "abstract syntax in Latin-1": (context(3, b"1.2.\xe9"), {3: 3}),
    "abstract syntax empty": (context(3, b""), {3: 3}),
    "abstract syntax unknown": (context(3, b"1.2.3.4"), {3: 3}),
    "transfer syntax of 70": (context(3, DX, b"1." * 35), {3: 4}),
    "transfer syntax no UID": (context(3, DX, b"\xff\xff"), {3: 4}),
    "transfer syntax empty": (context(3, DX, b""), {3: 4}),
    "one good transfer syntax": (context(3, DX, b"\xff", b"1." * 40, EXPLICIT), {3: 0}),
    "padded syntaxes": (context(3, DX + b"\0", EXPLICIT + b" "), {3: 0}),
    "sub-item that overruns": (
        item(0x20, b"\3\0\0\0" + item(0x30, DX) + b"\x40\0\0\x99" + IMPLICIT),
        {3: 3},
    ),
    "unknown sub-item": (
        item(0x20, b"\3\0\0\0" + item(0x77, b"?") + item(0x30, DX) + item(0x40, IMPLICIT)),
        {3: 0},
    ),
}


@pytest.mark.parametrize(("odd", "results"), ODD_CONTEXTS.values(), ids=ODD_CONTEXTS)
@pytest.mark.parametrize("first", [False, True], ids=["behind", "before"])
def test_a_context_that_is_wrong_is_refused_alone(
    node: Node, odd: bytes, results: dict[int, int], first: bool
) -> None:
    if first and odd[4:5] == b"\1":
        pytest.skip("of two contexts with one ID the first counts")
    contexts = odd + context(1) if first else context(1) + odd
    answer = ask(node.port, request(contexts=contexts + context(5, DX, IMPLICIT)))
    assert answer.results == {1: 0, 5: 0} | results


REFUSED: dict[str, tuple[bytes, tuple[int, int, int], str]] = {
    "another called AE": (
        request(called=b"OTHER".ljust(16)),
        (1, 1, 7),
        "called_ae_not_recognised",
    ),
    "blank called AE": (request(called=b" " * 16), (1, 1, 7), "called_ae_not_recognised"),
    "NUL called AE": (request(called=bytes(16)), (1, 1, 7), "called_ae_not_recognised"),
    "blank calling AE": (request(calling=b" " * 16), (1, 1, 3), "calling_ae_not_recognised"),
    "NUL calling AE": (request(calling=bytes(16)), (1, 1, 3), "calling_ae_not_recognised"),
    "unknown application context": (
        request(application=item(0x10, b"1.2.3.4")),
        (1, 1, 2),
        "application_context_not_supported",
    ),
    "protocol version 2": (request(version=2), (1, 2, 2), "protocol_version_not_supported"),
    "protocol version 0": (request(version=0), (1, 2, 2), "protocol_version_not_supported"),
    "no context": (request(contexts=b""), (1, 1, 1), "no_presentation_context"),
    "only an even ID": (request(contexts=context(2)), (1, 1, 1), "no_presentation_context"),
}


@pytest.mark.parametrize(("data", "numbers", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_rejected_leaves_one_line(
    node: Node, log: Log, data: bytes, numbers: tuple[int, int, int], reason: str
) -> None:
    answer = ask(node.port, data)
    assert answer.rejection == numbers
    wait_for(lambda: said(log))
    time.sleep(0.2)
    (line,) = said(log)
    assert line["event"] == "association_rejected"
    assert line["log_level"] == "warning"
    assert line["reason"] == reason
    assert line["address"] == "127.0.0.1"
    assert line["calling_ae"] in {"MODALITY", ""}
    assert line["called_ae"] in {
        "DICOMAINODE",
        "OTHER",
        "",
    }


UNREADABLE: dict[str, tuple[bytes, str, str]] = {
    "item that overruns": (
        request(more=b"\x99\0\1\0"),
        "MODALITY",
        "A-ASSOCIATE-RQ: item of type 99H is longer than what holds it",
    ),
    "too short": (
        wire.pdu(1, bytes(20)),
        "",
        "A-ASSOCIATE-RQ of 26 bytes, less than its fixed fields",
    ),
    "cut header of an item": (
        request(more=b"\x99\0\1"),
        "MODALITY",
        "A-ASSOCIATE-RQ: ends within the header of an item",
    ),
    "a release": (wire.pdu(5, bytes(4)), "", "PDU of type 05H before any association request"),
    "data": (wire.pdu(4, bytes(8)), "", "PDU of type 04H before any association request"),
    "unknown PDU": (b"\x2a\0\0\0\0\4abcd", "", "no PDU of DICOM: first bytes 2a 00 00 00 00 04"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", "an HTTP request, on a DICOM port"),
    "TLS": (b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3", "", "a TLS ClientHello, on a port without TLS"),
    "4 GB": (b"\x01\0\xff\xff\xff\xff", "", "a PDU of type 01H and 4294967295 bytes"),
}


@pytest.mark.parametrize(("data", "calling", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_aborted_at_once_and_leaves_one_line(
    node: Node, log: Log, data: bytes, calling: str, reason: str
) -> None:
    """The node's own time-outs are ten minutes: nothing but the request ends this."""
    with asking(node.port, data) as (connection, answer):
        assert answer.kind == ABORT
        assert wire.read_pdu(connection).kind == CLOSED
        wait_for(lambda: said(log))  # before the peer closes
    time.sleep(0.2)
    (line,) = said(log)
    assert line["event"] == "association_not_established"
    assert line["log_level"] == "warning"
    assert line["reason"] == reason
    assert line["calling_ae"] == calling
    assert line["called_ae"] == ("DICOMAINODE" if calling else "")
    assert line["address"] == "127.0.0.1"


def test_a_request_that_is_cut_leaves_one_line(node: Node, log: Log) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as connection:
        connection.sendall(request()[:50])
    wait_for(lambda: said(log))
    (line,) = said(log)
    assert line["event"] == "association_not_established"
    assert line["log_level"] == "warning"
    assert line["reason"] == "closed by the peer"


def test_a_probe_that_only_connects_is_no_warning(node: Node, log: Log) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=60):
        pass
    wait_for(lambda: probes(log))
    assert {line["address"] for line in probes(log)} == {"127.0.0.1"}
    assert not said(log)


def test_a_silent_connection_and_half_a_request_are_told_apart(tmp_path: Path, log: Log) -> None:
    with (
        receiving(tmp_path, receive={"acse_timeout": 1.0}) as node,
        socket.create_connection(("127.0.0.1", node.port), timeout=60) as silent,
        socket.create_connection(("127.0.0.1", node.port), timeout=60) as half,
    ):
        half.sendall(request()[:50])
        assert wire.read_pdu(silent).kind == CLOSED
        assert wire.read_pdu(half).kind in {ABORT, CLOSED}
        silence = "sent nothing until acse_timeout"
        wait_for(lambda: said(log) and any(line["reason"] == silence for line in probes(log)))
    assert [line["reason"] for line in said(log)] == [
        "not complete within receive.acse_timeout = 1 s"
    ]


def test_a_connection_that_makes_room_leaves_one_line(tmp_path: Path, log: Log) -> None:
    with receiving(tmp_path, receive={"max_associations_per_address": 1}) as node:
        wait_for(lambda: probes(log))  # the builder's own
        with (
            socket.create_connection(("127.0.0.1", node.port), timeout=60) as first,
            socket.create_connection(("127.0.0.1", node.port), timeout=60),
        ):
            assert wire.read_pdu(first).kind == CLOSED
            wait_for(lambda: said(log))
    (line,) = said(log)
    assert line["reason"] == "sent nothing, and made room for others"
    assert line["log_level"] == "warning"
    assert line["address"] == "127.0.0.1"


def test_congestion_leaves_a_line_with_both_titles(tmp_path: Path, log: Log) -> None:
    with (
        receiving(tmp_path, receive={"max_associations": 1}) as node,
        asking(node.port, request()) as (_, first),
    ):
        assert first.kind == AC
        assert ask(node.port, request(calling=b"SECOND".ljust(16))).rejection == (2, 3, 2)
    (line,) = [line for line in log if line["event"] == "association_rejected"]
    assert line["calling_ae"] == "SECOND"
    assert line["called_ae"] == "DICOMAINODE"
    assert line["reason"] == "local_limit_exceeded"


def test_titles_cannot_forge_a_line(node: Node, log: Log) -> None:
    assert ask(node.port, request(called=b"A\x1b[2J\nB".ljust(16))).kind == RJ
    wait_for(lambda: said(log))
    (line,) = said(log)
    assert line["called_ae"] == "A?[2J?B"


def test_a_crash_is_logged_and_ends_the_association_at_once(
    node: Node, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("over bytes that nobody has thought of")

    monkeypatch.setattr("dicom_ai_node.peer.pdus.AssociateRequest.accept", crash)
    crashed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", crashed.append)
    with asking(node.port, request()) as (connection, answer):
        assert answer.kind == ABORT
        assert wire.read_pdu(connection).kind == CLOSED
        wait_for(lambda: said(log))
    assert not crashed
    events = {line["event"]: line for line in log}
    assert events["association_broke"]["address"] == "127.0.0.1"
    assert events["association_not_established"]["calling_ae"] == "MODALITY"


def said(log: Log) -> Log:
    """The lines about associations that came to nothing; not those about probes."""
    return [
        line
        for line in log
        if line["event"] in {"association_rejected", "association_not_established"}
        and line["log_level"] != "debug"
    ]


def probes(log: Log) -> Log:
    """The lines about connections on which nothing came."""
    return [
        line
        for line in log
        if line["event"] == "association_not_established" and line["log_level"] == "debug"
    ]
