"""The node as its users have it, against the embedded PACS."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread

from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.study import State
from tests.acceptance.harness import Node, command_line, noise, send
from tests.acceptance.kill_rounds import run_rounds
from tests.builders.ports import free_port
from tests.builders.waiting import wait_until


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[EmbeddedPacs]:
    with EmbeddedPacs(tmp_path / "pacs", ae_title="PACS") as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, pacs: EmbeddedPacs) -> Iterator[Node]:
    with Node(tmp_path / "node", destinations={"pacs": ("PACS", pacs.port)}) as running:
        yield running


def run_cli(node: Node, *arguments: str) -> list[dict[str, Any]]:
    """Run a command with ``--json`` while the daemon runs, and return its objects."""
    code, out, err = command_line(*arguments, "--json", "-c", str(node.path))
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_study_goes_in_and_its_report_comes_back(node: Node, pacs: EmbeddedPacs) -> None:
    image = radiograph(phantom.chest(60.0, "F", seed=1), study="one", PatientSex="F")
    assert send(node.port, [image]) == [0x0000]
    (row,) = node.wait_settled(1)
    assert (row.state, row.flagged) == (State.DELIVERED, True)
    (path,) = pacs.instances().values()
    report = dcmread(path)
    assert report.StudyInstanceUID == image.StudyInstanceUID
    assert (report.PatientID, report.PatientName) == (image.PatientID, image.PatientName)
    assert report.PatientSex == "F"
    assert "PatientAge" not in report or not report.PatientAge

    (listed,) = run_cli(node, "studies", "--flagged")
    assert listed["study_instance_uid"] == image.StudyInstanceUID
    (shown,) = run_cli(node, "show", image.StudyInstanceUID)
    assert [one["event"] for one in shown["transitions"]] == ["quiet", "claim", "result", "settled"]
    assert shown["result"]["outcome"] == "estimated"
    assert shown["deliveries"][0]["state"] == "delivered"
    assert run_cli(node, "status")[0]["ready"] is True

    # Patient data and UIDs stay out of the log; the report coming back starts nothing.
    log = node.log.read_text()
    for secret in (image.PatientID, str(image.PatientName), image.StudyInstanceUID):
        assert secret not in log
    (row,) = node.studies()
    assert row.revision == 1


def test_health_and_metrics(node: Node) -> None:
    base = f"http://127.0.0.1:{node.config.web.port}"
    wait_until("ready", lambda: httpx.get(f"{base}/health/ready").status_code == 200)
    assert httpx.get(f"{base}/health/live").status_code == 200
    send(node.port, [noise("metric")])
    node.wait_settled(1)
    assert 'state="delivered"' in httpx.get(f"{base}/metrics").text


def test_the_nodes_own_report_starts_nothing(node: Node, pacs: EmbeddedPacs) -> None:
    send(node.port, [noise("own")])
    node.wait_settled(1)
    (path,) = pacs.instances().values()
    report = dcmread(path)
    before = node.studies()
    assert send(node.port, [report]) == [0x0000]
    send(node.port, [noise("other")])
    node.wait_settled(2)
    assert [row for row in node.studies() if row.study_instance_uid == report.StudyInstanceUID] == (
        before
    )


def test_a_late_image_reopens_and_the_new_report_names_the_old(
    node: Node, pacs: EmbeddedPacs
) -> None:
    send(node.port, [noise("late", 1)])
    node.wait_settled(1)
    (first,) = pacs.instances()
    send(node.port, [noise("late", 2)])
    wait_until("the second report", lambda: len(pacs.instances()) == 2)
    new = dcmread(next(path for uid, path in pacs.instances().items() if uid != first))
    series = new.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first
    # The same image again changes nothing.
    send(node.port, [noise("late", 2)])
    send(node.port, [noise("after", 1)])
    node.wait_settled(2)
    assert len(pacs.instances()) == 3


def test_pacs_down_for_the_whole_run_then_up(tmp_path: Path) -> None:
    pacs = EmbeddedPacs(tmp_path / "pacs", ae_title="PACS", port=free_port())
    with Node(tmp_path / "node", destinations={"pacs": ("PACS", pacs.port)}) as node:
        for number in range(5):
            assert send(node.port, [noise(f"down-{number}")]) == [0x0000]
        wait_until(
            "five reports to wait",
            lambda: [row.state for row in node.studies()].count(State.REPORTED) == 5,
        )
        with pacs:
            node.wait_settled(5)
            assert len(pacs.instances()) == 5
            assert set(pacs.received.values()) == {1}


def test_shadow_mode_sends_nothing_until_a_person_resumes(node: Node, pacs: EmbeddedPacs) -> None:
    person = ("--by", "A. Person", "--reason", "a look at the charts")

    def decide(what: str) -> None:
        command = [sys.executable, "-m", "dicom_ai_node", "monitor", what, *person]
        subprocess.run([*command, "-c", str(node.path)], check=True, capture_output=True)

    decide("shadow")
    image = radiograph(phantom.chest(60.0, "F", seed=1), study="shadow", PatientSex="F")
    assert send(node.port, [image]) == [0x0000]
    (row,) = node.wait_settled(1)
    assert (row.state, row.reason_code) == (State.SKIPPED, "withheld")
    (shown,) = run_cli(node, "show", image.StudyInstanceUID)
    assert ([one["kind"] for one in shown["reports"]], shown["deliveries"]) == (["sr"], [])
    (watched,) = run_cli(node, "monitor", "--by", "view")
    assert watched["mode"] == "shadow"
    assert [(one["group"], one["n"]) for one in watched["groups"]] == [("PA", 1)]
    metrics = f"http://127.0.0.1:{node.config.web.port}/metrics"
    assert "dicom_ai_node_shadow_mode 1.0" in httpx.get(metrics).text
    assert pacs.instances() == {}

    decide("resume")
    assert run_cli(node, "requeue", "--withheld") == [{"studies": 1, "without_images": 0}]
    wait_until("the report", lambda: len(pacs.instances()) == 1)
    (row,) = node.wait_settled(1)
    assert row.state == State.DELIVERED
    (watched,) = run_cli(node, "monitor")
    assert [one["mode"] for one in watched["switches"]] == ["shadow", "live"]


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    node = Node(tmp_path, destinations={})
    node.start()
    children = node.children()
    assert len(children) >= 5
    assert node.stop() == 0
    assert not any(child.is_running() for child in children)


@pytest.mark.timeout(900)
def test_kill_rounds_in_short(tmp_path: Path) -> None:
    counts = run_rounds(tmp_path, rounds=4, seed=1)
    bad = ("lost", "altered", "stored_twice", "unreported", "duplicated")
    assert {name: counts[name] for name in bad} == dict.fromkeys(bad, 0)
    assert counts["acknowledged"] > 0
