"""Proposals in the database: one that stands per attribute, decisions that stay."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import func, select

from dicom_ai_node.answers import ModelIdentity
from dicom_ai_node.errors import FillError
from dicom_ai_node.store import Database, decisions, deliveries, proposals, results, study_queue
from dicom_ai_node.store.fills import (
    NewCopy,
    count_stuck,
    due,
    network_of,
    queue_copies,
    record_done,
    record_stuck,
    why_stuck,
)
from dicom_ai_node.store.instances import analysable_instances
from dicom_ai_node.store.patients import StudyHeader
from dicom_ai_node.store.proposals import StoredProposal
from dicom_ai_node.store.reports import NewReport, StoredFile
from dicom_ai_node.store.results import NewAnalysis
from dicom_ai_node.store.retention import drop_sent
from dicom_ai_node.store.tables import delivery, proposal, proposal_event, study
from dicom_ai_node.study import State
from dicom_ai_node.study.proposals import POLICY, Decision, ProposalState
from dicom_ai_node.types import FillProposal, ProposalSource
from tests.builders.databases import copy_rows
from tests.builders.rows import CR, TIMING, claim_one, file_instance
from tests.unit.store.test_schema import upgraded_to

S, P = ProposalSource, ProposalState
STUDY = "1.1"


def age(value: str = "063Y", source: ProposalSource = S.INFERENCE) -> FillProposal:
    inferred = source is S.INFERENCE
    return FillProposal(
        "PatientAge", value, source, "said so", ("B3",), (53.0, 73.0) if inferred else None
    )


def sex(value: str = "F", source: ProposalSource = S.INFERENCE) -> FillProposal:
    return FillProposal(
        "PatientSex", value, source, "said so", ("B2",), probability=0.98, recorded="U"
    )


def analyse(
    db: Database,
    *proposed: FillProposal,
    key: str = "k1",
    auto: Sequence[ProposalSource] = (),
    propose: bool = True,
    fault: str = "",
    model: ModelIdentity | None = None,
    station: str = "",
    study_date: str | None = None,
    now: float = 100.0,
) -> None:
    """Let one analysis of the study end with these proposals."""
    file_instance(db, STUDY, now=now - 50)
    if study_queue.close_due(db, now=now, settings=TIMING) == []:
        study_queue.requeue(db, STUDY, now=now)
    report = NewReport("sr", (StoredFile("1.2", f"1.1.{key[1:]}", "reports/x"),), fault)
    new = NewAnalysis(
        key,
        {"model": model and asdict(model)},
        True,
        (report,) if key in ("k1", "k9") else (),
        proposals=proposed if propose else None,
        networks={one.keyword: model for one in proposed if model and one.source is S.INFERENCE},
        auto_accept=frozenset(one for one in proposed if one.source in auto),
        station=station,
    )
    claimed = claim_one(db, now=now)
    header = None if study_date is None else StudyHeader("", study_date, "", "", None)
    assert results.finish(
        db, claimed, new, header=header, destinations={}, reason=None, now=now
    )  # fmt: skip


def listed(db: Database) -> list[tuple[str, ProposalState]]:
    found = proposals.find(db)
    return [(one.proposed.value, one.state) for one in reversed(found)]


def newest(db: Database) -> StoredProposal:
    return proposals.find(db)[0]


def settle(db: Database, decision: Decision, *, by: str = "roe", now: float = 200.0) -> None:
    decisions.decide_on(db, newest(db), decision, actor=by, reason="because", now=now)


def test_a_result_and_its_proposals_are_one_transaction(db: Database) -> None:
    analyse(db, age(), sex())
    first, second = reversed(proposals.find(db))
    assert (first.proposed, second.proposed) == (age(), sex())
    assert {first.state, second.state} == {P.OPEN}
    (event,) = proposals.show(db, first.id).events  # type: ignore[union-attr]
    assert (event.at, event.from_state, event.to_state) == (100.0, "", P.OPEN)


def test_a_result_whose_lease_was_lost_proposes_nothing(db: Database) -> None:
    file_instance(db, STUDY)
    study_queue.close_due(db, now=100, settings=TIMING)
    claimed = claim_one(db, now=100)
    study_queue.hand_back(db, owner="worker", now=101)
    new = NewAnalysis("k1", {}, True, (), proposals=(age(),))
    assert not results.finish(db, claimed, new, header=None, destinations={}, reason=None, now=102)
    assert proposals.find(db) == []


def test_a_result_whose_report_is_faulty_proposes_nothing(db: Database) -> None:
    analyse(db, age(), fault="no patient")
    assert listed(db) == []


@pytest.mark.parametrize("state", [P.OPEN, P.ACCEPTED, P.REJECTED])
def test_the_same_proposal_again_changes_nothing(db: Database, state: ProposalState) -> None:
    analyse(db, age())
    if state is not P.OPEN:
        settle(db, Decision.ACCEPT if state is P.ACCEPTED else Decision.REJECT)
    analyse(db, age(), key="k2", now=300)
    assert listed(db) == [("063Y", state)]


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("new", [age("064Y"), age("063Y", S.DATES)])
def test_another_value_or_source_supersedes(
    db: Database, accepted: bool, new: FillProposal
) -> None:
    analyse(db, age())
    if accepted:
        settle(db, Decision.ACCEPT)
    analyse(db, new, key="k2", now=300)
    assert listed(db) == [("063Y", P.SUPERSEDED), (new.value, P.OPEN)]


def test_a_result_without_a_proposal_withdraws(db: Database) -> None:
    analyse(db, age(), sex())
    analyse(db, age(), key="k2", now=300)
    assert listed(db) == [("063Y", P.OPEN), ("F", P.SUPERSEDED)]


def test_where_nothing_is_to_be_proposed_nothing_is_withdrawn(db: Database) -> None:
    analyse(db, age())
    analyse(db, key="k2", propose=False, now=300)
    assert listed(db) == [("063Y", P.OPEN)]


def test_a_repeated_result_with_other_last_digits_proposes_nothing_new(db: Database) -> None:
    analyse(db, age("063Y"))
    analyse(db, age("064Y"), now=300)
    assert listed(db) == [("063Y", P.OPEN)]
    settle(db, Decision.REJECT)
    analyse(db, age("062Y"), now=400)
    assert listed(db) == [("063Y", P.REJECTED)]
    # A better source is news all the same.
    analyse(db, age("062Y", S.PRIORS), now=500)
    assert listed(db) == [("063Y", P.REJECTED), ("062Y", P.OPEN)]


def test_policy_accepts_what_it_lists_and_says_so(db: Database) -> None:
    analyse(db, age(source=S.DATES), sex(), auto=[S.DATES])
    assert listed(db) == [("063Y", P.ACCEPTED), ("F", P.OPEN)]
    detail = proposals.show(db, proposals.find(db, proposals.Selection(keyword="PatientAge"))[0].id)
    assert detail is not None
    assert detail.approval is not None
    assert detail.approval.actor == POLICY


def test_decisions_name_who_when_and_why_and_stay(db: Database) -> None:
    analyse(db, age())
    settle(db, Decision.ACCEPT, by="roe", now=200)
    settle(db, Decision.REJECT, by="doe", now=201)
    settle(db, Decision.ACCEPT, by="poe", now=202)
    analyse(db, key="k2", now=300)
    detail = proposals.show(db, newest(db).id)
    assert detail is not None
    assert [(one.actor, one.to_state, one.at) for one in detail.events] == [
        ("analyser", P.OPEN, 100),
        ("roe", P.ACCEPTED, 200),
        ("doe", P.REJECTED, 201),
        ("poe", P.ACCEPTED, 202),
        ("analyser", P.SUPERSEDED, 300),
    ]
    assert detail.approval is None
    with pytest.raises(FillError, match="is superseded: it cannot be accepted"):
        settle(db, Decision.ACCEPT)


@pytest.mark.parametrize("decision", [Decision.ACCEPT, Decision.REJECT])
def test_a_decision_without_a_reason_is_none(db: Database, decision: Decision) -> None:
    analyse(db, age(source=S.DATES))
    with pytest.raises(FillError, match="proposal 1: a decision needs a reason"):
        decisions.decide_on(db, newest(db), decision, actor="roe", reason=" ", now=200)
    assert listed(db) == [("063Y", P.OPEN)]


def test_a_rejected_value_is_not_accepted_beside_a_newer_one(db: Database) -> None:
    analyse(db, age())
    old = newest(db)
    settle(db, Decision.REJECT)
    analyse(db, age("064Y"), key="k2", now=300)
    (rejected,) = proposals.find(db, proposals.Selection(states=[P.REJECTED]))
    assert rejected.id == old.id
    with pytest.raises(FillError, match="reject that one first"):
        decisions.decide_on(db, rejected, Decision.ACCEPT, actor="roe", reason="r", now=301)


def test_filters(db: Database) -> None:
    analyse(db, age(source=S.DATES), sex(), auto=[S.DATES])
    assert [
        one.proposed.value for one in proposals.find(db, proposals.Selection(states=[P.OPEN]))
    ] == ["F"]
    assert [
        one.proposed.value for one in proposals.find(db, proposals.Selection(sources=[S.DATES]))
    ] == ["063Y"]
    assert [
        one.proposed.value for one in proposals.find(db, proposals.Selection(keyword="PatientSex"))
    ] == ["F"]
    assert proposals.find(db, proposals.Selection(study_instance_uid="1.2")) == []
    assert len(proposals.find(db, limit=1)) == 1
    assert proposals.show(db, 12345) is None


def test_proposals_are_found_by_rule_station_and_study_date(db: Database) -> None:
    analyse(db, age(), sex(), station="ER2", study_date="20240105")

    def values(**wanted: Any) -> list[str]:
        found = proposals.find(db, proposals.Selection(**wanted))
        return [one.proposed.value for one in reversed(found)]

    assert values(rules=["B3"]) == ["063Y"]
    assert values(rules=["B2", "A1"]) == ["F"]
    assert values(rules=["A1"]) == []
    assert values(station="ER2") == ["063Y", "F"]
    assert values(station="ER") == []
    assert values(first_date="20240105", last_date="20240105") == ["063Y", "F"]
    assert values(first_date="20240106") == values(last_date="20240104") == []
    (newest_one, _) = proposals.find(db)
    assert (newest_one.station, newest_one.study_date) == ("ER2", "20240105")
    assert newest_one.proposed.recorded == "U"


def test_a_study_without_a_date_is_on_no_day(db: Database) -> None:
    analyse(db, age(), station="ER2", study_date="")
    assert proposals.find(db, proposals.Selection(last_date="20991231")) == []
    assert len(proposals.find(db)) == 1


def _decide(url: str, decision: str, barrier: Any, answers: Any) -> None:
    """Decide in a process of its own, having seen the proposal before anybody decided."""
    db = Database(url)
    seen = proposals.find(db)[0]
    barrier.wait(60)
    try:
        decisions.decide_on(db, seen, Decision(decision), actor=decision, reason="r", now=200)
        answers.put(decision)
    except FillError as error:
        answers.put(str(error))
    db.close()


def test_of_two_processes_that_decide_at_once_one_does(db: Database) -> None:
    analyse(db, age())
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(2), spawn.Queue()
    url = db.url.render_as_string(hide_password=False)
    workers = [
        spawn.Process(target=_decide, args=(url, one, barrier, answers))
        for one in ("accept", "reject")
    ]
    for one in workers:
        one.start()
    found = sorted((answers.get(timeout=120), answers.get(timeout=120)), key=len)
    for one in workers:
        one.join(60)
    winner = found[0]
    assert winner in ("accept", "reject")
    assert f"meanwhile by {winner}" in found[1]
    detail = proposals.show(db, newest(db).id)
    assert detail is not None
    assert [one.actor for one in detail.events] == ["analyser", winner]


def copies(number: int = 1, destination: str = "pacs") -> list[NewCopy]:
    file = StoredFile(CR, f"2.25.{number}", f"reports/{number}.dcm")
    return [NewCopy(file, destination)]


def queue(db: Database, *new: NewCopy, now: float = 300.0) -> int:
    applied = proposals.applicable(db, STUDY)
    return queue_copies(db, STUDY, new, applied, actor="roe", reason="pacs", now=now)


def state_of(db: Database) -> str:
    with db.read() as connection:
        return str(connection.execute(select(study.c.state)).scalar_one())


def test_copies_are_queued_once_and_the_study_waits_for_them(db: Database) -> None:
    analyse(db, age())
    settle(db, Decision.ACCEPT)
    assert state_of(db) == State.DELIVERED  # its report had no destination
    assert queue(db, *copies()) == 1
    assert (listed(db), state_of(db)) == ([("063Y", P.APPLIED)], State.REPORTED)
    assert queue(db, *copies()) == 0
    events = proposals.show(db, newest(db).id).events  # type: ignore[union-attr]
    assert [one.to_state for one in events] == [P.OPEN, P.ACCEPTED, P.APPLIED]
    # A new destination is news, and written down.
    assert queue(db, *copies(), *copies(destination="research")) == 1
    assert len(proposals.show(db, newest(db).id).events) == 4  # type: ignore[union-attr]
    for name in ("pacs", "research"):
        (claimed,) = deliveries.claim(db, name, owner="me", now=400, lease_seconds=60, limit=9)
        assert claimed.kind == "copy"
        assert deliveries.delivered(db, claimed, claimed.files[0], status=0, now=401)
    assert state_of(db) == State.DELIVERED
    assert deliveries.state_of_destination(db, "pacs").sop_class_uid == ""


def test_copies_are_dropped_when_all_have_them_and_come_back_when_asked_for(db: Database) -> None:
    analyse(db, age())
    settle(db, Decision.ACCEPT)
    queue(db, *copies(1), *copies(1, "research"))
    removed: list[str] = []

    def remove(path: str) -> bool:
        removed.append(path)
        return True

    def drop(before: float) -> int:
        return drop_sent(db, before=before, limit=10, remove=remove)

    for name, now in (("pacs", 400.0), ("research", 500.0)):
        assert drop(1000) == 0
        (claimed,) = deliveries.claim(db, name, owner="me", now=now, lease_seconds=60, limit=9)
        deliveries.delivered(db, claimed, claimed.files[0], status=0, now=now)
    assert drop(500) == 0
    assert (drop(501), drop(501)) == (1, 0)
    assert removed == ["reports/1.dcm"]
    assert queue(db, *copies(1, "new")) == 1
    (claimed,) = deliveries.claim(db, "new", owner="me", now=600, lease_seconds=60, limit=9)
    assert claimed.files[0].path == "reports/1.dcm"


def test_a_decision_that_changed_meanwhile_stops_the_copies(db: Database) -> None:
    analyse(db, age())
    settle(db, Decision.ACCEPT)
    applied = proposals.applicable(db, STUDY)
    settle(db, Decision.REJECT)
    with pytest.raises(FillError, match="changed while its copies were made"):
        queue_copies(db, STUDY, copies(), applied, actor="roe", reason="", now=300)
    with db.read() as connection:
        assert connection.execute(select(func.count()).select_from(delivery)).scalar() == 0


def test_what_is_applied_is_superseded_by_other_evidence_and_not_repeated(db: Database) -> None:
    analyse(db, age())
    settle(db, Decision.ACCEPT)
    queue(db, *copies())
    analyse(db, age(), key="k2", now=400)
    assert listed(db) == [("063Y", P.APPLIED)]
    analyse(db, age("064Y", S.DATES), key="k3", now=500)
    assert listed(db) == [("063Y", P.SUPERSEDED), ("064Y", P.OPEN)]


def test_originals_are_the_newest_versions_of_what_is_analysed(db: Database) -> None:
    file_instance(db, STUDY, "1.1.1", content="a")
    file_instance(db, STUDY, "1.1.1", content="b")
    file_instance(db, STUDY, "1.1.2", analysable=False)
    assert [(one.path, one.is_gone) for one in analysable_instances(db, STUDY)] == [
        ("instances/1.1.1-b.dcm", False)
    ]


OLD, NEW = (ModelIdentity("net", version, version * 64) for version in "12")


def test_after_a_rollback_a_proposal_is_of_the_network_that_made_it(db: Database) -> None:
    """The result of the first network is known by then, and that of the second is the newest."""
    analyse(db, age("063Y"), key="k1", model=OLD, now=100)
    analyse(db, age("064Y"), key="k2", model=NEW, now=200)
    analyse(db, age("063Y"), key="k1", model=OLD, now=300)
    first, second, again = reversed(proposals.find(db))
    assert again.state is P.OPEN
    assert [network_of(db, one) for one in (first, second, again)] == [OLD, NEW, OLD]


def test_no_network_is_said_of_what_none_inferred(db: Database) -> None:
    analyse(db, age(source=S.DATES), sex(), model=OLD)
    assert [one.model for one in proposals.find(db)] == [OLD, None]


def test_a_proposal_from_before_the_network_was_kept_is_of_the_newest_result_then(
    sqlite_db: Database, empty_db: Database
) -> None:
    analyse(sqlite_db, age(), model=OLD, now=100)
    analyse(sqlite_db, age(), key="k2", model=NEW, now=200)
    db = empty_db
    upgraded_to(db, "0007")
    copy_rows(sqlite_db, db)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE proposal SET model = NULL")
    db.upgrade()
    (one,) = proposals.find(db)
    assert (one.model, network_of(db, one)) == (None, OLD)


def test_the_database_itself_keeps_a_second_one_out(db: Database) -> None:
    analyse(db, age())
    with db.read() as connection:
        row = dict(connection.execute(select(proposal)).one()._mapping)
    del row["id"]
    from dicom_ai_node.errors import StorageError

    with pytest.raises(StorageError), db.write() as connection:
        connection.execute(proposal.insert().values(row))
    with db.read() as connection:
        assert connection.execute(select(func.count()).select_from(proposal_event)).scalar() == 1


def test_what_is_stuck_is_due_again_after_a_pause_or_a_decision(db: Database) -> None:
    assert due(db, now=100, limit=9) == []
    analyse(db, age(source=S.DATES), sex(source=S.DATES), auto=(S.DATES,))
    assert due(db, now=100, limit=9) == [STUDY]
    assert record_stuck(db, STUDY, "nobody takes it", now=200)
    assert not record_stuck(db, STUDY, "nobody takes it", now=200)
    stuck = why_stuck(db, STUDY)
    assert stuck is not None
    assert (stuck.attempts, stuck.not_before, count_stuck(db)) == (2, 1400, 1)
    assert [one.state for one in proposals.find(db, proposals.Selection(stuck=True))] == [
        P.ACCEPTED
    ] * 2
    assert [due(db, now=now, limit=9) for now in (1399, 1400)] == [[], [STUDY]]
    decisions.decide_on(db, newest(db), Decision.REJECT, actor="roe", reason="r", now=300)
    assert due(db, now=300, limit=9) == []
    decisions.decide_on(db, newest(db), Decision.ACCEPT, actor="roe", reason="r", now=301)
    assert due(db, now=302, limit=9) == [STUDY]
    record_done(db, STUDY)
    assert (why_stuck(db, STUDY), count_stuck(db)) == (None, 0)
