"""A source file's bytes -> the bytes of a copy in which missing header values are filled in.

What is not meant to change is never decoded: a copy is spliced from byte ranges of the source.
Pure: no files, no clock. Free of highdicom.
"""

from dicom_ai_node.report.copies.coerced import coerced, stated_age
from dicom_ai_node.report.copies.derived import filled_copy
from dicom_ai_node.report.copies.difference import Change, difference
from dicom_ai_node.report.copies.fill import Fill

__all__ = ["Change", "Fill", "coerced", "difference", "filled_copy", "stated_age"]
