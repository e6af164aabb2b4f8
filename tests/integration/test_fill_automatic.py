"""Accepted proposals that apply themselves, and those that cannot."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.errors import FillError, StorageFull, UnreadableInstance
from dicom_ai_node.fill.apply import apply_due
from dicom_ai_node.ops import maintenance
from dicom_ai_node.ops.health import readiness
from dicom_ai_node.ops.maintenance import Maintenance
from dicom_ai_node.store import proposals
from dicom_ai_node.store.decisions import decide_on
from dicom_ai_node.store.fills import count_stuck, due, why_stuck
from dicom_ai_node.study.proposals import POLICY, Decision, ProposalState
from dicom_ai_node.types import ProposalSource
from tests.builders.filling import AGE, GUESSED_AGE, GUESSED_SEX, Ward, make, ward

P = ProposalState
TAKES_ALL = {"fill": "inferred"}


def run(box: Ward, maker: Any = make) -> int:
    return apply_due(box.config, box.db, box.spool, make=maker, stop=threading.Event())


def waiting(box: Ward) -> list[str]:
    return due(box.db, now=time.time(), limit=10)


def test_what_is_accepted_is_sent_and_nothing_else(tmp_path: Path) -> None:
    with ward(tmp_path, pacs=TAKES_ALL) as box:
        accepted = box.accepted_study("one")
        still_open = box.add_image("two")
        box.analyse(AGE)
        assert (run(box), len(box.rows())) == (1, 1)
        assert box.proposal(still_open).state is P.OPEN
        detail = proposals.show(box.db, box.proposal(accepted).id)
        assert detail is not None
        last = detail.events[-1]
        assert (last.to_state, last.actor, last.reason) == (P.APPLIED, POLICY, "pacs: PatientAge")
        assert (run(box), len(box.rows())) == (0, 1)


def test_one_that_fails_stops_no_other_and_is_told_once(tmp_path: Path) -> None:
    with ward(tmp_path, pacs=TAKES_ALL) as box:
        bad, good = box.accepted_study("one"), box.accepted_study("two")
        broken: list[Exception] = [UnreadableInstance("PatientAge stands 2 times"), KeyError("x")]

        def maker(source: bytes, *values: Any, **more: Any) -> Any:
            if bad.encode() in source and broken:
                raise broken[0]
            return make(source, *values, **more)

        with capture_logs() as logs:
            assert run(box, maker) == 1
            assert [box.proposal(one).state for one in (bad, good)] == [P.ACCEPTED, P.APPLIED]
            assert waiting(box) == [], "it is left alone for a while"
            for _ in range(3):
                make_due(box)
                assert run(box, maker) == 0
            broken.pop(0)
            make_due(box)
            run(box, maker)
        told = [one["reason"] for one in logs if one["event"] == "proposals_not_applied"]
        assert told == ["PatientAge stands 2 times", "an error of this program: KeyError"]
        stuck = why_stuck(box.db, bad)
        assert stuck is not None
        assert (stuck.reason, stuck.attempts) == (told[1], 5)
        assert stuck.not_before == stuck.tried_at + 3600
        broken.clear()
        make_due(box)
        assert run(box, maker) == 1
        assert (why_stuck(box.db, bad), count_stuck(box.db)) == (None, 0)


def make_due(box: Ward) -> None:
    with box.db.write() as connection:
        connection.exec_driver_sql("UPDATE stuck_fill SET not_before = 0")


def test_pauses_grow_and_new_studies_come_first(tmp_path: Path) -> None:
    with ward(tmp_path) as box:  # nobody takes it
        uid = box.accepted_study("one")
        pauses = []
        for _ in range(5):
            assert waiting(box) == [uid]
            run(box)
            stuck = why_stuck(box.db, uid)
            assert stuck is not None
            pauses.append(round(stuck.not_before - stuck.tried_at))
            make_due(box)
        assert pauses == [600, 1200, 2400, 3600, 3600]
        later = box.accepted_study("two")
        assert waiting(box) == [later, uid]


def test_a_value_that_nobody_takes_does_not_go_round_in_circles(tmp_path: Path) -> None:
    with ward(tmp_path, pacs=TAKES_ALL) as box:
        uid = box.add_image("one")
        box.analyse(AGE, GUESSED_SEX)
        box.accept(uid, by=POLICY)
        assert run(box) == 0
        assert box.proposal(uid, "PatientAge").state is P.APPLIED
        assert box.proposal(uid, "PatientSex").state is P.ACCEPTED
        stuck = why_stuck(box.db, uid)
        assert stuck is not None
        assert "no person approved" in stuck.reason
        assert "PatientAge" not in stuck.reason
        assert waiting(box) == []
        # A decision makes it due at once, and what is rejected is stuck no more.
        sex = box.proposal(uid, "PatientSex")
        for decision in (Decision.REJECT, Decision.ACCEPT):
            sex = decide_on(box.db, sex, decision, actor="roe", reason="r", now=time.time())
            assert count_stuck(box.db) == (0 if decision is Decision.REJECT else 1)
        assert (waiting(box), run(box)) == ([uid], 1)


def test_a_study_that_still_gets_images_waits(tmp_path: Path) -> None:
    with ward(tmp_path, pacs=TAKES_ALL) as box:
        uid = box.accepted_study("one")
        box.add_image("one", 2)
        assert waiting(box) == []
        box.analyse(AGE, key="k2")
        assert waiting(box) == [uid]
        assert run(box) == 1
        assert len(box.rows()) == 2


def test_admission_is_that_of_the_command(tmp_path: Path) -> None:
    with ward(tmp_path, pacs={"fill": "deterministic"}) as box:
        uid = box.accepted_study("one", GUESSED_AGE)
        assert run(box) == 0
        assert (box.copies(), box.proposal(uid).state) == ([], P.ACCEPTED)


def test_it_ends_when_told_to(tmp_path: Path) -> None:
    with ward(tmp_path, pacs=TAKES_ALL) as box:
        box.accepted_study("one")
        stop = threading.Event()
        stop.set()
        assert apply_due(box.config, box.db, box.spool, make=make, stop=stop) == 0
        assert box.rows() == []


@pytest.mark.parametrize("wanted", [True, False])
def test_maintenance_does_it_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    with ward(tmp_path, pacs=TAKES_ALL) as box:
        box.values["fill"] = {"auto_apply": wanted}
        box.accepted_study("one")
        kept, stop = Maintenance(box.config, box.db, box.spool), threading.Event()
        began = threading.Event()
        monkeypatch.setattr(kept, "forget_workers", began.set)
        monkeypatch.setattr(maintenance, "_APPLY_SECONDS", 0.1)
        running = threading.Thread(target=kept.run, args=(stop,))
        running.start()
        assert began.wait(60)
        until = time.monotonic() + (60 if wanted else 1)
        while not box.rows() and time.monotonic() < until:
            time.sleep(0.05)
        stop.set()
        running.join(60)
        assert len(box.rows()) == int(wanted)
        assert box.copies() if wanted else not box.copies()


def test_without_room_all_wait_and_it_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageFull("spool: No space left on device")

    with ward(tmp_path, pacs=TAKES_ALL) as box:
        box.accepted_study("one")
        box.accepted_study("two")
        kept, stop = Maintenance(box.config, box.db, box.spool), threading.Event()
        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(box.spool, "write", full)
            assert [kept.apply_accepted(stop) for _ in range(3)] == [0, 0, 0]
        assert [one["event"] for one in logs] == ["applying_failed"]
        assert count_stuck(box.db) == 0, "it is no fault of the studies"
        assert kept.apply_accepted(stop) == 2


def test_a_person_sees_what_is_stuck_and_why(tmp_path: Path) -> None:
    with ward(tmp_path) as box:
        uid = box.accepted_study("one")
        other = box.accepted_study("two")
        box.values["destinations"] = {}
        run(box)
        number = str(box.proposal(uid).id)
        with box.db.write() as connection:
            connection.exec_driver_sql(
                f"DELETE FROM stuck_fill WHERE study_instance_uid = '{other}'"
            )
        path = tmp_path / "node.toml"
        storage = box.config.storage
        path.write_text(f'[storage]\nspool = "{storage.spool}"\ndatabase = "{storage.database}"\n')

        def cli(*arguments: str) -> str:
            command = ["proposals", *arguments, "-c", str(path)]
            return CliRunner().invoke(app, command, env={"COLUMNS": "200"}).output

        (listed,) = cli("list", "--stuck", "--json").splitlines()
        assert json.loads(listed)["study_instance_uid"] == uid
        (shown,) = cli("show", number, "--json").splitlines()
        why = json.loads(shown)["not_applied"]
        assert (why["reason"], why["attempts"]) == (
            "no destination takes it: none is configured", 1,
        )  # fmt: skip
        assert "not applied (1 attempts, again after 20" in cli("show", number)
        queues = readiness(box.config, box.db).checks[-1]
        assert queues.text.endswith("accepted proposals of 1 studies not applied")


def test_what_research_has_already_a_person_may_still_approve_for_the_others(
    tmp_path: Path,
) -> None:
    sex = replace(GUESSED_SEX, source=ProposalSource.WORKLIST)
    research = {"fill": "deterministic", "research": True}
    with ward(tmp_path, clinical={"fill": "deterministic"}, research=research) as box:
        uid = box.add_image("one")
        box.analyse(sex, auto_accept=frozenset({sex}))
        assert run(box) == 1
        assert (len(box.rows("research")), len(box.rows("clinical"))) == (1, 0)
        applied = box.proposal(uid, "PatientSex")
        assert applied.state is P.APPLIED
        with pytest.raises(FillError, match="is applied: it cannot be rejected"):
            decide_on(box.db, applied, Decision.REJECT, actor="roe", reason="r", now=time.time())
        box.accept(uid)
        assert (run(box), len(box.rows("research")), len(box.rows("clinical"))) == (1, 1, 1)
        # Once is enough: the second person is told so.
        with pytest.raises(FillError, match="is applied: it cannot be accepted"):
            box.accept(uid, by="doe")
        detail = proposals.show(box.db, applied.id)
        assert detail is not None
        assert [(one.to_state, one.actor) for one in detail.events[1:]] == [
            (P.ACCEPTED, POLICY), (P.APPLIED, POLICY), (P.ACCEPTED, "roe"), (P.APPLIED, POLICY),
        ]  # fmt: skip
        assert "clinical: PatientSex (approved by roe)" in detail.events[-1].reason
