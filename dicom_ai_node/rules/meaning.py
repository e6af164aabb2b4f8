"""What PatientAge and PatientSex surely mean, also where their form is wrong.

'66' is 066Y and 'Male' is M, unless something in the header speaks against it: the dates, or the
body. This is decided here once: what is proposed as the header's own value is what its image is
compared with.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from dicom_ai_node.rules.ages_and_dates import Age, salvage_age
from dicom_ai_node.rules.reading import DESCRIPTIONS, DatedAge, Reading, read_decimal, stated

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
            if word := stated(_PAEDIATRIC, reading.header.clean(keyword)):
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


_SEX_WORDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("m", "male", "man", "maennlich", "männlich", "mann", "homme", "masculin"), "M"
    ),
    **dict.fromkeys(("hombre", "masculino", "uomo", "maschio"), "M"),
    **dict.fromkeys(("f", "female", "woman", "weiblich", "frau", "femme", "feminin"), "F"),
    **dict.fromkeys(("féminin", "mujer", "femenino", "donna", "femmina"), "F"),
}
"""Words only. '1' and '2' mean one thing in ISO 5218 and another in other systems; 'W' and 'H' are
woman and homme here and something else there."""


def meant_age(reading: Reading) -> Age | None:
    """The age that PatientAge states, None when it is none, a placeholder, or not sure."""
    age = reading.age or salvaged_age(reading)
    if age is None or reading.placeholder_age or _mismatch(reading, age):
        return None
    return age


def salvaged_age(reading: Reading) -> Age | None:
    """The age that a PatientAge in a wrong form means, None when that is not sure or no age.

    A number without its unit is years. It is not where the dates say otherwise ('3' may be three
    months), nor where the body does: 66 with a weight of 4 kg.
    """
    age = salvage_age(only_value(reading.header.clean("PatientAge"))) if not reading.age else None
    if age is None or age.number == 0 or age.years >= reading.settings.maximum_age:
        return None
    if _mismatch(reading, age) or any(contradictions(reading, age)):
        return None
    return age


def meant_sex(reading: Reading) -> str:
    """M or F where PatientSex says so, in whatever form; else ''."""
    text = only_value(reading.sex)
    return text if text in {"M", "F"} else _SEX_WORDS.get(text.casefold(), "")


def years_meant(readings: Sequence[Reading]) -> float | None:
    """The age in years that all instances agree on; None where one states none, or another."""
    ages = {meant_age(reading) for reading in readings}
    age = ages.pop() if len(ages) == 1 else None
    reading = next(iter(readings), None)
    if age is None or reading is None or _censored(reading, age):
        return None
    return age.years


def sex_meant(readings: Sequence[Reading]) -> str:
    """The sex that all instances agree on, '' where one states none, or another."""
    sexes = {meant_sex(reading) for reading in readings}
    return sexes.pop() if len(sexes) == 1 else ""


def only_value(text: str) -> str:
    """The value, also where it was sent several times over; '' where several differ."""
    values = {part.strip(" \0") for part in text.split("\\")}
    return values.pop() if len(values) == 1 else ""


def _mismatch(reading: Reading, age: Age) -> bool:
    span = reading.span
    widening = reading.settings.year_only_widening if reading.year_only else 0.0
    return span is not None and DatedAge(age, *span, reading.settings, widening).mismatch


def _censored(reading: Reading, age: Age) -> bool:
    return reading.deidentified and age.years >= reading.settings.censored_age
