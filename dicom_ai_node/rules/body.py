"""An age against the size, the weight and the protocol of the patient (E7)."""

import re
from collections.abc import Iterator

from dicom_ai_node.rules.ages import Age
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.text import DESCRIPTIONS, read_decimal, stated

# Whole words: 'orthopaedics' is no paediatric protocol.
_PAEDIATRIC = re.compile(
    r"\b(pa?ediatric\w*|pa?eds?|neonat\w*|newborn\w*|infant\w*|babygram|baby|kinder\w*|nicu|picu)\b",
    re.IGNORECASE,
)


def contradictions(reading: Reading, age: Age) -> Iterator[str]:
    """What of the patient does not go with ``age``, each as the end of a sentence."""
    years, settings = age.years, reading.settings
    size, weight = _metres(reading), read_decimal(reading.header.clean("PatientWeight"))
    if years >= settings.adult_age:
        if size and size < settings.adult_minimum_size:
            yield f"with a PatientSize of {size:.2f} m"
        if weight and 0 < weight < settings.adult_minimum_weight:
            yield f"with a PatientWeight of {weight:.1f} kg"
        for keyword in DESCRIPTIONS:
            word = stated(_PAEDIATRIC, reading.header.clean(keyword))
            if word:
                yield f"and {keyword} says {word!a}"
    elif years < settings.infant_age:
        if size and size > settings.infant_maximum_size:
            yield f"with a PatientSize of {size:.2f} m"
        if weight and weight > settings.infant_maximum_weight:
            yield f"with a PatientWeight of {weight:.1f} kg"


def _metres(reading: Reading) -> float | None:
    """PatientSize in metres, also when it was written in centimetres (F8); None when unusable."""
    size = read_decimal(reading.header.clean("PatientSize"))
    if size is None or size <= 0:
        return None
    return size / 100 if size > reading.settings.maximum_size else size
