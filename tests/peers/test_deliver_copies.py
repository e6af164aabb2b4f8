"""Copies on the wire: byte for byte, in their own transfer syntax, or not at all."""

import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.dsutils import split_dataset

from dicom_ai_node.deliver import worker
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.fill.apply import apply
from dicom_ai_node.store.queries import show
from dicom_ai_node.study import State
from tests.builders.filling import AGE, Ward, make, ward
from tests.builders.outbox import SR_3D, delivering, report_uid
from tests.builders.ports import free_port
from tests.builders.processes import running
from tests.builders.waiting import wait_for
from tests.conftest import require_tool
from tests.peers.test_deliver_peers import answers

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
)


def queue(box: Ward, study: str, syntax: UID) -> str:
    uid = box.accepted_study(study, AGE, syntax=syntax)
    apply(box.config, box.db, box.spool, uid, actor="roe", make=make, now=time.time())
    return uid


def data_set(path: Path) -> bytes:
    """The encoded data set of a file, as it stands."""
    _, offset = split_dataset(path)
    return path.read_bytes()[offset:]


@pytest.mark.peers
def test_storescp_gets_every_syntax_byte_for_byte(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "archive"
    folder.mkdir()
    command = [require_tool("storescp"), "+xa", "+B", "-aet", "PACS", "-od", str(folder), str(port)]
    with (
        running(*command, log=tmp_path / "peer.log"),
        ward(tmp_path, pacs={"port": port, "fill": "deterministic"}) as box,
    ):
        wait_for(lambda: answers(box))
        for number, syntax in enumerate(SYNTAXES):
            queue(box, f"study {number}", syntax)
        with delivering(box.config):
            wait_for(lambda: box.delivered(len(SYNTAXES)))
        arrived = {str(read_file_meta_info(one).MediaStorageSOPInstanceUID): one
                   for one in folder.iterdir()}  # fmt: skip
        copies = {path.stem: path for path in box.copies()}
        assert arrived.keys() == copies.keys()
        syntaxes = set()
        for uid, path in copies.items():
            assert data_set(arrived[uid]) == data_set(path)
            syntax = read_file_meta_info(arrived[uid]).TransferSyntaxUID
            assert syntax == read_file_meta_info(path).TransferSyntaxUID
            syntaxes.add(syntax)
        assert syntaxes == set(SYNTAXES)


def test_a_peer_that_lacks_the_syntax_gets_nothing_and_the_reason_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_REFUSALS", 1)
    with (
        EmbeddedPacs(tmp_path / "pacs") as pacs,
        ward(tmp_path, pacs={"port": pacs.port, "fill": "deterministic"}) as box,
    ):
        refused = queue(box, "jpeg", JPEGLosslessSV1)
        queue(box, "native", ExplicitVRLittleEndian)
        report = box.queue()
        with delivering(box.config):
            wait_for(lambda: sorted(box.states()) == ["dead", "delivered", "delivered"])
        (dead,) = [row for row in box.rows() if row.state == "dead"]
        assert "JPEG Lossless" in dead.error
        assert "never transcoded" in dead.error
        assert dead.study_instance_uid == refused
        assert pacs.received.total() == 2
        assert report_uid(report, SR_3D) in pacs.instances()
        detail = show(box.db, refused)
        assert detail is not None
        assert detail.study.state == State.UNDELIVERED


def test_a_copy_is_not_converted_to_the_syntax_of_a_report(tmp_path: Path) -> None:
    """A peer that takes Implicit VR alone gets the reports, and no copy in Explicit VR."""
    with (
        EmbeddedPacs(tmp_path / "pacs") as pacs,
        ward(tmp_path, pacs={"port": pacs.port, "fill": "deterministic"}) as box,
    ):
        pacs.faults.transfer_syntaxes = (ImplicitVRLittleEndian,)
        queue(box, "explicit", ExplicitVRLittleEndian)
        queue(box, "implicit", ImplicitVRLittleEndian)
        with delivering(box.config):
            wait_for(lambda: "delivered" in box.states() and box.rows()[0].attempts > 0)
            wait_for(lambda: "Explicit VR Little Endian" in box.rows()[0].error)
        assert [dcmread(path).PatientAge for path in pacs.instances().values()] == ["063Y"]


def test_a_missing_copy_is_a_dead_letter_at_once(tmp_path: Path) -> None:
    with (
        EmbeddedPacs(tmp_path / "pacs") as pacs,
        ward(tmp_path, pacs={"port": pacs.port, "fill": "deterministic"}) as box,
    ):
        queue(box, "one", ExplicitVRLittleEndian)
        queue(box, "two", ExplicitVRLittleEndian)
        box.copies()[0].unlink()
        with delivering(box.config):
            wait_for(lambda: sorted(box.states()) == ["dead", "delivered"])
        assert "No such file" in next(row.error for row in box.rows() if row.state == "dead")
