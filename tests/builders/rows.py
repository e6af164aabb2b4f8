"""Builders of rows: instances, results, deliveries."""

from typing import Any

from sqlalchemy import Row, select

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.store import Database, deliveries
from dicom_ai_node.store.instances import Filed, StoredInstance, record
from dicom_ai_node.store.reports import NewReport, StoredFile
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.study_queue import ClaimedStudy, claim, close_due
from dicom_ai_node.store.tables import delivery
from dicom_ai_node.store.tables import study as study_table
from dicom_ai_node.study import State

CR = "1.2.840.10008.5.1.4.1.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.33"
TIMING = StudySettings(quiet_seconds=10, max_wait_seconds=100)


def instance(
    sop: str = "1.2.3.1", *, content: str = "a", association: str = "", series: str = "1.2.3"
) -> StoredInstance:
    return StoredInstance(
        image=ImageRef(CR, sop, series),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=f"instances/{sop}-{content}.dcm",
        digest=f"{sop}-{content}",
        size=10,
        calling_ae="MODALITY",
        association=association,
    )


def file_instance(
    db: Database,
    study: str,
    sop: str = "1.2.3.1",
    *,
    content: str = "a",
    now: float = 0.0,
    analysable: bool = True,
    association: str = "",
    series: str = "1.2.3",
    settings: StudySettings = TIMING,
) -> Filed:
    return record(
        db,
        instance(sop, content=content, association=association, series=series),
        study_instance_uid=study,
        analysable=analysable,
        settings=settings,
        now=now,
    )


def claim_one(db: Database, *, now: float, owner: str = "worker") -> ClaimedStudy:
    (claimed,) = claim(db, owner=owner, now=now, lease_seconds=60, limit=1, max_attempts=3)
    return claimed


def analysis(study: str, key: str = "k1") -> NewAnalysis:
    files = (StoredFile(SR, f"{study}.{key.strip('k')}", f"reports/{study}-{key}.dcm"),)
    return NewAnalysis(key, {"model": {"sha256": "abc"}}, True, (NewReport("sr", files),))


def analysed_study(
    db: Database, study: str, *, now: float = 100.0, destinations: tuple[str, ...] = ("pacs",)
) -> None:
    """Bring a study all the way to ``reported``."""
    file_instance(db, study, f"{study}.1", now=now - 50)
    close_due(db, now=now, settings=TIMING)
    claimed = claim_one(db, now=now)
    assert finish_one(db, claimed, destinations=destinations, now=now)


def finish_one(
    db: Database,
    claimed: ClaimedStudy,
    *,
    key: str = "k1",
    destinations: tuple[str, ...] = ("pacs",),
    now: float,
) -> bool:
    """End an analysis with a report for ``destinations``."""
    return finish(
        db,
        claimed,
        analysis(claimed.study_uid, key),
        header=None,
        destinations={name: frozenset({"sr"}) for name in destinations},
        reason=None,
        now=now,
    )


def state_of(db: Database, uid: str) -> State:
    with db.read() as connection:
        query = select(study_table.c.state).where(study_table.c.study_instance_uid == uid)
        return State(connection.execute(query).scalar_one())


def claim_deliveries(
    db: Database, name: str, *, now: float, owner: str = "d"
) -> list[deliveries.ClaimedDelivery]:
    return deliveries.claim(db, name, owner=owner, now=now, lease_seconds=60, limit=10)


def deliver_all(db: Database, name: str, *, now: float) -> None:
    for one in claim_deliveries(db, name, now=now):
        assert deliveries.delivered(db, one, one.files[0], status=0, now=now)


def deliveries_of(db: Database) -> list[Row[Any]]:
    """All deliveries, in the order in which they were queued."""
    with db.read() as connection:
        return list(connection.execute(select(delivery).order_by(delivery.c.id)))
