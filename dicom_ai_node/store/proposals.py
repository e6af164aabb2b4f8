"""Proposals and what was decided about them, as they stand; ``decisions`` changes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import ColumnElement, Connection, select

from dicom_ai_node.answers import ModelIdentity
from dicom_ai_node.store.database import AnyRow, AnySelect, Database, as_record
from dicom_ai_node.store.tables import proposal, proposal_event, stuck_fill, study_header
from dicom_ai_node.study.proposals import ProposalState
from dicom_ai_node.types import FillProposal, ProposalSource


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
    station: str = ""
    """StationName of the study's images, '' when they have none."""
    study_date: str = field(default="", compare=False)
    """StudyDate as YYYYMMDD, '' when it is missing or no date."""


@dataclass(frozen=True, slots=True)
class ProposalEvent:
    """One decision: who, when, why."""

    at: float
    actor: str
    from_state: str
    """'' where the proposal was made."""
    to_state: ProposalState
    reason: str
    account: str = ""
    """The account of the system that ran the command, '' where this program decided."""


@dataclass(frozen=True, slots=True)
class ProposalDetail:
    """A proposal with everything that was ever decided about it, oldest first."""

    proposal: StoredProposal
    events: tuple[ProposalEvent, ...]

    @property
    def proposed(self) -> FillProposal:
        """What is proposed."""
        return self.proposal.proposed

    @property
    def approval(self) -> ProposalEvent | None:
        """The acceptance that is in force, None where there is none."""
        accepted = [event for event in self.events if event.to_state is ProposalState.ACCEPTED]
        in_force = {ProposalState.ACCEPTED, ProposalState.APPLIED}
        return accepted[-1] if accepted and self.proposal.state in in_force else None

    @property
    def accepted_at(self) -> float:
        """When the acceptance was given that is in force."""
        return self.approval.at if self.approval else self.proposal.updated_at


@dataclass(frozen=True, slots=True)
class Selection:
    """Which proposals are meant. What is empty does not narrow; all that is given must hold."""

    states: Sequence[ProposalState] = ()
    sources: Sequence[ProposalSource] = ()
    rules: Sequence[str] = ()
    """Ids of which one at least asked for the proposal."""
    keyword: str = ""
    station: str = ""
    first_date: str = ""
    """StudyDate from this day on, YYYYMMDD. A study without a date is on no day."""
    last_date: str = ""
    """StudyDate up to and with this day, YYYYMMDD."""
    study_instance_uid: str = ""
    stuck: bool = False
    """Accepted, and ``[fill] auto_apply`` could not apply it."""


EVERY = Selection()


def find(
    db: Database, selection: Selection = EVERY, *, limit: int | None = None
) -> list[StoredProposal]:
    """Return the proposals of a selection, the newest first, at most ``limit``."""
    query = selected().where(*_conditions(selection)).order_by(proposal.c.id.desc())
    rules = set(selection.rules)
    with db.read() as connection:
        # What asked for it is JSON, which SQL dialects read apart.
        rows = (
            row for row in connection.execute(query) if not rules or not rules.isdisjoint(row.rules)
        )
        return [stored(row) for row in islice(rows, limit)]


def _conditions(wanted: Selection) -> Iterator[ColumnElement[bool]]:
    if wanted.states:
        yield proposal.c.state.in_(wanted.states)
    if wanted.sources:
        yield proposal.c.source.in_(wanted.sources)
    for name in ("keyword", "station", "study_instance_uid"):
        if value := getattr(wanted, name):
            yield proposal.c[name] == value
    if wanted.first_date:
        yield study_header.c.study_date >= wanted.first_date
    if wanted.last_date:
        yield study_header.c.study_date <= wanted.last_date
        yield study_header.c.study_date != ""
    if wanted.stuck:
        yield proposal.c.study_instance_uid.in_(select(stuck_fill.c.study_instance_uid))
        yield proposal.c.state == ProposalState.ACCEPTED


def selected() -> AnySelect:
    """Return the query whose rows :func:`stored` reads."""
    return select(proposal, study_header.c.study_date).outerjoin(
        study_header, study_header.c.study_instance_uid == proposal.c.study_instance_uid
    )


def show(db: Database, proposal_id: int) -> ProposalDetail | None:
    """Return one proposal with its events, None when it is unknown."""
    with db.read() as connection:
        row = connection.execute(selected().where(proposal.c.id == proposal_id)).first()
        return detailed(connection, row) if row else None


def applicable(db: Database, study_uid: str) -> list[ProposalDetail]:
    """Return the accepted and applied proposals of a study: what its copies may carry."""
    with db.read() as connection:
        return in_force(connection, study_uid)


def in_force(connection: Connection, study_uid: str) -> list[ProposalDetail]:
    """Do what :func:`applicable` does, in the caller's transaction."""
    query = (
        selected()
        .where(proposal.c.study_instance_uid == study_uid)
        .where(proposal.c.state.in_((ProposalState.ACCEPTED, ProposalState.APPLIED)))
        .order_by(proposal.c.keyword)
    )
    return [detailed(connection, row) for row in connection.execute(query).all()]


def detailed(connection: Connection, row: AnyRow) -> ProposalDetail:
    """Return the proposal of a row with its events."""
    query = select(proposal_event).where(proposal_event.c.proposal_id == row.id)
    events = connection.execute(query.order_by(proposal_event.c.id)).all()
    return ProposalDetail(
        stored(row),
        tuple(
            as_record(ProposalEvent, event, to_state=ProposalState(event.to_state))
            for event in events
        ),
    )


def stored(row: AnyRow) -> StoredProposal:
    """Return the proposal of a row."""
    return as_record(
        StoredProposal,
        row,
        proposed=as_record(
            FillProposal,
            row,
            source=ProposalSource(row.source),
            rules=tuple(row.rules),
            interval90=None if row.low is None or row.high is None else (row.low, row.high),
        ),
        state=ProposalState(row.state),
        model=ModelIdentity(**row.model) if row.model else None,
        study_date=row.study_date or "",
    )
