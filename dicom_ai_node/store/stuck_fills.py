"""Accepted proposals that could not be applied by themselves: why, and when it is tried again."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, exists, func, insert, or_, select

from dicom_ai_node.decide.decisions import ProposalState
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.overview import OPEN_STATES
from dicom_ai_node.store.tables import proposal, stuck_fill, study

FIRST_PAUSE = 600.0
LONGEST_PAUSE = 3600.0
_ACCEPTED = proposal.c.state == ProposalState.ACCEPTED


@dataclass(frozen=True, slots=True)
class Stuck:
    """Why a study's accepted proposals are not applied, or not all of them."""

    reason: str
    attempts: int
    tried_at: float
    not_before: float


def due(db: Database, *, now: float, limit: int) -> list[str]:
    """Return studies to apply proposals of, those first that failed least often.

    None that still collects images or waits for its analysis: it would miss the later images, or
    get what the analysis is about to withdraw. A decision since the last attempt makes it due.
    """
    decided_at = func.max(proposal.c.updated_at)
    query = (
        select(proposal.c.study_instance_uid)
        .join(study, study.c.study_instance_uid == proposal.c.study_instance_uid)
        .outerjoin(stuck_fill, stuck_fill.c.study_instance_uid == proposal.c.study_instance_uid)
        .where(_ACCEPTED, study.c.state.not_in(OPEN_STATES))
        .group_by(
            proposal.c.study_instance_uid,
            stuck_fill.c.attempts,
            stuck_fill.c.tried_at,
            stuck_fill.c.not_before,
        )
        .having(
            or_(
                stuck_fill.c.attempts.is_(None),
                stuck_fill.c.not_before <= now,
                decided_at > stuck_fill.c.tried_at,
            )
        )
        .order_by(func.coalesce(stuck_fill.c.attempts, 0), func.min(proposal.c.updated_at))
        .limit(limit)
    )
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def record_stuck(db: Database, uid: str, reason: str, *, now: float) -> bool:
    """Write down that nothing came of an attempt, or not all; return whether the reason is new."""
    mine = stuck_fill.c.study_instance_uid == uid
    with db.write() as connection:
        before = connection.execute(select(stuck_fill).where(mine)).first()
        attempts = before.attempts + 1 if before else 1
        connection.execute(delete(stuck_fill).where(mine))
        connection.execute(
            insert(stuck_fill).values(
                study_instance_uid=uid,
                reason=reason,
                attempts=attempts,
                tried_at=now,
                not_before=now + min(FIRST_PAUSE * 2.0 ** min(attempts - 1, 9), LONGEST_PAUSE),
            )
        )
    return before is None or before.reason != reason


def record_done(db: Database, uid: str) -> None:
    """Forget what kept a study's proposals from being applied."""
    with db.write() as connection:
        connection.execute(delete(stuck_fill).where(stuck_fill.c.study_instance_uid == uid))


def why_stuck(db: Database, uid: str) -> Stuck | None:
    """Return what keeps a study's accepted proposals from being applied, None where none does."""
    query = select(stuck_fill).where(stuck_fill.c.study_instance_uid == uid, _still_accepted())
    with db.read() as connection:
        row = connection.execute(query).first()
    return Stuck(row.reason, row.attempts, row.tried_at, row.not_before) if row else None


def count_stuck(db: Database) -> int:
    """Return how many studies have accepted proposals that could not be applied."""
    with db.read() as connection:
        query = select(func.count()).select_from(stuck_fill).where(_still_accepted())
        return connection.execute(query).scalar_one()


def _still_accepted() -> ColumnElement[bool]:
    """Whether there is anything left to apply: a person may have rejected it meanwhile."""
    mine = proposal.c.study_instance_uid == stuck_fill.c.study_instance_uid
    return exists().where(mine, _ACCEPTED)
