"""Makes a study's reports and their files durable, before the database knows of them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydicom import Dataset

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.identity import Predecessor, series_instance_uid
from dicom_ai_node.rules import RULES_VERSION
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.reports import NewReport, StoredFile, newest_report
from dicom_ai_node.types import EncodedReport, StudyResult


def write_reports(
    db: Database,
    spool: Spool,
    result: StudyResult,
    sources: Sequence[Dataset],
    *,
    settings: ReportSettings,
    digest: str,
) -> tuple[NewReport, ...]:
    """Build, check and write the reports on one study; an invalid one goes to quarantine.

    ``digest`` identifies input and result. File names are UIDs that depend on content alone; of
    two analysers that do the same work, the files of the first are kept.

    Raises
    ------
    InvalidReport
        No report can be built for these images.
    StorageError
        A file could not be made durable.
    """
    encoded = build_reports(
        result,
        sources,
        settings=settings,
        rules_version=RULES_VERSION,
        digest=digest,
        created=datetime.now(UTC),
        predecessor=_predecessor(db, result.study_instance_uid, digest),
    )
    heads = tuple(result.answers)
    return tuple(
        store_report(spool, report, fault=_fault(report, sources, heads)) for report in encoded
    )


def _predecessor(db: Database, study_instance_uid: str, key: str) -> Predecessor | None:
    """Return the report that the one of the result with that key replaces."""
    prior = newest_report(db, study_instance_uid, kind="sr", before_result=key)
    if prior is None:
        return None
    series = series_instance_uid(study_instance_uid, model_sha256=prior.model_sha256, kind="sr")
    return Predecessor(series, {one.sop_class_uid: one.sop_instance_uid for one in prior.files})


def store_report(spool: Spool, report: EncodedReport, *, fault: str = "") -> NewReport:
    """Make the files of a report durable; one with a ``fault`` goes to quarantine."""
    files = []
    for file in report.files:
        path = spool.report_path(file.sop_instance_uid)
        if fault:
            path = spool.quarantine / path.name
        spool.write(path, file.content)
        relative = spool.relative(path)
        files.append(StoredFile(file.sop_class_uid, file.sop_instance_uid, relative))
    return NewReport(report.kind, tuple(files), quarantined=fault)


def _fault(report: EncodedReport, sources: Sequence[Dataset], heads: Sequence[str]) -> str:
    try:
        for file in report.files:
            check_report(file.content, sources=sources, heads=heads)
    except InvalidReport as error:
        return str(error)
    return ""
