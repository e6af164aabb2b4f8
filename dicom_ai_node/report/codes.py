"""Every code that a report uses, with the context group or template that asks for it (PS3.16).

The private scheme exists because no standard code says "metadata mismatch", nor whether an
estimate is that of one image or of the study. It is declared in the Coding Scheme Identification
Sequence of every report.
"""

import re
from collections.abc import Mapping

from pydicom.sr.coding import Code

from dicom_ai_node.answers import Answer, Category, Concept, Outcome, Reason, Terms
from dicom_ai_node.dicom.body_parts import BODY_PARTS
from dicom_ai_node.dicom.marks import CODING_SCHEME
from dicom_ai_node.report.words import plain
from dicom_ai_node.types import AttributeStatus

# TID 1500 and its frame
LANGUAGE = Code("en", "RFC5646", "English")
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
"""CID 100; 399208008 and LN 43468-8 each give one PixelMed error."""
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
MODIFYING_EQUIPMENT = Code("109103", "DCM", "Modifying Equipment")
"""CID 7005."""
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
"""CID 7202."""
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")

# TID 1006, 1007: the subject, as recorded
SUBJECT_CLASS = Code("121024", "DCM", "Subject Class")
PATIENT = Code("121025", "DCM", "Patient")
SUBJECT_SEX = Code("121032", "DCM", "Subject Sex")
SUBJECT_AGE = Code("121033", "DCM", "Subject Age")
SEX = {
    "F": Code("F", "DCM", "Female"),
    "M": Code("M", "DCM", "Male"),
    "O": Code("121102", "DCM", "Other sex"),
}
"""CID 7455 by PatientSex."""
AGE_UNIT = {
    "D": Code("d", "UCUM", "day"),
    "W": Code("wk", "UCUM", "week"),
    "M": Code("mo", "UCUM", "month"),
    "Y": Code("a", "UCUM", "year"),
}
"""CID 7456 by the last letter of an AS value."""
YEAR = AGE_UNIT["Y"]
PERCENT = Code("%", "UCUM", "Percent")

# TID 1501, 300, 4019: one measurement group
CHEST = Code("816094009", "SCT", "Chest")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
"""CID 7162."""
AGE_ESTIMATED = Code("21611-9", "LN", "Age Estimated")
AGE_REPORTED = Code("21612-7", "LN", "Age Reported")
AGE_CALCULATED = Code("29553-5", "LN", "Age calculated")
DERIVATION = Code("121401", "DCM", "Derivation")
ESTIMATED = Code("414135002", "SCT", "Estimated")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
FIFTH_PERCENTILE = Code("371888009", "SCT", "Fifth percentile")
NINETY_FIFTH_PERCENTILE = Code("371889001", "SCT", "Ninety-fifth percentile")
DERIVATIONS = (ESTIMATED, STANDARD_DEVIATION, FIFTH_PERCENTILE, NINETY_FIFTH_PERCENTILE)
"""Tells the NUMs of one group apart; only Estimated is the point value."""
TARGET_REGION = Code("123014", "DCM", "Target Region")
"""What part of the body the images show, CID 4031."""
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
COMMENT = Code("121106", "DCM", "Comment")
SUMMARY = Code("121111", "DCM", "Summary")
"""Of the whole report, as TEXT in its root: TID 1500 is extensible."""

