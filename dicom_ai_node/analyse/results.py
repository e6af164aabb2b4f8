"""What becomes of a result: its reports in the spool, then one transaction for all of it."""

import time

import structlog

from dicom_ai_node.analyse.outgoing import write_reports
from dicom_ai_node.analyse.record import result_key, study_header, to_json
from dicom_ai_node.analyse.saliency import write_captures
from dicom_ai_node.config import Config
from dicom_ai_node.decide.proposals import accepted_by_policy, propose
from dicom_ai_node.decide.study import noteworthy
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.monitor.observation import Observation
from dicom_ai_node.pipeline import Prepared
from dicom_ai_node.rules import RULES_VERSION
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.reports import NewReport, has_result, newest_report
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.studies import ClaimedStudy
from dicom_ai_node.types import Reason, StudyResult

log = structlog.get_logger()

_IN_ORDER = Reason(
    "nothing_to_report",
    "nothing is missing, wrong or in conflict, and policy.report_consistent is false",
)


class Results:
    """Keeps the results of one analyser."""

    def __init__(self, config: Config, db: Database, spool: Spool, estimator: Estimator) -> None:
        self._config = config
        self._db = db
        self._spool = spool
        self._estimator = estimator
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

        Raises
        ------
        StorageError
            Nothing can be stored.
        """
        document = to_json(result)
        digests = [one.digest for one in claimed.instances]
        key = result_key(result, digests, self._settings)
        unwanted = self._unwanted(result)
        known = has_result(self._db, claimed.study_uid, key)
        reports = () if known or unwanted else self._written(prepared, result, key, deadline)
        fill = self._config.fill
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
                inferred=result.model is not None,
                proposals=proposals,
                auto_accept=accepted_by_policy(result, proposals or (), fill),
                station=text_of(prepared.sources[0], "StationName")[:64],
            ),
            header=study_header(prepared.sources[0], result),
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
        if newest_report(self._db, result.study_instance_uid, kind="sr") is not None:
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
            self._estimator,
            prepared,
            result,
            settings=settings,
            digest=key,
            deadline=deadline,
        )
        return (*reports, *captures)


def _study_reason(
    result: StudyResult, reports: tuple[NewReport, ...], unwanted: Reason | None
) -> Reason | None:
    for report in reports:
        if report.quarantined:
            return Reason("invalid_report", report.quarantined)
    return unwanted or result.reason
