"""Real archives as destinations: DCMTK's storescp, and Orthanc."""

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_ai_node.dicom.classes import REPORTS
from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.ops.echo import echo_destination as echo
from tests.builders.orthanc import orthanc_in
from tests.builders.outbox import SR_3D, Outbox, delivering, outbox, report_uid
from tests.builders.ports import free_port
from tests.builders.processes import running
from tests.builders.waiting import wait_for
from tests.conftest import require_tool

pytestmark = pytest.mark.peers


def answers(box: Outbox) -> bool:
    try:
        return echo(box.config, "pacs").ok
    except PeerUnavailable:
        return False


@pytest.mark.parametrize("syntax", ["+x=", "+xi"])
def test_storescp_takes_a_report(tmp_path: Path, syntax: str) -> None:
    port, folder = free_port(), tmp_path / "archive"
    folder.mkdir()
    command = [require_tool("storescp"), syntax, "-aet", "PACS", "-od", str(folder), str(port)]
    with running(*command, log=tmp_path / "peer.log"), outbox(tmp_path, pacs={"port": port}) as box:
        wait_for(lambda: answers(box))
        study = box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        (path,) = folder.iterdir()
        assert dcmread(path, force=True) == dcmread(box.spool.report_path(report_uid(study, SR_3D)))


def test_orthanc_takes_reports_and_keeps_a_repeated_one_once(tmp_path: Path) -> None:
    with (
        orthanc_in(tmp_path / "orthanc", DicomAet="PACS") as orthanc,
        outbox(tmp_path, pacs={"port": orthanc.dicom_port}) as box,
    ):
        wait_for(lambda: answers(box))
        assert echo(box.config, "pacs").accepted[: len(REPORTS)] == REPORTS
        for number in range(3):
            box.queue(number + 1)
        with delivering(box.config):
            wait_for(lambda: box.delivered(3))
        assert len(orthanc.instances()) == 3
        box.requeue_delivered()
        with delivering(box.config):
            wait_for(lambda: box.delivered(3))
        assert len(orthanc.instances()) == 3
