"""What changes proposals: results of analyses, and people. None is ever erased.

At most one proposal per study and attribute stands (is open, accepted or applied). What a newer
result of a study does to what is there:

- the same value from the same source: nothing changes, whatever was decided. So what was rejected
  is not proposed again;
- another value, another source, or none: what stands is superseded. An approval is of one value
  from one source, and does not carry over. Copies that were sent stay.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, insert, select, update

from dicom_ai_node.answers import ModelIdentity
from dicom_ai_node.errors import FillError
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.lifecycles import lock_study
from dicom_ai_node.store.proposals import StoredProposal, detailed, selected, stored
from dicom_ai_node.store.tables import proposal, proposal_event
from dicom_ai_node.study.proposals import POLICY, STANDING, Decision, ProposalState, proposal_step
from dicom_ai_node.types import FillProposal, ProposalSource

ANALYSER = "analyser"
"""Who proposes, and supersedes."""

_PROPOSED = "result of the analysis"
_AUTOMATIC = "fill.auto_accept lists its source"
_REPLACED = "a newer result proposes another value or has another source"
_WITHDRAWN = "a newer result proposes nothing"
_DONE = {
    Decision.ACCEPT: "accepted",
    Decision.APPROVE: "accepted",
    Decision.REJECT: "rejected",
    Decision.APPLY: "applied",
    Decision.SUPERSEDE: "superseded",
}


@dataclass(frozen=True, slots=True)
class DecidedBy:
    """Who decided, why and when."""

    actor: str
    reason: str
    at: float
    account: str = ""
    """The account of the system that ran the command, '' where this program decided."""


def record(
    connection: Connection,
    study_uid: str,
    proposals: Sequence[FillProposal],
    *,
    auto_accept: frozenset[FillProposal],
    networks: Mapping[str, ModelIdentity],
    station: str,
    repeated: bool,
    now: float,
) -> None:
    """Take over what the newest result of a study proposes; the caller holds the study.

    ``auto_accept`` are those that policy accepts; ``networks`` says, by keyword, whose estimate a
    value is; ``station`` is the StationName of its images. ``repeated``: the result is the same as
    before; an estimate of other last digits then proposes nothing new.
    """
    query = selected().where(proposal.c.study_instance_uid == study_uid).order_by(proposal.c.id)
    known = [stored(row) for row in connection.execute(query).all()]
    new = {proposed.keyword: proposed for proposed in proposals}
    for old in known:
        if old.state in STANDING:
            wanted = new.get(old.proposed.keyword)
            if wanted is None:
                _move(connection, old, Decision.SUPERSEDE, DecidedBy(ANALYSER, _WITHDRAWN, now))
            elif _same(old.proposed, wanted, repeated):
                del new[wanted.keyword]
            else:
                _move(connection, old, Decision.SUPERSEDE, DecidedBy(ANALYSER, _REPLACED, now))
    rejected = [old.proposed for old in known if old.state is ProposalState.REJECTED]
    for proposed in new.values():
        if not any(
            _same(old, proposed, repeated) for old in rejected if old.keyword == proposed.keyword
        ):
            inferred_by = networks.get(proposed.keyword)
            made = _insert(connection, study_uid, proposed, inferred_by, station, now)
            if proposed in auto_accept:
                _move(connection, made, Decision.ACCEPT, DecidedBy(POLICY, _AUTOMATIC, now))


def decide_on(
    db: Database,
    seen: StoredProposal,
    decision: Decision,
    *,
    actor: str,
    reason: str,
    now: float,
    account: str = "",
) -> StoredProposal:
    """Accept or reject a proposal as it was ``seen``, and write down who did, when and why.

    ``actor`` is the name that was said, ``account`` the account of the system that ran the command.

    What policy had accepted a person may accept, too, even when it is applied: then it may be
    applied again, for destinations that want a person's approval.

    Raises FillError: the decision is not possible, has no reason, or somebody else came first.
    """
    if not reason.strip():
        raise FillError(f"proposal {seen.id}: a decision needs a reason")
    with db.write() as connection:
        lock_study(connection, seen.study_instance_uid)
        row = connection.execute(selected().where(proposal.c.id == seen.id)).one()
        detail = detailed(connection, row)
        if row.state != seen.state:
            last = detail.events[-1]
            raise FillError(f"proposal {seen.id} was {last.to_state} meanwhile by {last.actor}")
        if decision is Decision.ACCEPT:
            _refuse_a_second(connection, seen)
            if detail.approval and detail.approval.actor == POLICY != actor:
                decision = Decision.APPROVE
        state = _move(connection, seen, decision, DecidedBy(actor, reason, now, account))
        return replace(seen, state=state, updated_at=now)


def mark_applied(
    connection: Connection, proposals: Iterable[StoredProposal], by: DecidedBy
) -> None:
    """Write down that copies with these values are queued; the caller holds the study."""
    for applied in proposals:
        _move(connection, applied, Decision.APPLY, by)


def _same(old: FillProposal, new: FillProposal, repeated: bool) -> bool:
    if old.source is not new.source:
        return False
    return old.value == new.value or (repeated and new.source is ProposalSource.INFERENCE)


def _refuse_a_second(connection: Connection, wanted: StoredProposal) -> None:
    """Keep a rejected value from being accepted next to a newer one."""
    query = (
        select(proposal.c.id)
        .where(proposal.c.study_instance_uid == wanted.study_instance_uid)
        .where(proposal.c.keyword == wanted.proposed.keyword, proposal.c.id != wanted.id)
        .where(proposal.c.state.in_(STANDING))
    )
    other = connection.scalar(query)
    if other is not None:
        raise FillError(
            f"proposal {wanted.id} cannot be accepted: proposal {other} of the same study is for "
            f"{wanted.proposed.keyword} too; reject that one first, if it is not applied"
        )


def _move(
    connection: Connection, moved: StoredProposal, decision: Decision, by: DecidedBy
) -> ProposalState:
    after = proposal_step(moved.state, decision)
    if after is None:
        if moved.state == _DONE[decision]:
            raise FillError(
                f"proposal {moved.id} is {moved.state} already: 'proposals show' says by whom"
            )
        raise FillError(f"proposal {moved.id} is {moved.state}: it cannot be {_DONE[decision]}")
    mine = update(proposal).where(proposal.c.id == moved.id)
    connection.execute(mine.values(state=after, updated_at=by.at))
    _write_event(connection, moved.id, moved.state, after, by)
    return after


def _insert(
    connection: Connection,
    study_uid: str,
    new: FillProposal,
    model: ModelIdentity | None,
    station: str,
    now: float,
) -> StoredProposal:
    values = asdict(new)
    low, high = values.pop("interval90") or (None, None)
    values |= {"low": low, "high": high, "rules": list(new.rules)}
    row = insert(proposal).values(
        study_instance_uid=study_uid,
        model=model and asdict(model),
        station=station,
        state=ProposalState.OPEN,
        created_at=now,
        updated_at=now,
        **values,
    )
    created = int(connection.execute(row.returning(proposal.c.id)).scalar_one())
    by = DecidedBy(ANALYSER, f"{_PROPOSED}, from {new.source}", now)
    _write_event(connection, created, "", ProposalState.OPEN, by)
    return StoredProposal(created, study_uid, new, ProposalState.OPEN, now, now, model, station)


def _write_event(
    connection: Connection, proposal_id: int, before: str, after: ProposalState, by: DecidedBy
) -> None:
    moved = {"proposal_id": proposal_id, "from_state": before, "to_state": after}
    connection.execute(insert(proposal_event).values(**moved, **asdict(by)))
