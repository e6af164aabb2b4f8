"""Applying what was accepted: which destination gets which copy, and what a crash leaves behind."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_ai_node.errors import FillError, UnreadableInstance
from dicom_ai_node.fill.apply import Applied, apply, copy_maker
from dicom_ai_node.store import monitor, proposals
from dicom_ai_node.study.proposals import POLICY, ProposalState
from dicom_ai_node.types import FillProposal, ProposalSource
from tests.builders.filling import AGE, GUESSED_AGE, GUESSED_SEX, Ward, make, ward

P = ProposalState
PART = FillProposal("BodyPartExamined", "CHEST", ProposalSource.HEADER, "descriptions", ("J1",))


def run(box: Ward, uid: str, maker: Any = make) -> Applied:
    return apply(box.config, box.db, box.spool, uid, actor="roe", make=maker, now=time.time())


def sent(box: Ward, name: str) -> list[dict[str, str]]:
    """PatientAge and PatientSex of each copy that waits for a destination."""
    by_uid = {path.stem: dcmread(path) for path in box.copies()}
    query = "SELECT report_file.sop_instance_uid FROM report_file JOIN delivery USING (report_id)"
    with box.db.read() as connection:
        uids = connection.exec_driver_sql(f"{query} WHERE destination = '{name}'").scalars().all()
    keywords = ("PatientAge", "PatientSex")
    return [{key: str(by_uid[uid].get(key, "")) for key in keywords} for uid in uids]


def test_each_destination_gets_what_it_takes(tmp_path: Path) -> None:
    with ward(
        tmp_path,
        none={},
        dates={"fill": "deterministic"},
        all={"fill": "inferred"},
        research={"fill": "inferred", "research": True},
    ) as box:
        uid = box.accepted_study("one", AGE, GUESSED_SEX)
        done = run(box, uid)
        assert (done.images, done.queued) == (1, 3)
        assert sent(box, "none") == []
        assert sent(box, "dates") == [{"PatientAge": "063Y", "PatientSex": ""}]
        assert sent(box, "all") == [{"PatientAge": "063Y", "PatientSex": "F"}]
        assert sent(box, "research") == sent(box, "all")
        detail = proposals.show(box.db, box.proposal(uid, "PatientSex").id)
        assert detail is not None
        last = detail.events[-1]
        assert (last.to_state, last.actor) == (P.APPLIED, "roe")
        assert "all: PatientAge, PatientSex (approved by roe)" in last.reason


def test_a_body_part_goes_into_the_images_whose_own_is_missing_or_wrong(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "deterministic"}) as box:
        maker = copy_maker(box.db, box.config.report)
        for number, recorded in enumerate(("", "THORAX_AP", "ABDOMEN"), start=1):
            uid = box.add_image("one", number, BodyPartExamined=recorded, StudyDescription="")
        box.analyse(PART)
        box.accept(uid)
        done = run(box, uid, maker)
        assert (done.images, done.queued) == (2, 2)
        assert [dcmread(path).BodyPartExamined for path in box.copies()] == ["CHEST"] * 2
        assert box.proposal(uid, "BodyPartExamined").state is P.APPLIED


def test_beside_an_age_the_body_part_of_a_sound_series_stays(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "deterministic"}) as box:
        maker = copy_maker(box.db, box.config.report)
        for number, recorded in enumerate(("", "ABDOMEN"), start=1):
            uid = box.add_image("one", number, BodyPartExamined=recorded, StudyDescription="")
        box.analyse(AGE, PART)
        box.accept(uid)
        assert run(box, uid, maker).images == 2
        made = [dcmread(path) for path in box.copies()]
        assert {one.BodyPartExamined for one in made} == {"CHEST", "ABDOMEN"}
        assert {one.PatientAge for one in made} == {"063Y"}


def test_without_a_persons_approval_sex_goes_to_research_alone(tmp_path: Path) -> None:
    with ward(
        tmp_path, pacs={"fill": "inferred"}, research={"fill": "inferred", "research": True}
    ) as box:
        uid = box.add_image("one")
        box.analyse(AGE, GUESSED_SEX)
        box.accept(uid, by=POLICY)
        done = run(box, uid)
        assert sent(box, "pacs") == [{"PatientAge": "063Y", "PatientSex": ""}]
        assert sent(box, "research") == [{"PatientAge": "063Y", "PatientSex": "F"}]
        refused = {one.destination: dict(one.refused) for one in done.admissions}
        assert "no person approved" in refused["pacs"]["PatientSex"]
        detail = proposals.show(box.db, box.proposal(uid, "PatientSex").id)
        assert detail is not None
        assert "research: PatientAge, PatientSex (research destination)" in detail.events[-1].reason


def test_what_nobody_takes_stays_accepted_and_the_error_says_why(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "deterministic"}, other={}) as box:
        uid = box.accepted_study("one", GUESSED_AGE)
        with pytest.raises(FillError, match=r"pacs: PatientAge .*no inferred value.*other"):
            run(box, uid)
        assert box.proposal(uid).state is P.ACCEPTED
        assert box.copies() == []


def test_nothing_inferred_leaves_in_shadow_mode(tmp_path: Path) -> None:
    def switch(wanted: monitor.Mode) -> None:
        monitor.switch(box.db, wanted, actor="roe", reason="charts", now=time.time())

    with ward(tmp_path, all={"fill": "inferred"}) as box:
        switch(monitor.Mode.SHADOW)
        uid = box.accepted_study("one", AGE, GUESSED_SEX)
        (admission,) = run(box, uid).admissions
        assert sent(box, "all") == [{"PatientAge": "063Y", "PatientSex": ""}]
        assert "shadow mode" in admission.refused["PatientSex"]
        switch(monitor.Mode.LIVE)
        run(box, uid)
        assert {"PatientAge": "063Y", "PatientSex": "F"} in sent(box, "all")


def test_nothing_is_applied_that_nobody_accepted(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "inferred"}) as box:
        uid = box.add_image("one")
        box.analyse(AGE)
        with pytest.raises(FillError, match="accept one first"):
            run(box, uid)


def test_later_images_and_new_destinations_are_served_by_applying_again(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "inferred"}) as box:
        uid = box.accepted_study()
        assert [run(box, uid).queued, run(box, uid).queued] == [1, 0]
        box.add_image("one", 2)
        box.analyse(AGE, key="k2")
        assert box.proposal(uid).state is P.APPLIED
        assert run(box, uid).queued == 1
        assert len(box.copies()) == 2
        box.values["destinations"]["new"] = box.values["destinations"]["pacs"]
        assert run(box, uid).queued == 2


def test_an_image_that_retention_removed_is_said(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "inferred"}) as box:
        uid = box.accepted_study()
        with box.db.write() as connection:
            connection.exec_driver_sql("UPDATE instance SET dropped_at = 1.0")
        with pytest.raises(FillError, match="1 of 1 images are not kept any more"):
            run(box, uid)


def test_an_image_that_cannot_be_copied_stops_all(tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise UnreadableInstance("PatientAge stands 2 times")

    with ward(tmp_path, pacs={"fill": "inferred"}) as box:
        uid = box.accepted_study()
        with pytest.raises(UnreadableInstance, match="2 times"):
            run(box, uid, refuse)
        assert box.proposal(uid).state is P.ACCEPTED
        assert box.rows() == []


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from dicom_ai_node.fill import apply as module
from tests.builders.filling import Ward, make

folder, uid, point, destinations = sys.argv[1:]
real = module.queue_copies

def die(*arguments, **keywords):
    if point == "after":
        real(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)

module.queue_copies = die
box = Ward(Path(folder), json.loads(destinations))
module.apply(box.config, box.db, box.spool, uid, actor="roe", make=make, now=1.0)
"""


@pytest.mark.parametrize(("point", "left"), [("before", P.ACCEPTED), ("after", P.APPLIED)])
def test_who_is_killed_between_copy_and_mark_is_finished_by_the_next(
    tmp_path: Path, point: str, left: ProposalState
) -> None:
    with ward(tmp_path, pacs={"fill": "inferred"}) as box:
        uid = box.accepted_study()
        destinations = json.dumps({"pacs": {"port": 104, "fill": "inferred"}})
        script = [sys.executable, "-c", SCRIPT, str(tmp_path), uid, point, destinations]
        assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
        assert box.proposal(uid).state is left
        (path,) = box.copies()  # durable before anything is said of it
        before = path.read_bytes()
        assert len(box.rows()) == (0 if left is P.ACCEPTED else 1)
        run(box, uid)
        assert [path.read_bytes() for path in box.copies()] == [before]
        assert box.proposal(uid).state is P.APPLIED
        assert box.states() == ["queued"]
