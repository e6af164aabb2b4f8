"""What would go to a destination with a proposal: the files, and nothing kept, sent or decided."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dicom_ai_node.config import Config
from dicom_ai_node.errors import FillError, NodeError
from dicom_ai_node.fill.admission import admit
from dicom_ai_node.fill.apply import CopyMaker, contents, copies
from dicom_ai_node.fill.gateway import HAS_IT, age_filled, refusal
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, monitor
from dicom_ai_node.store.forwards import already_queued
from dicom_ai_node.store.instances import analysable_instances
from dicom_ai_node.store.proposals import ProposalDetail, ProposalEvent, applicable
from dicom_ai_node.store.reports import COERCED, COPY, RECEIVED
from dicom_ai_node.study.proposals import ProposalState


@dataclass(frozen=True, slots=True)
class FillPreview:
    """One image, and what would be sent for it."""

    kind: str
    """Of the delivery: ``copy``, ``coerced`` or ``received``."""
    sop_instance_uid: str
    """Of what would be sent."""
    original: bytes
    content: bytes
    """The file that would be sent."""
    note: str = ""
    """Why it would go as it was received, or not at all."""


def preview(
    config: Config,
    db: Database,
    spool: Spool,
    asked: ProposalDetail,
    destination: str,
    *,
    make: CopyMaker,
    now: float,
) -> Iterator[FillPreview]:
    """Yield what would go to ``destination`` if ``asked`` were accepted by a person now.

    First the copies that :func:`.apply.apply` would make, then the images as the gateway would
    forward them, whichever of the two the destination gets.

    Raises FillError: it gets nothing with that value, an image is gone, or no copy can be made of
    one.
    """
    uid, to = asked.proposal.study_instance_uid, config.destinations[destination]
    asked = _as_if_accepted(asked, now)
    others = [detail for detail in applicable(db, uid) if detail.proposal.id != asked.proposal.id]
    admission = admit(destination, to, [*others, asked], monitor.mode(db))
    against = refusal(asked.proposed) if to.forward == "coerced" else ""
    forwarded = to.forward == "coerced" and not against
    if not admission.admitted and not forwarded:
        reasons = [f"{keyword} ({why})" for keyword, why in admission.refused.items()]
        said = ", ".join([*reasons, against] if against else reasons)
        raise FillError(f"{destination} does not take it: {said}")
    if admission.admitted:
        for source, copy in copies(spool, analysable_instances(db, uid), admission, make):
            yield FillPreview(COPY, copy.sop_instance_uid, source, copy.content)
    if forwarded:
        yield from _forwarded(config, db, spool, asked)


def _as_if_accepted(detail: ProposalDetail, now: float) -> ProposalDetail:
    if detail.approval is not None:
        return detail
    event = ProposalEvent(now, "preview", detail.proposal.state, ProposalState.ACCEPTED, "")
    accepted = replace(detail.proposal, state=ProposalState.ACCEPTED)
    return ProposalDetail(accepted, (*detail.events, event))


def _forwarded(
    config: Config, db: Database, spool: Spool, age: ProposalDetail
) -> Iterator[FillPreview]:
    uid = age.proposal.study_instance_uid
    own = {destination.ae_title for destination in config.forwarding.values()}
    before = already_queued(db, uid)
    for image, source in contents(spool, analysable_instances(db, uid)):
        content = source
        if image.calling_ae in own:
            note = HAS_IT
        else:
            try:
                content, note = age_filled(source, age)
            except NodeError as error:
                note = str(error)
        if image.sop_uid in before:
            note = "it was forwarded before, and goes no second time"
        kind = RECEIVED if content == source else COERCED
        yield FillPreview(kind, image.sop_uid, source, content, note)
