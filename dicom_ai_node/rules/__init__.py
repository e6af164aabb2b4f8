"""Header rules: is PatientAge or PatientSex of a study missing or implausible?

``check([TextHeader.from_dataset(ds), ...], priors=..., settings=..., today=...)`` answers with a
:class:`~dicom_ai_node.types.HeaderCheck`. Pure: no files, no clock, no database.
"""

from dicom_ai_node.rules.ages_and_dates import encode_estimate, parse_age
from dicom_ai_node.rules.check import RULES, RULES_VERSION, check
from dicom_ai_node.rules.rule import StudyRule
from dicom_ai_node.rules.text_header import TextHeader

__all__ = [
    "RULES",
    "RULES_VERSION",
    "StudyRule",
    "TextHeader",
    "check",
    "encode_estimate",
    "parse_age",
]
