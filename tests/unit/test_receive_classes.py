"""What is accepted, and what is preferred."""

import pytest

from dicom_ai_node.dicom.classes import ANALYSABLE, FILED_ONLY, RADIOGRAPHS, storage_classes
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES
from dicom_ai_node.peer.pdus import read_request
from dicom_ai_node.receive.acceptor import supported_syntaxes
from tests.builders.receiving import DX, EXPLICIT
from tests.builders.wire import context, request

MAY_LOSE = ("4.50", "4.51", "4.81", "4.91", "4.203")


def chosen(*proposed: str) -> str:
    contexts = context(1, DX.encode(), *(uid.encode() for uid in proposed))
    asked = read_request(request(contexts=contexts))
    _, accepted = asked.accept(supported_syntaxes(), longest=16384)
    abstract, transfer = accepted[1]
    assert abstract == DX
    return transfer


@pytest.mark.parametrize("syntax", ACCEPTED_SYNTAXES)
def test_every_syntax_is_accepted_alone(syntax: str) -> None:
    assert chosen(syntax) == syntax


@pytest.mark.parametrize("syntax", [syntax for syntax in ACCEPTED_SYNTAXES if syntax != EXPLICIT])
def test_native_is_preferred_however_the_sender_sorts(syntax: str) -> None:
    assert chosen(syntax, EXPLICIT) == EXPLICIT


def test_nothing_that_may_lose_is_preferred_to_what_cannot() -> None:
    lossy = [syntax.endswith(MAY_LOSE) for syntax in ACCEPTED_SYNTAXES]
    assert lossy == sorted(lossy)
    assert sum(lossy) == len(MAY_LOSE)
    assert chosen("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90") == "1.2.840.10008.1.2.4.90"


def test_the_list_is_complete() -> None:
    assert len(set(ACCEPTED_SYNTAXES)) == len(ACCEPTED_SYNTAXES) == 16


def test_classes() -> None:
    assert RADIOGRAPHS < ANALYSABLE
    assert not ANALYSABLE & FILED_ONLY
    assert storage_classes(("1.2.3",)) == ANALYSABLE | FILED_ONLY | {"1.2.3"}


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.88.33", "1.2.826.0.1.3680043.9.9.9"])
def test_extra_classes_are_offered(uid: str) -> None:
    assert uid in supported_syntaxes((uid,))
