"""DCMTK's worklist (wlmscpfs) asked by the analyser; it does not match on StudyInstanceUID."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_ai_node.analyse.worklist import Worklist
from dicom_ai_node.config import parse_config
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo.images import uid
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.store import Database, proposals
from dicom_ai_node.store.proposals import ProposalDetail
from dicom_ai_node.types import WorklistAnswer
from tests.acceptance.harness import noise
from tests.builders.analysing import Node
from tests.builders.headers import Changes, checked, header
from tests.builders.ports import free_port
from tests.builders.processes import running
from tests.builders.rows import file_instance
from tests.builders.waiting import wait_until_listening
from tests.conftest import require_tool

pytestmark = pytest.mark.peers

AE_TITLE = "WORKLIST"
LACKING: Changes = {"PatientSex": "", "PatientAge": "", "PatientBirthDate": ""}


def order(number: int, **values: str) -> Dataset:
    """What a RIS writes for one procedure: the patient of the sound header, with changes."""
    found, step = Dataset(), Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = UID("1.2.276.0.7230010.3.1.0.1")
    found.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.{number}")
    found.SpecificCharacterSet = "ISO_IR 100"
    found.AccessionNumber = f"A{number}"
    found.PatientName, found.PatientID = "Meier^Anna", "4711"
    found.PatientBirthDate, found.PatientSex = "19600415", "F"
    found.StudyInstanceUID = f"1.2.3.{number}"
    found.RequestedProcedureID, found.RequestedProcedureDescription = f"R{number}", "Chest"
    step.Modality, step.ScheduledStationAETitle = "CR", "ROOM1"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "20230610", "1000"
    step.ScheduledPerformingPhysicianName = "Roe^R"
    step.ScheduledProcedureStepID = f"S{number}"
    step.ScheduledProcedureStepDescription = "Chest"
    found.ScheduledProcedureStepSequence = [step]
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


@contextmanager
def wlmscpfs(folder: Path, orders: list[Dataset]) -> Iterator[int]:
    """Run it over ``orders``; give its port."""
    files, port = folder / AE_TITLE, free_port()
    files.mkdir(parents=True)
    (files / "lockfile").touch()
    for number, one in enumerate(orders):
        one.save_as(files / f"{number}.wl", enforce_file_format=True)
    command = [require_tool("wlmscpfs"), "-s", "-dfp", str(folder), str(port)]
    with running(*command, log=folder / "log"):
        wait_until_listening(port)
        yield port


def table(port: int, **values: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "ae_title": AE_TITLE, "timeout": 10.0, **values}


def test_the_study_its_order_and_its_patient(tmp_path: Path, db: Database) -> None:
    others = [
        order(n, PatientID=f"P{n}", PatientBirthDate="19300101", PatientSex="M")
        for n in range(2, 30)
    ]

    def ask(worklist: Worklist, study: str, **changes: str) -> WorklistAnswer | None:
        file_instance(db, study, f"{study}.1")
        values: Changes = {**LACKING, "StudyInstanceUID": study, **changes}
        return worklist.answer(study, [header(**values)], checked(values))

    with wlmscpfs(tmp_path / "wl", [*others, order(1)]) as port:
        worklist = Worklist(parse_config({"worklist": table(port)}), db)
        found = WorklistAnswer("StudyInstanceUID", birth_date="19600415", sex="F")
        assert ask(worklist, "1.2.3.1") == found
        by_order = ask(worklist, "1.9.1", AccessionNumber="A1")
        assert by_order == WorklistAnswer("AccessionNumber", birth_date="19600415", sex="F")
        by_patient = ask(worklist, "1.9.2", AccessionNumber="B1")
        assert by_patient == WorklistAnswer("PatientID", birth_date="19600415", sex="F")
        other = ask(worklist, "1.9.3", AccessionNumber="A2")
        assert other == WorklistAnswer("AccessionNumber", other_patient=True)
        assert ask(worklist, "1.9.4", PatientID="nobody") is None
    assert ask(worklist, "1.9.5") is None, "it is gone, and nothing is raised"


def test_an_analysis_proposes_what_the_worklist_says_and_finds_what_it_denies(
    tmp_path: Path,
) -> None:
    orders = [
        order(1, StudyInstanceUID=uid("demo", "lacking")),
        order(2, StudyInstanceUID=uid("demo", "denied")),
    ]
    image: Changes = {"PatientID": "4711", "StudyDate": "20230610"}
    with wlmscpfs(tmp_path / "wl", orders) as port:
        values = {
            "worklist": table(port, compare=True),
            "fill": {"auto_accept": ["worklist"]},
        }
        estimator = Estimator(default_bundle(), device="cpu")
        node = Node(tmp_path / "node", estimator, values, None)
        try:
            node.analyse(noise("lacking", **image, **LACKING))
            denied = node.analyse(
                noise("denied", **image, PatientSex="M", PatientBirthDate="19600415",
                      PatientAge="063Y")
            )  # fmt: skip
            found = proposals.find(
                node.db, proposals.Selection(study_instance_uid=uid("demo", "lacking"))
            )
            details = [proposals.show(node.db, one.id) for one in found]
        finally:
            node.db.close()
    assert {_summary(one) for one in details if one} == {
        ("PatientAge", "063Y", "worklist", "accepted", "result of the analysis, from worklist"),
        ("PatientSex", "F", "worklist", "accepted", "result of the analysis, from worklist"),
    }
    assert denied.result is not None
    assert denied.result["audit"]["sex"] == "CONFLICT_HEADER"
    (g6,) = [one for one in denied.result["audit"]["findings"] if one["rule"] == "G6"]
    assert g6["reason"] == "PatientSex is M, and F in the worklist"


def _summary(one: ProposalDetail) -> tuple[str, ...]:
    proposed = one.proposal.proposed
    source, state = str(proposed.source), str(one.proposal.state)
    return proposed.keyword, proposed.value, source, state, one.events[0].reason
