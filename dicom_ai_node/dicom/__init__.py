"""What the DICOM standard fixes, and every stage needs: encodings, headers, values, UIDs."""
