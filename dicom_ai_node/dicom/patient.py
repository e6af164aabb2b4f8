"""Which studies are of one patient."""

import hashlib

from pydicom.dataset import Dataset

from dicom_ai_node.dicom.values import decoded


def patient_key(source: Dataset) -> str:
    """Return a hash of PatientID and its issuer, '' without a PatientID: nothing is linked then.

    The same text is the same patient in every character set. What is no text in the character set
    that is stated is told apart by its bytes, and from all that is text.
    """
    patient, readable = decoded(source, "PatientID")
    if not patient:
        return ""
    issuer, known = decoded(source, "IssuerOfPatientID")
    mark = "" if readable and known else f"\0{readable:d}{known:d}"
    return hashlib.sha256(f"{issuer}\0{patient}{mark}".encode()).hexdigest()