# Why there is no estimate
SUMMARY_OF_ANALYSES = Code("111065", "DCM", "Summary of Analyses")
SUCCEEDED = Code("111222", "DCM", "Succeeded")
FAILED = Code("111224", "DCM", "Failed")
NOT_ATTEMPTED = Code("111225", "DCM", "Not Attempted")
"""CID 6042."""
QUALITY_ASSESSMENT = Code("111050", "DCM", "Quality Assessment")
QUALITY_MET = Code("111237", "DCM", "Usable - Meets the quality control standard")
QUALITY_UNUSABLE = Code("111235", "DCM", "Unusable - Quality renders image unusable")
"""CID 6044."""
QUALITY = {
    Outcome.ESTIMATED: QUALITY_MET,
    Outcome.ABSTAINED: QUALITY_UNUSABLE,
    Outcome.REFUSED: QUALITY_UNUSABLE,
}
"""A study of which only the header was asked for says nothing of the quality of its images."""
QUALITY_FINDING = Code("111052", "DCM", "Quality Finding")
NO_IMAGE = Code("111213", "DCM", "No image")
SOFTWARE_FAILURE = Code("111218", "DCM", "Software failure")
_CID_6135 = {
    "under_exposed": Code("111211", "DCM", "Under exposed"),
    "over_exposed": Code("111212", "DCM", "Over exposed"),
    "positioning": Code("111209", "DCM", "Positioning"),
    "motion_blur": Code("111210", "DCM", "Motion blur"),
    "no_image": NO_IMAGE,
    "no_pixels": NO_IMAGE,
    "not_an_image": NO_IMAGE,
    "undecodable": SOFTWARE_FAILURE,
    "unreadable": SOFTWARE_FAILURE,
    "truncated": SOFTWARE_FAILURE,
}
_MEANINGS = {
    "age_interval_too_wide": "Prediction interval too wide to be stated",
    "sex_uncertain": "Not certain enough to be stated",
    "sex_not_assessed": "Recorded sex is not assessed",
    "not_a_chest": "Does not look like a chest radiograph",
    "not_frontal": "Does not look like a frontal view",
    "out_of_distribution": "Unlike the images that the network was calibrated on",
    "outside_training_ages": "Recorded age is outside the ages that were trained",
    "not_flagged": "Header is consistent; images were not analysed",
    "too_uncertain": "Neither age nor sex is certain enough to be stated",
}
"""Of a private reason, at most 64 characters; the whole sentence stands in a comment."""


def reason_code(reason: Reason) -> Code:
    """Return the code of a reason: CID 6135 Image Quality Finding where one fits, else private."""
    if reason.code in _CID_6135:
        return _CID_6135[reason.code]
    return _private(reason.code, _MEANINGS.get(reason.code) or reason.text)


def summary_code(outcome: Outcome, reason: Reason | None) -> Code:
    """Return how far an analysis came (CID 6042)."""
    if outcome is Outcome.ESTIMATED:
        return SUCCEEDED
    broken = reason is not None and reason_code(reason) == SOFTWARE_FAILURE
    return FAILED if broken or outcome is Outcome.ABSTAINED else NOT_ATTEMPTED


# Private: how far an estimate reaches, and what the check says of an attribute
SCOPE = Code("SCOPE", CODING_SCHEME, "Scope of the result")
SCOPE_STUDY = Code("STUDY", CODING_SCHEME, "The study as a whole")
SCOPE_SERIES = Code("SERIES", CODING_SCHEME, "One series")
SCOPE_IMAGE = Code("IMAGE", CODING_SCHEME, "One image")
SCOPE_HEADER = Code("HEADER", CODING_SCHEME, "The header as recorded")
INTENDED_USE = Code("INTENDED_USE", CODING_SCHEME, "Intended use of the answers")
NOT_FOR_DIAGNOSIS = Code("NOT_FOR_DIAGNOSIS", CODING_SCHEME, "Not for diagnosis")
FOR_RESEARCH = Code("113009", "DCM", "For Research")
"""CID 7010; no standard code says that something is not for diagnosis."""
RECORDED_STATUS: Mapping[str, Code] = {
    "PatientAge": Code("AGESTAT", CODING_SCHEME, "Status of the recorded age"),
    "PatientSex": Code("SEXSTAT", CODING_SCHEME, "Status of the recorded sex"),
    "BodyPartExamined": Code("BODYPARTSTAT", CODING_SCHEME, "Status of the recorded body part"),
}
"""One for each attribute under check, by keyword."""
STATUS = {
    AttributeStatus.CONSISTENT: "No inconsistency found",
    AttributeStatus.MISSING: "Missing from the record",
    AttributeStatus.MALFORMED: "Not in the required form",
    AttributeStatus.IMPLAUSIBLE: "Implausible",
    AttributeStatus.CONFLICT_HEADER: "Contradicted by the header itself",
    AttributeStatus.CONFLICT_IMAGE: "Inferred characteristics differ from the record",
    AttributeStatus.NOT_ASSESSED: "Not assessed",
}


