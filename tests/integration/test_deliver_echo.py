"""Probing a destination, and the words for each way in which it cannot be reached."""

import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.dicom.classes import REPORTS, SECONDARY_CAPTURE
from dicom_ai_node.errors import ConfigError, PeerUnavailable
from dicom_ai_node.ops.echo import echo as echo_anybody
from dicom_ai_node.ops.echo import echo_destination as echo
from tests.builders.outbox import SR_ENHANCED


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[EmbeddedPacs]:
    with EmbeddedPacs(tmp_path) as running:
        yield running


def config(port: int, *, host: str = "127.0.0.1", timeout: float = 5.0) -> Config:
    destination = {"host": host, "port": port, "ae_title": "PACS", "timeout": timeout}
    return parse_config({"destinations": {"pacs": destination}})


def test_a_destination_that_takes_everything(pacs: EmbeddedPacs) -> None:
    result = echo(config(pacs.port), "pacs")
    assert result.ok
    assert result.seconds > 0
    assert result.accepted == (*REPORTS, SECONDARY_CAPTURE)
    assert result.refused == ()


def test_what_a_destination_does_not_take(pacs: EmbeddedPacs) -> None:
    pacs.faults.accepted_classes = frozenset({SR_ENHANCED})
    result = echo(config(pacs.port), "pacs")
    assert result.ok
    assert result.accepted == (SR_ENHANCED,)
    assert len(result.refused) == 3
    assert "answered C-ECHO with 0x0000 (success)" in result.text
    assert "  accepts Enhanced SR Storage\n" in result.text
    assert "  does not accept Comprehensive 3D SR Storage\n" in result.text
    assert asdict(result)["accepted"] == (SR_ENHANCED,)


def test_a_destination_that_accepts_no_context_at_all(pacs: EmbeddedPacs) -> None:
    pacs.faults.transfer_syntaxes = ("1.2.840.10008.1.2.2",)
    result = echo(config(pacs.port), "pacs")
    assert (result.status, result.ok, result.accepted) == (None, False, ())
    assert "accepts associations, but no C-ECHO" in result.text


def test_an_unknown_destination() -> None:
    with pytest.raises(ConfigError, match="no destination or source 'archive'; there are: pacs"):
        echo_anybody(config(1), "archive")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".invalid"])
def test_an_unknown_host(host: str) -> None:
    with pytest.raises(PeerUnavailable, match=r"unknown host '[nx]"):
        echo(config(104, host=host), "pacs")


def test_a_refused_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(PeerUnavailable, match=r"PACS at 127\.0\.0\.1:\d+: connection refused"):
            echo(config(unused.getsockname()[1]), "pacs")


def test_a_rejected_association_says_by_whom_and_why(pacs: EmbeddedPacs) -> None:
    pacs.faults.reject = True
    with pytest.raises(PeerUnavailable) as caught:
        echo(config(pacs.port), "pacs")
    text = str(caught.value)
    assert "rejected permanent, source: Service User" in text
    assert "Called AE title not recognised; it was called 'PACS'" in text


def test_a_listener_that_says_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(PeerUnavailable, match="did not answer the association request"),
    ):
        echo(config(mute.getsockname()[1], timeout=0.5), "pacs")


def test_a_connection_that_is_never_made() -> None:
    with socket.socket() as full:  # a backlog of one, taken: further connections get no answer
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with (
            socket.create_connection(address),
            pytest.raises(PeerUnavailable, match=r"within 0\.5 s"),
        ):
            echo(config(address[1], timeout=0.5), "pacs")
