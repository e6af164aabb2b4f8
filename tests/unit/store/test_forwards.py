"""Forwarded images in the database, on SQLite and on PostgreSQL."""

from dicom_ai_node.answers import Reason
from dicom_ai_node.store import Database, deliveries, forwards
from dicom_ai_node.store.forwards import Outgoing
from dicom_ai_node.store.instances import record
from dicom_ai_node.store.queries import overview
from dicom_ai_node.store.reports import is_own
from dicom_ai_node.store.retention import drop_expired
from dicom_ai_node.store.study_queue import close_due, fail
from tests.builders.rows import TIMING, claim_one, instance


def enter(db: Database, study: str, sop: str, *, now: float = 0.0, content: str = "a") -> None:
    record(
        db,
        instance(sop, content=content),
        study_instance_uid=study,
        analysable=True,
        settings=TIMING,
        now=now,
        forward=True,
    )


def conclude(db: Database, study: str, *, now: float) -> None:
    close_due(db, now=now, settings=TIMING)
    claimed = claim_one(db, now=now)
    assert claimed.study_uid == study
    assert fail(db, claimed, Reason("r", "r"), retry_at=None, now=now)


def queue(db: Database, study: str, *, now: float) -> int:
    images = forwards.waiting(db, study, before=0.0, limit=9)
    outgoing = [Outgoing(one, one.path) for one in images]
    return forwards.queue(db, study, outgoing, ["a", "b"], applied=None, now=now)


def test_images_are_due_when_their_study_is_done_or_they_have_waited(db: Database) -> None:
    enter(db, "1.1", "1.1.1", now=1)
    enter(db, "1.2", "1.2.1", now=40)
    assert forwards.studies_due(db, before=0, limit=9) == []
    assert forwards.studies_due(db, before=1, limit=9) == ["1.1"]
    assert forwards.studies_due(db, before=50, limit=9) == ["1.1", "1.2"]
    assert forwards.studies_due(db, before=50, limit=1) == ["1.1"]
    conclude(db, "1.1", now=20)
    assert forwards.studies_due(db, before=0, limit=9) == ["1.1"]
    assert overview(db, now=60).forwards_waiting == 2


def test_an_image_is_queued_once_for_each_destination_in_its_newest_version(db: Database) -> None:
    enter(db, "1.1", "1.1.1")
    enter(db, "1.1", "1.1.1", content="b")
    conclude(db, "1.1", now=20)
    assert [queue(db, "1.1", now=21), queue(db, "1.1", now=22)] == [1, 0]
    enter(db, "1.1", "1.1.1", content="c", now=23)
    assert forwards.waiting(db, "1.1", before=99, limit=9) == []
    assert forwards.came_too_late(db, "1.1.1", "1.1")
    for name in ("a", "b"):
        (one,) = deliveries.claim(db, name, owner="w", now=30, lease_seconds=9, limit=9)
        assert (one.kind, one.files[0].path) == ("received", "instances/1.1.1-b.dcm")
    assert not is_own(db, "1.1.1")
    assert not forwards.is_coerced(db, "1.1.1")
    assert overview(db, now=60).reports == 0


def test_a_file_is_kept_until_all_have_it(db: Database) -> None:
    enter(db, "1.1", "1.1.1")
    conclude(db, "1.1", now=20)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE study SET state = 'skipped'")

    def dropped(before: float) -> int:
        return drop_expired(db, before=before, now=before, limit=9, remove=lambda _: True)

    assert dropped(1000) == 0
    queue(db, "1.1", now=21)
    for name, at in (("a", 30), ("b", 2000)):
        assert dropped(1000) == 0
        (one,) = deliveries.claim(db, name, owner="w", now=at, lease_seconds=9, limit=9)
        assert deliveries.delivered(db, one, one.files[0], status=0, now=at)
    assert [dropped(1999), dropped(2001)] == [0, 1]