def status_code(status: AttributeStatus) -> Code:
    """Return the private code of ``status``."""
    return Code(status.value, CODING_SCHEME, STATUS[status])


# CID 29 Acquisition Modality, as far as radiographs and sections come
MODALITIES = {
    "CR": Code("CR", "DCM", "Computed Radiography"),
    "CT": Code("CT", "DCM", "Computed Tomography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "MR": Code("MR", "DCM", "Magnetic Resonance"),
    "RG": Code("RG", "DCM", "Radiographic imaging"),
    "RF": Code("RF", "DCM", "Radiofluoroscopy"),
    "OT": Code("OT", "DCM", "Other Modality"),
}


# Answers: what the manifest states, else what is known of the head or its attribute, else private
_CONCEPTS = {"age": AGE_ESTIMATED, "sex": SUBJECT_SEX}
_OF_ATTRIBUTE = {"BodyPartExamined": TARGET_REGION}
_VALUES = {"sex": SEX}
_UNITS = {"a": YEAR}


def concept(head: str, terms: Terms) -> Code:
    """Return the concept name of a head's answer."""
    known = _CONCEPTS.get(head) or _OF_ATTRIBUTE.get(terms.attributes.get(head, ""))
    private = _private(head, head.replace("_", " ").capitalize())
    return _stated(terms.concepts.get(head)) or known or private


def looked_for(head: str, terms: Terms) -> Code:
    """Return the concept name of each of a head's findings.

    A private one reads so that a label which is hardly probable is not taken for a finding.
    """
    stated = _stated(terms.concepts.get(head))
    return stated or _private(head, f"{head.replace('_', ' ').capitalize()} looked for")


def value_code(head: str, value: str, terms: Terms) -> Code:
    """Return the code of a category's value, or of a label among findings."""
    stated = _stated(terms.concepts.get(f"{head}.{value}"))
    known = _VALUES.get(head, {}).get(value)
    if terms.attributes.get(head) == "BodyPartExamined":
        known = body_part_code(value)
    return stated or known or _private(value, value.replace("_", " "))


def body_part_code(term: str) -> Code | None:
    """Return the code of a defined term of BodyPartExamined (PS3.16 annex L), None without one."""
    part = BODY_PARTS.get(term)
    return Code(part.code, "SCT", part.meaning[:64]) if part and part.code else None


def finding_sites(answers: Mapping[str, Answer], terms: Terms) -> list[Code]:
    """Return what images show: the body parts that are answered, from head to foot.

    Where that is asked and has no answer, what the manifest says that they show, else nothing;
    where it is not asked, the chest if the manifest says nothing.
    """
    regions = {head for head, keyword in terms.attributes.items() if keyword == "BodyPartExamined"}
    answered = [
        value_code(head, value, terms)
        for head, answer in answers.items()
        if head in regions and isinstance(answer, Category)
        for value in answer.covered or (answer.value,)
    ]
    stated = _stated(terms.site) or (None if regions else CHEST)
    return list(dict.fromkeys(answered)) or ([stated] if stated else [])


def _stated(concept: Concept | None) -> Code | None:
    return Code(concept.code, concept.scheme, plain(concept.meaning)[:64]) if concept else None


def unit_code(unit: str) -> Code:
    """Return the code of a UCUM unit."""
    return _UNITS.get(unit) or Code(unit, "UCUM", unit)


def no_answer(head: str) -> Code:
    """Return the private concept of why a group gives no answer of a head."""
    return _private(f"NO{head}", f"Why no {head.replace('_', ' ')} is stated")


def how_certain(head: str) -> Code:
    """Return the private concept of how certain an answer is."""
    return _private(f"CERTAINTY_{head}", f"How certain the {head.replace('_', ' ')} is")


UNCERTAIN = Code("UNCERTAIN", CODING_SCHEME, "Uncertain: not held against the record")


def _private(words: str, meaning: str) -> Code:
    value = re.sub(r"[^A-Z0-9]+", "_", plain(words).upper()).strip("_") or "UNSPECIFIED"
    return Code(value[:64], CODING_SCHEME, plain(meaning)[:64].strip() or value[:64])
