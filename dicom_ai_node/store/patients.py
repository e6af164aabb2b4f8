"""What is known of patients besides the header: their other studies, and the worklist's answers."""

from dataclasses import asdict, dataclass
from datetime import date

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from dicom_ai_node.rules.worklist_rules import Verdict, WorklistReply
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import study_header, worklist_answer
from dicom_ai_node.types import PriorStudy, WorklistAnswer


@dataclass(frozen=True, slots=True)
class StudyHeader:
    """What later studies of the same patient are held against."""

    patient_key: str
    """Hash of PatientID and its issuer, '' when there is no PatientID: then nothing is linked."""
    study_date: str
    sex: str
    birth_date: str
    age_years: float | None


def priors(db: Database, *, patient_key: str, except_study: str) -> list[PriorStudy]:
    """Return what is known of the patient's other studies, by study date."""
    if not patient_key:
        return []
    query = (
        select(study_header)
        .where(study_header.c.patient_key == patient_key)
        .where(study_header.c.study_instance_uid != except_study)
        .order_by(study_header.c.study_date, study_header.c.study_instance_uid)
    )
    with db.read() as connection:
        return [
            PriorStudy(
                study_instance_uid=row.study_instance_uid,
                study_date=_date(row.study_date),
                sex=row.sex,
                birth_date=row.birth_date,
                age_years=row.age_years,
            )
            for row in connection.execute(query)
        ]


def save_header(connection: Connection, uid: str, header: StudyHeader) -> None:
    """Remember the header facts of a study, in place of earlier ones."""
    connection.execute(delete(study_header).where(study_header.c.study_instance_uid == uid))
    connection.execute(insert(study_header).values(study_instance_uid=uid, **asdict(header)))


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def worklist_answer_of(db: Database, uid: str, *, digest: str) -> WorklistReply | None:
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
        return WorklistReply(verdict)
    return WorklistReply(
        verdict,
        WorklistAnswer(row.matched_by, row.other_patient, row.birth_date, row.sex, row.age),
    )


def save_worklist_answer(
    db: Database, uid: str, asked: WorklistReply, *, digest: str, now: float
) -> None:
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
