"""From what was accepted for a study to what ``report/copies`` fills in."""

from collections.abc import Sequence
from datetime import datetime

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.fill.admission import approver
from dicom_ai_node.fill.apply import CopyMaker
from dicom_ai_node.report.copies import Fill, filled_copy
from dicom_ai_node.store import Database
from dicom_ai_node.store.fills import network_of
from dicom_ai_node.store.proposals import ProposalDetail
from dicom_ai_node.types import ProposalSource, ReportFile


def copy_maker(db: Database, settings: ReportSettings) -> CopyMaker:
    """Return what makes the copies; ``settings`` name their maker, as they name a report's."""

    def make(
        source: bytes, values: Sequence[ProposalDetail], *, at: datetime, research: bool
    ) -> ReportFile:
        sexes = [one for one in values if one.proposal.proposed.keyword == "PatientSex"]
        networks = [network_of(db, one.proposal) for one in values if _is_inferred(one)]
        return filled_copy(
            source,
            [fill_of(one) for one in values],
            at=at,
            settings=settings,
            model=networks[0] if networks else None,
            allow_sex=research or all(approver(one) for one in sexes),
        )

    return make


def _is_inferred(one: ProposalDetail) -> bool:
    return one.proposal.proposed.source is ProposalSource.INFERENCE


def fill_of(one: ProposalDetail) -> Fill:
    """Return a proposal as what is filled in, with who approved it."""
    proposed = one.proposal.proposed
    low, high = proposed.interval90 or (None, None)
    return Fill(
        keyword=proposed.keyword,
        value=proposed.value,
        source=proposed.source,
        low=low,
        high=high,
        probability=proposed.probability,
        rules=proposed.rules,
        actor=one.approval.actor if one.approval else "",
    )
