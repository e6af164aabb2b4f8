"""The life of a proposal as one table: (state, decision) -> state.

A pair that is not in the table is refused. What is rejected may be accepted after all, and what is
accepted may be rejected until it is applied. Copies that were sent cannot be called back: an
applied proposal can only be superseded, and its events go on saying that it was applied. But a
person may approve what policy had accepted, also when some destinations have it already: others
take a value only from a person.
"""

from collections.abc import Mapping
from enum import StrEnum

POLICY = "policy"
"""Who decides where ``[fill] auto_accept`` does. No person may decide under this name."""


class ProposalState(StrEnum):
    """Where a proposal stands."""

    OPEN = "open"
    """Waits for a decision."""
    ACCEPTED = "accepted"
    """May be applied."""
    REJECTED = "rejected"
    """The same value from the same source is not proposed again."""
    APPLIED = "applied"
    """Copies with this value are durable and queued."""
    SUPERSEDED = "superseded"
    """A newer result of the study proposes something else, or nothing."""


class Decision(StrEnum):
    """What can be done with a proposal."""

    ACCEPT = "accept"
    APPROVE = "approve"
    """A person accepts what policy had accepted."""
    REJECT = "reject"
    APPLY = "apply"
    SUPERSEDE = "supersede"


PROPOSAL_TRANSITIONS: Mapping[tuple[ProposalState, Decision], ProposalState] = {
    (ProposalState.OPEN, Decision.ACCEPT): ProposalState.ACCEPTED,
    (ProposalState.OPEN, Decision.REJECT): ProposalState.REJECTED,
    (ProposalState.OPEN, Decision.SUPERSEDE): ProposalState.SUPERSEDED,
    (ProposalState.ACCEPTED, Decision.APPROVE): ProposalState.ACCEPTED,
    (ProposalState.ACCEPTED, Decision.REJECT): ProposalState.REJECTED,
    (ProposalState.ACCEPTED, Decision.APPLY): ProposalState.APPLIED,
    (ProposalState.ACCEPTED, Decision.SUPERSEDE): ProposalState.SUPERSEDED,
    (ProposalState.REJECTED, Decision.ACCEPT): ProposalState.ACCEPTED,
    (ProposalState.APPLIED, Decision.APPROVE): ProposalState.ACCEPTED,
    # For images that came later, and for destinations that are new.
    (ProposalState.APPLIED, Decision.APPLY): ProposalState.APPLIED,
    (ProposalState.APPLIED, Decision.SUPERSEDE): ProposalState.SUPERSEDED,
}

STANDING = frozenset({ProposalState.OPEN, ProposalState.ACCEPTED, ProposalState.APPLIED})
"""Of one study and keyword, at most one proposal is in one of these."""


def proposal_step(state: ProposalState, decision: Decision) -> ProposalState | None:
    """Return the state after ``decision``, None where it is not allowed."""
    return PROPOSAL_TRANSITIONS.get((state, decision))
