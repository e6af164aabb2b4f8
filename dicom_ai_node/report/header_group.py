"""The "Header audit" measurement group: what the rules say of what is recorded.

Its numbers are the record, not measurements of the network, and stand under concepts of their own:
Age Reported is PatientAge in the unit in which it was sent, Age calculated is PatientBirthDate to
StudyDate. The status codes are private, because the standard has none for a wrong record.
"""

from collections.abc import Mapping, Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.report import codes, text
from dicom_ai_node.report.identity import ReportIdentity
from dicom_ai_node.report.recorded import recorded_age
from dicom_ai_node.types import HeaderCheck, ImageRef

TITLE = "Header audit"


def header_group(
    check: HeaderCheck,
    references: Sequence[ImageRef],
    *,
    identity: ReportIdentity,
    settings: ReportSettings,
    concepts: Mapping[str, Code] = codes.RECORDED_STATUS,
) -> MeasurementsAndQualitativeEvaluations:
    """Return the group (TID 1501) with the rules engine as its algorithm (TID 4019).

    ``concepts`` names the status of each attribute under check.
    """
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(uid_of("tracking", TITLE, identity.study_instance_uid)),
            identifier=TITLE,
        ),
        algorithm_id=AlgorithmIdentification(
            name="Header rules",
            version=text.plain(identity.rules_version),
            manufacturer=settings.manufacturer,
        ),
        measurements=_ages(check) or None,
        qualitative_evaluations=[
            QualitativeEvaluation(codes.SCOPE, codes.SCOPE_HEADER),
            *(
                QualitativeEvaluation(concepts[keyword], codes.status_code(row.status))
                for keyword, row in check.attributes.items()
            ),
        ],
        source_images=[
            SourceImageForMeasurementGroup(one.sop_class_uid, one.sop_instance_uid)
            for one in references
        ],
    )
    group[0].ContentSequence.extend(
        TextContentItem(codes.COMMENT, line, "CONTAINS") for line in _lines(check)
    )
    return group


def _ages(check: HeaderCheck) -> list[Measurement]:
    ages = []
    reported = recorded_age(check)
    if reported is not None:
        ages.append(Measurement(name=codes.AGE_REPORTED, value=reported[0], unit=reported[1]))
    if check.birth_date_age is not None:
        years = round(float(check.birth_date_age), 1)
        ages.append(Measurement(name=codes.AGE_CALCULATED, value=years, unit=codes.YEAR))
    return ages


def _lines(check: HeaderCheck) -> list[str]:
    lines = [f"As recorded: {text.recorded_line(check)}"]
    lines.append("Rules that fired: " + (text.plain(", ".join(check.rules)) or "none"))
    lines.extend(text.finding_lines(check))
    if text.differs(check):
        lines.append(text.DIFFERS)
    return lines
