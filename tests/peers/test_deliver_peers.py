"""Real archives as destinations: DCMTK's storescp, and Orthanc."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_ai_node.deliver.echo import echo
from dicom_ai_node.dicom.classes import REPORTS
from dicom_ai_node.errors import PeerUnavailable
from tests.builders.outbox import (
    SR_3D,
    Outbox,
    delivering,
    outbox,
    report_uid,
    wait_for,
)
from tests.builders.ports import free_port
from tests.conftest import require_tool

pytestmark = pytest.mark.peers


@contextmanager
def running(*command: str, cwd: Path) -> Iterator[None]:
    with (cwd / "peer.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


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
    with running(*command, cwd=tmp_path), outbox(tmp_path, pacs={"port": port}) as box:
        wait_for(lambda: answers(box))
        study = box.queue()
        with delivering(box.config):
            wait_for(lambda: box.delivered(1))
        (path,) = folder.iterdir()
        assert dcmread(path, force=True) == dcmread(box.spool.report_path(report_uid(study, SR_3D)))


def test_orthanc_takes_reports_and_keeps_a_repeated_one_once(tmp_path: Path) -> None:
    dicom, web = free_port(), free_port()
    settings = {
        "Name": "PACS",
        "DicomAet": "PACS",
        "DicomPort": dicom,
        "HttpPort": web,
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "storage"),
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "Plugins": [],
    }
    configuration = tmp_path / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    command = [require_tool("Orthanc"), str(configuration)]
    with running(*command, cwd=tmp_path), outbox(tmp_path, pacs={"port": dicom}) as box:
        wait_for(lambda: answers(box))
        assert echo(box.config, "pacs").accepted[: len(REPORTS)] == REPORTS
        for number in range(3):
            box.queue(number + 1)
        with delivering(box.config):
            wait_for(lambda: box.delivered(3))
        assert len(instances(web)) == 3
        box.requeue_delivered()
        with delivering(box.config):
            wait_for(lambda: box.delivered(3))
        assert len(instances(web)) == 3


def instances(port: int) -> list[Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/instances", timeout=10) as answer:
        found: list[Any] = json.load(answer)
    return found
