"""H: the image against the header. What they find needs the estimate: ``dicom_ai_node.decide``."""

from dicom_ai_node.rules.rule import Entry, by_id
from dicom_ai_node.types import Severity

RULES = by_id(
    Entry("H1", Severity.WARNING, "age", "The recorded age is improbable for the image"),
    Entry("H2", Severity.WARNING, "sex", "The recorded sex is improbable for the image"),
    Entry(
        "H3",
        Severity.INFORMATION,
        "identity",
        "Possible mix-up: age and sex, or one of them and the patient's other studies",
    ),
    Entry("H4", Severity.INFORMATION, "image", "The image could not be assessed"),
)
