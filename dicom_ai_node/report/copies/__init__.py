"""A source file's bytes -> the bytes of a copy in which missing header values are filled in.

What is not meant to change is never decoded: a copy is spliced from byte ranges of the source.
Pure: no files, no clock. Free of highdicom.
"""

from dicom_ai_node.report.copies.difference import Change, difference
from dicom_ai_node.report.copies.fill import Fill
from dicom_ai_node.report.copies.filled import age_in_file, coerced, filled_copy

__all__ = ["Change", "Fill", "age_in_file", "coerced", "difference", "filled_copy"]
