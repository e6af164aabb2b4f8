"""What a worklist said of each study: kept, so that a repeated analysis has the same answer."""

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from dicom_ai_node.rules.worklist_answers import Asked, Verdict
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import worklist_answer
from dicom_ai_node.types import WorklistAnswer


def kept(db: Database, uid: str, *, digest: str) -> Asked | None:
    """Return what was learned of a study by the keys with that digest, None when nothing was."""
    query = (
        select(worklist_answer)
        .where(worklist_answer.c.study_instance_uid == uid)
        .where(worklist_answer.c.digest == digest)
        .where(worklist_answer.c.verdict != Verdict.UNAVAILABLE)
    )
    with db.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    verdict = Verdict(row.verdict)
    if verdict is not Verdict.ANSWERED:
        return Asked(verdict)
    return Asked(
        verdict,
        WorklistAnswer(row.matched_by, row.other_patient, row.birth_date, row.sex, row.age),
    )


def keep(db: Database, uid: str, asked: Asked, *, digest: str, now: float) -> None:
    """Remember what came of asking about a study, in place of what came of it before."""
    answer = asked.answer or WorklistAnswer("")
    with db.write() as connection:
        _forget(connection, uid)
        connection.execute(
            insert(worklist_answer).values(
                study_instance_uid=uid,
                digest=digest,
                asked_at=now,
                verdict=asked.verdict,
                matched_by=answer.matched_by,
                other_patient=answer.other_patient,
                birth_date=answer.birth_date,
                sex=answer.sex,
                age=answer.age,
            )
        )


def forget_unanswered(connection: Connection, uid: str) -> None:
    """Have a study asked about again that got no answer; an answer stays, the order may be gone."""
    _forget(connection, uid, worklist_answer.c.verdict != Verdict.ANSWERED)


def _forget(connection: Connection, uid: str, *which: ColumnElement[bool]) -> None:
    mine = worklist_answer.c.study_instance_uid == uid
    connection.execute(delete(worklist_answer).where(mine, *which))
