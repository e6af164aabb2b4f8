"""What is known of patients besides the header: their other studies, and the worklist's answers."""

from dataclasses import asdict, dataclass
from datetime import date

from sqlalchemy import Connection, delete, select, update

from dicom_ai_node.likeness import Embedding
from dicom_ai_node.rules.worklist_rules import Verdict, WorklistReply
from dicom_ai_node.store.database import Database, as_record, upsert
from dicom_ai_node.store.tables import audit_study, study_chest, study_header, worklist_answer
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
    return [as_record(PriorStudy, row, study_date=_date(row.study_date)) for row in db.rows(query)]


def save_header(connection: Connection, study_uid: str, header: StudyHeader) -> None:
    """Remember the header facts of a study, in place of earlier ones."""
    upsert(connection, study_header, study_instance_uid=study_uid, **asdict(header))


def chests(db: Database, *, patient_key: str, except_study: str) -> list[Embedding]:
    """Return the chests of the patient's other studies, as far as they are kept, by study date."""
    if not patient_key:
        return []
    query = (
        select(study_chest.c.embedding)
        .join(
            study_header,
            study_header.c.study_instance_uid == study_chest.c.study_instance_uid,
        )
        .where(study_header.c.patient_key == patient_key)
        .where(study_header.c.study_instance_uid != except_study)
        .order_by(study_header.c.study_date, study_header.c.study_instance_uid)
    )
    return [Embedding.from_json(values) for values in db.scalars(query)]


def save_chest(connection: Connection, study_uid: str, chest: Embedding | None) -> None:
    """Keep the chest of a study in place of an earlier one; None: none is kept of it."""
    if chest is None:
        mine = study_chest.c.study_instance_uid == study_uid
        connection.execute(delete(study_chest).where(mine))
        return
    upsert(
        connection,
        study_chest,
        study_instance_uid=study_uid,
        space=chest.space,
        embedding=chest.to_json(),
    )


def forget_chests(db: Database) -> int:
    """Remove all chests, those of audits too; return of how many studies.

    For a node that compares them no more. The next one would find none to compare with.
    """
    kept = audit_study.c.embedding.is_not(None)
    if not db.first(select(study_chest.c.space).limit(1)) and not db.first(
        select(audit_study.c.audit_id).where(kept).limit(1)
    ):
        return 0
    with db.write() as connection:
        live = connection.execute(delete(study_chest)).rowcount
        audited = connection.execute(update(audit_study).where(kept).values(embedding=None))
        return int(live + audited.rowcount)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def worklist_answer_of(db: Database, study_uid: str, *, digest: str) -> WorklistReply | None:
    """Return what was learned of a study by the keys with that digest, None when nothing was."""
    query = (
        select(worklist_answer)
        .where(worklist_answer.c.study_instance_uid == study_uid)
        .where(worklist_answer.c.digest == digest)
        .where(worklist_answer.c.verdict != Verdict.UNAVAILABLE)
    )
    row = db.first(query)
    if row is None:
        return None
    verdict = Verdict(row.verdict)
    answered = verdict is Verdict.ANSWERED
    return WorklistReply(verdict, as_record(WorklistAnswer, row) if answered else None)


def save_worklist_answer(
    db: Database, study_uid: str, asked: WorklistReply, *, digest: str, now: float
) -> None:
    """Remember what came of asking about a study, in place of what came of it before."""
    answer = asdict(asked.answer or WorklistAnswer(""))
    values = {"digest": digest, "asked_at": now, "verdict": asked.verdict, **answer}
    with db.write() as connection:
        upsert(connection, worklist_answer, study_instance_uid=study_uid, **values)


def forget_unanswered(connection: Connection, study_uid: str) -> None:
    """Have a study asked about again that got no answer; an answer stays, the order may be gone."""
    unanswered = worklist_answer.c.verdict != Verdict.ANSWERED
    mine = worklist_answer.c.study_instance_uid == study_uid
    connection.execute(delete(worklist_answer).where(mine, unanswered))
