"""Proposals as their users have them: a running node, the command line, a PACS that gets copies."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.dicom.marks import is_own_report
from dicom_ai_node.study import State
from tests.acceptance.harness import Node, command_line, send
from tests.builders.waiting import wait_until


def cli(node: Node, *arguments: str, code: int = 0) -> str:
    found, out, err = command_line("proposals", *arguments, "-c", str(node.path))
    assert found == code, err
    return out + err


def as_json(node: Node, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli(node, *arguments, "--json").splitlines()]


@pytest.fixture
def pacs(tmp_path: Path) -> Any:
    with EmbeddedPacs(tmp_path / "pacs", ae_title="PACS") as running:
        running.faults.transfer_syntaxes = (ExplicitVRLittleEndian, JPEG2000Lossless)
        yield running


def test_from_an_image_without_age_to_a_filled_copy(tmp_path: Path, pacs: EmbeddedPacs) -> None:
    born: dict[str, Any] = {"PatientBirthDate": "19600101", "StudyDate": "20260314"}
    image = radiograph(phantom.chest(66.0, "F", seed=1), study="fill", compressed=True, **born)
    extra = '[fill]\nauto_accept = ["dates"]\nmax_age_interval = 100.0\nmin_sex_certainty = 0.5'
    node = Node(
        tmp_path / "node",
        destinations={"pacs": ("PACS", pacs.port)},
        extra=extra,
        policy="certain_sex = 0.5",
    )
    text = node.path.read_text() + 'fill = "inferred"\n'
    node.path.write_text(text)
    with node:
        assert send(node.port, [image]) == [0x0000]
        node.wait_settled(1)
        age, sex = sorted(as_json(node, "list"), key=lambda one: str(one["keyword"]))
        assert (age["value"], age["source"], age["state"]) == ("066Y", "dates", "accepted")
        assert (sex["source"], sex["state"]) == ("inference", "open")
        assert 0.5 <= sex["probability"] <= 1
        assert [one["id"] for one in as_json(node, "list", "--state", "open")] == [sex["id"]]
        assert as_json(node, "show", str(age["id"]))[0]["events"][-1]["by"] == "policy"

        number = str(sex["id"])
        assert "Missing option '--reason'" in cli(node, "accept", number, code=2)
        assert "the name of a person" in cli(
            node, "accept", number, "--by", "policy", "--reason", "r", code=2
        )
        assert "no destination 'x'; there is: pacs" in cli(
            node, "preview", number, "--destination", "x", code=2
        )
        assert "no proposal 999" in cli(node, "show", "999", code=1)
        (shown,) = as_json(node, "preview", number, "--destination", "pacs")
        after = {one["path"]: one["after"] for one in shown["changes"]}
        assert (after["(0010,1010)"], after["(0010,0040)"]) == ("'066Y'", f"'{sex['value']}'")

        (done,) = as_json(node, "accept", number, "--by", "R. Roe", "--reason", "asked the ward")
        assert done["state"] == "accepted"
        assert "is accepted already" in cli(node, "accept", number, "--reason", "again", code=1)
        (applied,) = as_json(node, "apply", "--all", "--by", "R. Roe")
        assert (applied["images"], applied["queued"]) == (1, 1)
        wait_until("the copy", lambda: len(pacs.instances()) == 2)
        (found,) = [path for path in pacs.instances().values() if dcmread(path).Modality == "CR"]
        copy = dcmread(found)
        assert (copy.PatientAge, copy.PatientSex) == ("066Y", sex["value"])
        assert copy.SOPInstanceUID != image.SOPInstanceUID
        assert copy.PixelData == image.PixelData
        assert copy.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        (row,) = node.wait_settled(1)
        assert row.state == State.DELIVERED
        events = as_json(node, "show", number)[0]["events"]
        assert [one["to"] for one in events] == ["open", "accepted", "applied"]
        assert (events[1]["by"], events[1]["reason"]) == ("R. Roe", "asked the ward")
        assert "approved by R. Roe" in events[2]["reason"]

        # The copy coming back is acknowledged, and is no evidence.
        assert is_own_report(copy)
        assert send(node.port, [copy]) == [0x0000]
        assert node.studies() == [row]
        for secret in (image.PatientID, image.StudyInstanceUID, "R. Roe", "066Y"):
            assert secret not in node.log.read_text()


def test_what_policy_accepts_is_sent_without_anybody(tmp_path: Path, pacs: EmbeddedPacs) -> None:
    born: dict[str, Any] = {"PatientBirthDate": "19600101", "StudyDate": "20260314"}
    image = radiograph(phantom.chest(66.0, "F", seed=1), study="auto", compressed=True, **born)
    extra = '[fill]\nauto_accept = ["dates"]\nauto_apply = true'
    node = Node(tmp_path / "node", destinations={"pacs": ("PACS", pacs.port)}, extra=extra)
    node.path.write_text(node.path.read_text() + 'fill = "deterministic"\n')
    with node:
        assert send(node.port, [image]) == [0x0000]
        wait_until("report and copy", lambda: len(pacs.instances()) == 2)
        (found,) = [path for path in pacs.instances().values() if dcmread(path).Modality == "CR"]
        assert dcmread(found).PatientAge == "066Y"
        (age,) = as_json(node, "list", "--keyword", "PatientAge")
        events = as_json(node, "show", str(age["id"]))[0]["events"]
        assert [(one["to"], one["by"]) for one in events] == [
            ("open", "analyser"), ("accepted", "policy"), ("applied", "policy"),
        ]  # fmt: skip
        assert "066Y" not in node.log.read_text()
