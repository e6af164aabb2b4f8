"""Reports of an analysis, and the deliveries that they need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Select, delete, exists, insert, or_, select, update

from dicom_ai_node.store.database import Database, as_record, insert_missing
from dicom_ai_node.store.tables import analysis, delivery, report, report_file
from dicom_ai_node.study import DeliveryState

COPY = "copy"
"""Kind of report of a filled copy. Its one file travels in its own class and transfer syntax."""

RECEIVED, COERCED = "received", "coerced"
"""Kinds of report of an image that a modality made and this node forwards: as it was received, or
with a value filled in. Its one file travels in its own class and transfer syntax."""

FORWARDED = (RECEIVED, COERCED)

QUEUED = "dicom_ai_node_queued"
"""The channel on which reports are announced that wait for a destination."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One durable file of a report."""

    sop_class_uid: str
    sop_instance_uid: str
    path: str
    """Relative to the spool."""


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report whose files are durable."""

    kind: str
    """``sr``, ``sc``, ``saliency``, ``copy``, ``received`` or ``coerced``."""
    files: tuple[StoredFile, ...]
    """In order of preference."""
    quarantined: str = ""
    """Why it must not be sent, '' when it may."""


@dataclass(frozen=True, slots=True)
class PriorReport:
    """The newest report of a study: what a changed result supersedes."""

    model_sha256: str
    """Weights of the network that was asked, '' when none was."""
    files: tuple[StoredFile, ...]


def newest_report(
    db: Database, study_uid: str, *, kind: str, before_result: str = ""
) -> PriorReport | None:
    """Return the newest sendable report of ``kind`` of a study.

    ``before_result``: a result key; where that result is stored, the newest that is older than it.
    """
    same = same_result(study_uid, before_result).scalar_subquery()
    query = (
        select(report.c.id, analysis.c.result["model"]["sha256"].as_string().label("sha256"))
        .join(analysis, analysis.c.id == report.c.analysis_id)
        .where(report.c.study_instance_uid == study_uid)
        .where(report.c.kind == kind, report.c.quarantined == "")
        .where(or_(same.is_(None), analysis.c.id < same))
        .order_by(report.c.id.desc())
        .limit(1)
    )
    with db.read() as connection:
        row = connection.execute(query).first()
        if row is None:
            return None
        return PriorReport(row.sha256 or "", files_of(connection, row.id))


def has_result(db: Database, study_uid: str, result_key: str) -> bool:
    """Return whether this very result is stored: then its reports are not made again.

    A result whose reports were quarantined does not count: a mended program must get a chance. Nor
    does one whose report files retention has removed: who gets them newly must get them.
    """
    quarantined = exists().where(report.c.analysis_id == analysis.c.id, report.c.quarantined != "")
    removed = exists().where(
        report.c.analysis_id == analysis.c.id,
        report.c.kind != COPY,
        report_file.c.report_id == report.c.id,
        report_file.c.path == "",
    )
    return db.scalar(same_result(study_uid, result_key).where(~quarantined, ~removed)) is not None


def is_own(db: Database, sop_instance_uid: str) -> bool:
    """Return whether this node made the object with that UID."""
    query = (
        select(report_file.c.report_id)
        .join(report, report.c.id == report_file.c.report_id)
        .where(report_file.c.sop_instance_uid == sop_instance_uid)
        .where(report.c.kind.not_in(FORWARDED))
    )
    return db.first(query) is not None


def same_result(study_uid: str, result_key: str) -> Select[int]:
    """Return the query for the analysis with that very result."""
    return select(analysis.c.id).where(
        analysis.c.study_instance_uid == study_uid, analysis.c.result_key == result_key
    )


def has_reports(connection: Connection, analysis_id: int | None) -> bool:
    """Return whether an analysis made reports."""
    query = select(report.c.id).where(report.c.analysis_id == analysis_id)
    return connection.scalar(query) is not None


def files_of(connection: Connection, report_id: int) -> tuple[StoredFile, ...]:
    """Return the files of a report, best first."""
    return files_of_each(connection, [report_id]).get(report_id, ())


def files_of_each(
    connection: Connection, report_ids: Sequence[int]
) -> dict[int, tuple[StoredFile, ...]]:
    """Return the same of several reports, by their ids."""
    query = (
        select(report_file)
        .where(report_file.c.report_id.in_(report_ids))
        .order_by(report_file.c.position)
    )
    found: dict[int, tuple[StoredFile, ...]] = {}
    for row in connection.execute(query):
        found[row.report_id] = (*found.get(row.report_id, ()), as_record(StoredFile, row))
    return found


_NEW_REPORT = insert(report).returning(report.c.id)
_NEW_FILE = insert(report_file)


def insert_report(
    connection: Connection, study_uid: str, new: NewReport, *, analysis_id: int | None
) -> int:
    """Store a report of a study and its files; return its id.

    Only a forwarded image belongs to no analysis.
    """
    row = {
        "analysis_id": analysis_id,
        "study_instance_uid": study_uid,
        "kind": new.kind,
        "quarantined": new.quarantined,
    }
    report_id = int(connection.execute(_NEW_REPORT, row).scalar_one())
    files = [
        {"report_id": report_id, "position": position, **asdict(file)}
        for position, file in enumerate(new.files)
    ]
    if files:
        connection.execute(_NEW_FILE, files)
    return report_id


def restore_files(connection: Connection, reports: Iterable[NewReport]) -> None:
    """Take note that files which retention had removed were made again."""
    for file in (file for new in reports for file in new.files):
        gone = report_file.c.sop_instance_uid == file.sop_instance_uid, report_file.c.path == ""
        connection.execute(update(report_file).where(*gone).values(path=file.path))


def queue_report(
    connection: Connection, report_id: int, study_uid: str, name: str, *, now: float
) -> bool:
    """Queue a report of the study ``study_uid`` for the destination ``name``, once.

    Returns whether it was not yet, in whatever state it is there.
    """
    return insert_missing(
        connection,
        delivery,
        report_id=report_id,
        study_instance_uid=study_uid,
        destination=name,
        state=DeliveryState.QUEUED,
        created_at=now,
    )


def queue_missing(
    connection: Connection,
    analysis_id: int,
    study_uid: str,
    destinations: Mapping[str, frozenset[str]],
    *,
    now: float,
) -> bool:
    """Queue the reports of an analysis for each destination that gets their kind, once each.

    Returns whether any was not yet.
    """
    queued = False
    sendable = select(report.c.id, report.c.kind).where(
        report.c.analysis_id == analysis_id, report.c.quarantined == ""
    )
    for row in connection.execute(sendable).all():
        for name, kinds in destinations.items():
            if row.kind in kinds:
                queued |= queue_report(connection, row.id, study_uid, name, now=now)
    return queued


def discard_quarantined(connection: Connection, analysis_id: int) -> bool:
    """Forget an analysis if a report of it was quarantined; return whether it was.

    This makes room for the same result again: report UIDs follow from content.
    """
    reports = select(report.c.id).where(report.c.analysis_id == analysis_id)
    if connection.scalar(reports.where(report.c.quarantined != "")) is None:
        return False
    connection.execute(delete(delivery).where(delivery.c.report_id.in_(reports)))
    connection.execute(delete(report_file).where(report_file.c.report_id.in_(reports)))
    connection.execute(delete(report).where(report.c.analysis_id == analysis_id))
    connection.execute(delete(analysis).where(analysis.c.id == analysis_id))
    return True
