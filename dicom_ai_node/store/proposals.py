"""Proposals and what was decided about them, as they stand; ``decisions`` changes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from dicom_ai_node.decide.decisions import ProposalState
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import proposal, proposal_event, stuck_fill
from dicom_ai_node.types import FillProposal, ModelIdentity, ProposalSource


@dataclass(frozen=True, slots=True)
class StoredProposal:
    """A proposal as it stands. Holds patient data: for a person, never for a log."""

    id: int
    study_instance_uid: str
    proposed: FillProposal
    state: ProposalState
    created_at: float
    updated_at: float
    model: ModelIdentity | None = None
    """Which network inferred it; None where none did, or where it was made before that was kept."""


@dataclass(frozen=True, slots=True)
class ProposalEvent:
    """One decision: who, when, why."""

    at: float
    actor: str
    from_state: str
    """'' where the proposal was made."""
    to_state: ProposalState
    reason: str


@dataclass(frozen=True, slots=True)
class ProposalDetail:
    """A proposal with everything that was ever decided about it, oldest first."""

    proposal: StoredProposal
    events: tuple[ProposalEvent, ...]

    @property
    def approval(self) -> ProposalEvent | None:
        """The acceptance that is in force, None where there is none."""
        accepted = [one for one in self.events if one.to_state is ProposalState.ACCEPTED]
        in_force = {ProposalState.ACCEPTED, ProposalState.APPLIED}
        return accepted[-1] if accepted and self.proposal.state in in_force else None


def find(
    db: Database,
    *,
    states: Sequence[ProposalState] = (),
    sources: Sequence[ProposalSource] = (),
    keyword: str = "",
    study_instance_uid: str = "",
    stuck: bool = False,
    limit: int = 100,
) -> list[StoredProposal]:
    """Return proposals, the newest first; ``stuck``: accepted ones that could not be applied."""
    query = select(proposal).order_by(proposal.c.id.desc()).limit(limit)
    if states:
        query = query.where(proposal.c.state.in_(states))
    if sources:
        query = query.where(proposal.c.source.in_(sources))
    if keyword:
        query = query.where(proposal.c.keyword == keyword)
    if stuck:
        failed = select(stuck_fill.c.study_instance_uid)
        query = query.where(proposal.c.study_instance_uid.in_(failed))
        query = query.where(proposal.c.state == ProposalState.ACCEPTED)
    if study_instance_uid:
        query = query.where(proposal.c.study_instance_uid == study_instance_uid)
    with db.read() as connection:
        return [stored(row) for row in connection.execute(query)]


def show(db: Database, proposal_id: int) -> ProposalDetail | None:
    """Return one proposal with its events, None when it is unknown."""
    with db.read() as connection:
        row = connection.execute(select(proposal).where(proposal.c.id == proposal_id)).first()
        return detailed(connection, row) if row else None


def applicable(db: Database, uid: str) -> list[ProposalDetail]:
    """Return the accepted and applied proposals of a study: what its copies may carry."""
    with db.read() as connection:
        return in_force(connection, uid)


def studies_in(db: Database, state: ProposalState) -> list[str]:
    """Return the studies with a proposal in ``state``, those that have waited longest first."""
    query = (
        select(proposal.c.study_instance_uid)
        .where(proposal.c.state == state)
        .group_by(proposal.c.study_instance_uid)
        .order_by(func.min(proposal.c.updated_at), proposal.c.study_instance_uid)
    )
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def in_force(connection: Connection, uid: str) -> list[ProposalDetail]:
    """Do what :func:`applicable` does, in the caller's transaction."""
    query = (
        select(proposal)
        .where(proposal.c.study_instance_uid == uid)
        .where(proposal.c.state.in_((ProposalState.ACCEPTED, ProposalState.APPLIED)))
        .order_by(proposal.c.keyword)
    )
    return [detailed(connection, row) for row in connection.execute(query).all()]


def detailed(connection: Connection, row: Row[Any]) -> ProposalDetail:
    """Return the proposal of a row with its events."""
    query = select(proposal_event).where(proposal_event.c.proposal_id == row.id)
    events = connection.execute(query.order_by(proposal_event.c.id)).all()
    return ProposalDetail(
        stored(row),
        tuple(
            ProposalEvent(
                one.at, one.actor, one.from_state, ProposalState(one.to_state), one.reason
            )
            for one in events
        ),
    )


def stored(row: Row[Any]) -> StoredProposal:
    """Return the proposal of a row."""
    return StoredProposal(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        proposed=FillProposal(
            keyword=row.keyword,
            value=row.value,
            source=ProposalSource(row.source),
            detail=row.detail,
            rules=tuple(row.rules),
            interval90=None if row.low is None or row.high is None else (row.low, row.high),
            probability=row.probability,
        ),
        state=ProposalState(row.state),
        created_at=row.created_at,
        updated_at=row.updated_at,
        model=ModelIdentity(**row.model) if row.model else None,
    )
