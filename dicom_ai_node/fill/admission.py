"""Which values a destination's copies may carry, and as what they are filled in. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicom_ai_node.config.peers import Destination
from dicom_ai_node.report.copies import Fill
from dicom_ai_node.store.monitor import Mode
from dicom_ai_node.store.proposals import ProposalDetail
from dicom_ai_node.study.proposals import POLICY
from dicom_ai_node.types import ProposalSource


@dataclass(frozen=True, slots=True)
class FillAdmission:
    """What one destination gets of a study's proposals."""

    destination: str
    research: bool
    admitted: tuple[ProposalDetail, ...]
    refused: Mapping[str, str]
    """Why not, by keyword."""

    @property
    def text(self) -> str:
        """The decision in one line, as it is written down."""
        grounds = []
        for detail in self.admitted:
            ground = detail.proposed.keyword
            if ground == "PatientSex":  # why it may go there
                person = approver(detail)
                ground += f" (approved by {person})" if person else " (research destination)"
            grounds.append(ground)
        return f"{self.destination}: {', '.join(grounds)}"


def admit(
    name: str, destination: Destination, offered: Sequence[ProposalDetail], mode: Mode
) -> FillAdmission:
    """Return what of ``offered`` may go to a destination while the model is in ``mode``.

    PatientSex is of the patient, not of the study: an archive that keeps one record for a patient
    could spread it to every study. It goes to research alone, unless a person approved that value.
    In shadow mode nothing leaves that the network had a part in, whoever accepted it.
    """
    against = [(detail, _reason_against(destination, detail, mode)) for detail in offered]
    admitted = tuple(detail for detail, reason in against if not reason)
    refused = {detail.proposed.keyword: reason for detail, reason in against if reason}
    return FillAdmission(name, destination.research, admitted, refused)


def _reason_against(destination: Destination, detail: ProposalDetail, mode: Mode) -> str:
    proposed = detail.proposed
    if destination.fill == "none":
        return "fill = 'none': it takes no copies"
    if proposed.source is ProposalSource.INFERENCE and destination.fill != "inferred":
        return f"fill = {destination.fill!r}: it takes no inferred value"
    if proposed.source is ProposalSource.INFERENCE and mode is Mode.SHADOW:
        return "the model is in shadow mode: nothing inferred is sent"
    if proposed.keyword == "PatientSex" and not destination.research and not approver(detail):
        return "research = false, and no person approved this value"
    return ""


def approver(detail: ProposalDetail) -> str:
    """Return the person who approved a value, '' where policy did or nobody."""
    approval = detail.approval
    return approval.actor if approval and approval.actor != POLICY else ""


def fill_of(detail: ProposalDetail) -> Fill:
    """Return a proposal as what is filled in, with who approved it."""
    proposed = detail.proposed
    low, high = proposed.interval90 or (None, None)
    return Fill(
        keyword=proposed.keyword,
        value=proposed.value,
        source=proposed.source,
        low=low,
        high=high,
        probability=proposed.probability,
        rules=proposed.rules,
        actor=detail.approval.actor if detail.approval else "",
    )
