"""What becomes of a result: its reports in the spool, then one transaction for all of it.

Files are durable before the database knows of them. A result has a key, so that an analysis that is
repeated sends no second report that says the same.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import structlog
from pydicom import Dataset

from dicom_ai_node.analyse.saliency import build_captures
from dicom_ai_node.answers import BundleResult, ModelIdentity, Reason, StudyResult
from dicom_ai_node.config import Config
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.decide.images import embedding_of
from dicom_ai_node.decide.proposals import accepted_by_policy, propose
from dicom_ai_node.decide.stored import result_to_json
from dicom_ai_node.decide.study import noteworthy
from dicom_ai_node.dicom.values import patient_key, text_of
from dicom_ai_node.errors import InvalidReport, StorageError
from dicom_ai_node.monitor.observation import Observation
from dicom_ai_node.pipeline import Prepared
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.identity import EncodedReport, Predecessor, series_instance_uid
from dicom_ai_node.rules import RULES_VERSION
from dicom_ai_node.rules.attributes import comparable_age, comparable_sex
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.patients import StudyHeader
from dicom_ai_node.store.reports import NewReport, StoredFile, has_result, newest_report
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.study_queue import ClaimedStudy
from dicom_ai_node.types import FillProposal, ProposalSource

log = structlog.get_logger()

_IN_ORDER = Reason(
    "nothing_to_report",
    "nothing is missing, wrong or in conflict, and policy.report_consistent is false",
)


_SHIFTED = ("MODIFIED", "REMOVED")


class Results:
    """Keeps the results of one analyser."""

    def __init__(self, config: Config, db: Database, spool: Spool) -> None:
        self._config = config
        self._db = db
        self._spool = spool
        self._destinations = {
            name: frozenset(destination.send) for name, destination in config.destinations.items()
        }
        settings = (config.policy, config.rules, config.report)
        self._settings = "".join(one.model_dump_json() for one in settings) + RULES_VERSION

    def store(
        self,
        claimed: ClaimedStudy,
        prepared: Prepared,
        result: StudyResult,
        observations: tuple[Observation, ...],
        *,
        deadline: float,
    ) -> None:
        """Make the reports durable and commit the result, unless the study has changed meanwhile.

        Saliency maps are made until ``deadline`` (monotonic), and left out after it.

        Raises StorageError: nothing can be stored.
        """
        document = to_json(result)
        digests = [one.digest for one in claimed.instances]
        key = result_key(result, digests, self._settings)
        unwanted = self._unwanted(result)
        known = has_result(self._db, claimed.study_uid, key)
        reports = () if known or unwanted else self._written(prepared, result, key, deadline)
        fill, header = self._config.fill, study_header(prepared.sources[0], result)
        proposals = propose(result, fill) if fill.propose else None
        mine = finish(
            self._db,
            claimed,
            NewAnalysis(
                key,
                document,
                result.check.flagged,
                reports,
                observations=observations,
                inferred=bool(result.asked),
                proposals=proposals,
                networks=_networks(result, proposals or ()),
                auto_accept=accepted_by_policy(result, proposals or (), fill),
                station=text_of(prepared.sources[0], "StationName")[:64],
                keeps_chest=self._config.model.compare_chests,
                # A chest that no later study can be linked to is of no use.
                chest=embedding_of(result.parts) if header.patient_key else None,
            ),
            header=header,
            destinations=self._destinations,
            reason=_study_reason(result, reports, unwanted),
            now=time.time(),
        )
        log.info(
            "study_analysed" if mine else "result_discarded",
            study=claimed.study_uid,
            outcome=result.outcome,
            reason=result.reason.code if result.reason else "",
            images=len(result.images),
            flagged=result.check.flagged,
        )

    def _unwanted(self, result: StudyResult) -> Reason | None:
        """Return why the study gets no report, None when it gets one."""
        policy = self._config.policy
        if result.outcome not in policy.report:
            text = f"policy.report does not list outcome {result.outcome!s}"
            return Reason("not_reported", text)
        if policy.report_consistent or noteworthy(result.check):
            return None
        # The archive has a report that said otherwise, and would keep it.
        if newest_report(self._db, result.study_uid, kind="sr") is not None:
            return None
        return _IN_ORDER

    def _written(
        self, prepared: Prepared, result: StudyResult, key: str, deadline: float
    ) -> tuple[NewReport, ...]:
        settings = self._config.report
        reports = write_reports(
            self._db, self._spool, result, prepared.sources, settings=settings, digest=key
        )
        captures = write_captures(
            self._spool,
            prepared,
            result,
            settings=settings,
            digest=key,
            deadline=deadline,
        )
        return (*reports, *captures)


def _networks(result: StudyResult, proposals: Sequence[FillProposal]) -> dict[str, ModelIdentity]:
    """Return whose estimate each value is that was inferred, by keyword."""
    inferred = [one.keyword for one in proposals if one.source is ProposalSource.INFERENCE]
    parts = {keyword: result.answering(keyword) for keyword in inferred}
    return {keyword: part.model for keyword, part in parts.items() if part and part.model}


def _study_reason(
    result: StudyResult, reports: tuple[NewReport, ...], unwanted: Reason | None
) -> Reason | None:
    for report in reports:
        if report.quarantined:
            return Reason("invalid_report", report.quarantined)
    return unwanted or result.reason


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

    Raises InvalidReport: no report can be built for these images; StorageError: a file could not be
    made durable.
    """
    encoded = build_reports(
        result,
        sources,
        settings=settings,
        rules_version=RULES_VERSION,
        digest=digest,
        created=datetime.now(UTC),
        predecessor=_predecessor(db, result.study_uid, digest),
    )
    return tuple(
        store_report(spool, report, fault=_fault(report, sources, result)) for report in encoded
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


def _fault(report: EncodedReport, sources: Sequence[Dataset], result: StudyResult) -> str:
    try:
        for file in report.files:
            check_report(file.content, sources=sources, result=result)
    except InvalidReport as error:
        return str(error)
    return ""


def write_captures(
    spool: Spool,
    prepared: Prepared,
    result: StudyResult,
    *,
    settings: ReportSettings,
    digest: str,
    deadline: float,
) -> tuple[NewReport, ...]:
    """Make the captures of :func:`build_captures` durable.

    Whatever goes wrong with them is logged, and the study's reports go out without.

    Raises StorageError: a file could not be made durable.
    """
    try:
        captures = build_captures(
            prepared, result, settings=settings, digest=digest, deadline=deadline
        )
        return tuple(store_report(spool, capture) for capture in captures)
    except StorageError:
        raise  # the reports cannot be stored either
    except Exception as error:
        log.error("saliency_failed", study=result.study_uid, exc_info=error)
        return ()


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return the result as JSON, numbers to four decimals, without NUL, as it is stored."""
    plain: dict[str, Any] = _plain(result_to_json(result))
    return plain


def result_key(result: StudyResult, digests: Sequence[str], settings: str) -> str:
    """Return the digest that tells one result from another.

    Made of the images, the networks, the settings and the decisions, not of the estimates: their
    last digits differ with the images that the network sees beside these, and an analysis that is
    repeated must not send a second report that says the same.
    """
    first, *further = result.parts
    content = {
        "instances": sorted(digests),
        "settings": settings,
        **_decided(first),
        "outcome": result.outcome,
        "reason": result.reason.code if result.reason else "",
        "status": list(result.check.statuses.values()),
        "rules": result.check.rules,
    }
    if further:
        content["parts"] = [_decided(part) for part in result.parts]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _decided(part: BundleResult) -> dict[str, Any]:
    return {
        "model": part.model.sha256 if part.model else "",
        "outcome": part.outcome,
        "reason": part.reason.code if part.reason else "",
        "unanswered": [(name, why.code) for name, why in part.unanswered.items()],
        **({"series": _undecided(part)} if part.series else {}),
        "images": sorted((one.image.sop_instance_uid, one.outcome) for one in part.images),
    }


def _undecided(part: BundleResult) -> list[tuple[str, str, str]]:
    return sorted(
        (one.series_instance_uid, name, answer.code)
        for one in part.series
        for name, answer in one.answers.items()
        if isinstance(answer, Reason)
    )


def study_header(source: Dataset, result: StudyResult) -> StudyHeader:
    """Return what rules G1 to G4 will want to know of this study.

    What is not held against this study is not remembered against others: a censored age, a sex
    that is not assessed, shifted dates, and all of a study that is exempt.
    """
    check = result.check
    shifted = text_of(source, "LongitudinalTemporalInformationModified") in _SHIFTED
    return StudyHeader(
        patient_key="" if check.exempt or shifted else patient_key(source),
        study_date=_day(text_of(source, "StudyDate")),
        sex=_short(comparable_sex(check)),
        birth_date=_short(text_of(source, "PatientBirthDate")),
        age_years=comparable_age(check),
    )


def _short(text: str) -> str:
    return text.replace("\0", " ")[:16]


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        return ""
    return text if len(text) == 8 and text.isdigit() else ""


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, str):
        return value.replace("\0", " ")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
