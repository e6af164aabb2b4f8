"""A receiver on a socket, and peers that behave."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    HTJ2KLossless,
    JPEGLosslessSV1,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from dicom_ai_node.store import engines, instances
from tests.builders import wire
from tests.builders.receiving import (
    DX,
    EXPLICIT,
    Node,
    associated,
    encoded,
    radiograph,
    receiving,
    send,
    send_bytes,
)
from tests.builders.waiting import wait_for

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with receiving(tmp_path) as node:
        yield node


def test_echo_costs_no_row(node: Node) -> None:
    with associated(node.port, VERIFICATION) as association:
        assert association.send_c_echo().Status == 0
        assert node.rows("SELECT * FROM association") == []


def test_images_are_filed_as_they_were_sent(node: Node) -> None:
    ds = radiograph()
    with associated(node.port) as association:
        assert association.send_c_store(ds).Status == 0
        assert [row[1:3] for row in node.rows("SELECT * FROM association")] == [
            ("MODALITY", "127.0.0.1")
        ]
        (path,) = node.files("instances")
        assert encoded(dcmread(path)) == encoded(ds)
    wait_for(lambda: node.rows("SELECT * FROM association") == [])
    assert node.rows("SELECT study_instance_uid, state FROM study") == [
        (ds.StudyInstanceUID, "collecting")
    ]


def test_the_same_twice_is_one_and_other_content_is_a_new_version(node: Node) -> None:
    first, other = radiograph(sop="1.2.3.4", seed=1), radiograph(sop="1.2.3.4", seed=2)
    assert send(node.port, first, first, other) == [0, 0, 0]
    assert [row[0] for row in node.rows("SELECT version FROM instance ORDER BY version")] == [1, 2]
    assert len(node.files("instances")) == 2
    assert node.files("incoming") == []


def test_what_cannot_be_filed_is_refused_and_the_association_goes_on(node: Node) -> None:
    with associated(node.port) as association:
        assert send_bytes(association, b"garbage", sop_class=DX, sop="1.2.3") == 0xC000
        good = encoded(radiograph())
        assert send_bytes(association, good, sop_class=DX, sop="1.2.3") == 0xC000
        assert association.send_c_store(radiograph()).Status == 0
    assert len(node.rows("SELECT * FROM quarantine")) == 2
    assert len(node.rows("SELECT * FROM instance")) == 1


@pytest.mark.parametrize(
    ("calling", "called", "answer"),
    [
        ("STRANGER", "DICOMAINODE", (1, 1, 3)),
        ("ELSEWHERE", "DICOMAINODE", (1, 1, 3)),
        ("MODALITY", "OTHER", (1, 1, 7)),
    ],
)
def test_strangers_are_rejected_with_the_reason(
    tmp_path: Path, calling: str, called: str, answer: tuple[int, int, int]
) -> None:
    callers = [
        {"ae_title": "MODALITY", "address": "127.0.0.0/8"},
        {"ae_title": "ELSEWHERE", "address": "192.0.2.0/24"},
    ]
    asked = wire.request(calling=calling.encode().ljust(16), called=called.encode().ljust(16))
    with receiving(tmp_path, receive={"callers": callers}) as node:
        assert wire.ask(node.port, asked).rejection == answer
        assert send(node.port, radiograph()) == [0]


def test_one_association_too_many_is_told_to_come_back(tmp_path: Path) -> None:
    with receiving(tmp_path, receive={"max_associations_per_address": 2}) as node:
        with associated(node.port), associated(node.port):
            # Of an answer this fast pynetdicom sometimes makes an abort.
            assert wire.ask(node.port, wire.request()).rejection == (2, 3, 2)
        wait_for(lambda: send(node.port, radiograph()) == [0])


def test_a_full_disk_is_said_early_and_nothing_is_written(tmp_path: Path) -> None:
    storage = {"min_free_mb": 10**9, "warn_free_mb": 10**9}
    with receiving(tmp_path, storage=storage) as node:
        assert send(node.port, radiograph(), radiograph()) == [0xA700, 0xA700]
        assert node.files("") == []
        assert node.rows("SELECT * FROM instance") == []


def test_a_locked_database_means_a700_and_the_sender_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_BUSY_SECONDS", 0.2)
    with receiving(tmp_path) as node:
        ds = radiograph()
        with node.db.write():
            assert send(node.port, ds) == [0xA700]
        assert node.files("incoming") == []
        assert send(node.port, ds) == [0]


def test_more_senders_than_database_connections(tmp_path: Path) -> None:
    """The pool has fifteen; nobody may be refused for waiting."""
    settings = {"max_associations_per_address": 40}
    with receiving(tmp_path, receive=settings) as node:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.extend(send(node.port, radiograph())))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [0] * 20
        assert len(node.rows("SELECT * FROM instance")) == 20


def test_an_unexpected_fault_is_answered_and_the_receiver_lives(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(instances, "add", lambda *_args, **_kwargs: 1 / 0)
        assert send(node.port, radiograph(), radiograph()) == [0xC001, 0xC001]
    assert send(node.port, radiograph()) == [0]


def test_compressed_syntaxes_are_taken_and_named(node: Node) -> None:
    for syntax in (HTJ2KLossless, JPEGLosslessSV1):
        with associated(node.port, syntaxes=(syntax,)) as association:
            data, sop = encoded(ds := radiograph()), str(ds.SOPInstanceUID)
            assert send_bytes(association, data, sop_class=DX, sop=sop) == 0
    found = {row[0] for row in node.rows("SELECT transfer_syntax_uid FROM instance")}
    assert found == {HTJ2KLossless, JPEGLosslessSV1}


def test_native_is_chosen_where_there_is_a_choice(node: Node) -> None:
    with associated(node.port, syntaxes=(JPEGLosslessSV1, EXPLICIT)) as association:
        assert association.accepted_contexts[0].transfer_syntax == [EXPLICIT]


def test_classes_that_are_only_kept_and_classes_that_are_not_taken(tmp_path: Path) -> None:
    multiframe = str(MultiFrameGrayscaleWordSecondaryCaptureImageStorage)
    private = "1.2.826.0.1.3680043.10.1.2.3"
    with receiving(tmp_path, receive={"extra_storage_classes": [private]}) as node:
        for uid in (multiframe, private):
            with associated(node.port, uid) as association:
                data, sop = encoded(ds := radiograph(sop_class=uid)), str(ds.SOPInstanceUID)
                assert send_bytes(association, data, sop_class=uid, sop=sop) == 0
        assert node.rows("SELECT DISTINCT analysable FROM instance") == [(0,)]
        with associated(node.port, DX, CT) as association:
            rejected = [context.abstract_syntax for context in association.rejected_contexts]
            assert rejected == [CT]


def test_stop_lets_an_image_end_and_takes_no_new_association(tmp_path: Path) -> None:
    with receiving(tmp_path, operate={"stop_seconds": 8.0}) as node:
        with associated(node.port) as association:
            assert association.send_c_store(radiograph()).Status == 0
        idle = associated(node.port)
        held = idle.__enter__()
        assert held.is_established
    # The context has joined the role: an idle association did not hold it up for eight seconds.
    wait_for(lambda: held.is_aborted)
    idle.__exit__(None, None, None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", node.port), timeout=5)
