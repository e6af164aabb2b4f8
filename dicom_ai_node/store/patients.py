"""What is known of patients' studies: the header facts that rules G1 to G4 compare."""

from dataclasses import asdict, dataclass
from datetime import date

from sqlalchemy import Connection, delete, insert, select

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import study_header
from dicom_ai_node.types import PriorStudy


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
