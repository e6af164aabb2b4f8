"""The measurement group (TID 1501) of the header check: what the record says, and its status.

Its NUMs are the record itself, under other concepts than an estimate's (Age Reported, Age
calculated), and stand in every report. Its status codes are private, because the standard has none
for a wrong record.
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

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.report import codes, text, words
from dicom_ai_node.report.identity import ReportIdentity
from dicom_ai_node.report.modules import MOST_IMAGES, recorded_age
from dicom_ai_node.types import HeaderCheck

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

    ``references`` are all images of the study; of many the first of each series is named.
    ``concepts`` names the status of each attribute under check.
    """
    named = list(references)
    if len(named) > MOST_IMAGES:
        named = list({one.series_instance_uid: one for one in reversed(named)}.values())[::-1]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(uid_of("tracking", TITLE, identity.study_instance_uid)),
            identifier=TITLE,
        ),
        algorithm_id=AlgorithmIdentification(
            name="Header rules",
            version=words.plain(identity.rules_version),
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
            SourceImageForMeasurementGroup(one.sop_class_uid, one.sop_instance_uid) for one in named
        ],
    )
    lines = _lines(check)
    if len(named) < len(references):
        lines.append(
            f"Headers of {len(references)} images were read: the first of each series is"
            " named here, and all stand among the evidence."
        )
    group[0].ContentSequence.extend(
        TextContentItem(codes.COMMENT, line, "CONTAINS") for line in lines
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
    lines.append("Rules that fired: " + (words.plain(", ".join(check.rules)) or "none"))
    lines.extend(text.finding_lines(check))
    if text.differs(check):
        lines.append(text.DIFFERS)
    return lines
