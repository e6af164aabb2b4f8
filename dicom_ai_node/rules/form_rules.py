"""A: values that are not what their VR and VM allow (PS3.5 6.2)."""

from collections.abc import Iterator

from dicom_ai_node.dicom.values import encodings_of
from dicom_ai_node.rules.ages_and_dates import read_age, read_date
from dicom_ai_node.rules.reading import DATE_KEYWORDS, Reading, shown
from dicom_ai_node.rules.rule import ERROR, MALFORMED, WARNING, Hit, each, rule
from dicom_ai_node.rules.text_header import ELEMENTS

_ABOUT = {
    "PatientAge": "age",
    "PatientSex": "sex",
    "BodyPartExamined": "body_part",
    **dict.fromkeys(DATE_KEYWORDS, "dates"),
}
_RESTRICTED = tuple(k for k, (_, vr) in ELEMENTS.items() if vr in {"AS", "CS", "DA"})


@rule("A1", ERROR, "age", "PatientAge is not three digits and one of D, W, M, Y", status=MALFORMED)
@each
def _age_string(reading: Reading) -> Iterator[Hit]:
    text = reading.header.clean("PatientAge")
    if text and "\\" not in text and read_age(text) is None:
        yield Hit(f"PatientAge {shown(text)} is not three digits and one of D, W, M, Y")


@rule(
    "A2",
    ERROR,
    "dates",
    "PatientBirthDate, StudyDate or AcquisitionDate is not a Gregorian date YYYYMMDD",
)
@each
def _date_string(reading: Reading) -> Iterator[Hit]:
    for keyword in DATE_KEYWORDS:
        text = reading.header.clean(keyword)
        if text and "\\" not in text and read_date(text) is None:
            yield Hit(f"{keyword} {shown(text)} is not a Gregorian date YYYYMMDD")


@rule("A3", ERROR, "sex", "PatientSex is none of M, F, O", status=MALFORMED)
@each
def _sex_code(reading: Reading) -> Iterator[Hit]:
    text = reading.sex
    if text and "\\" not in text and text not in {"M", "F", "O"}:
        yield Hit(f"PatientSex {shown(text)} is none of M, F, O")


@rule(
    "A4",
    ERROR,
    "identity",
    "Several values where one is allowed, or stray padding",
    status=MALFORMED,
)
@each
def _multiplicity(reading: Reading) -> Iterator[Hit]:
    for keyword, attribute in _ABOUT.items():
        sent, text = reading.header[keyword], reading.header.clean(keyword)
        if "\\" in text:
            yield Hit(f"{keyword} {shown(sent)} holds several values instead of one", attribute)
        elif text and _stray_padding(sent, text):
            yield Hit(f"{keyword} {shown(sent)} is padded where nothing is to be padded", attribute)


def _stray_padding(sent: str, text: str) -> bool:
    # One space that makes the length even is what PS3.5 6.2 asks for. A reader may have taken it
    # away, or left it; blanks alone are an empty value (B), not a padded one.
    return sent not in {text, text + " "} or (sent != text and len(text) % 2 == 0)


@rule("A5", WARNING, "identity", "Characters other than ASCII in a value of VR CS, AS or DA")
@each
def _repertoire(reading: Reading) -> Iterator[Hit]:
    for keyword in _RESTRICTED:
        sent = reading.header[keyword]
        if not sent.isascii():
            about = _ABOUT.get(keyword, "identity")
            yield Hit(f"{keyword} {shown(sent)} holds other characters than ASCII", about)


@rule(
    "A6",
    WARNING,
    "identity",
    "SpecificCharacterSet is missing or unknown, or text cannot be decoded with it",
)
@each
def _character_set(reading: Reading) -> Iterator[Hit]:
    header = reading.header
    terms = header.parts("SpecificCharacterSet")
    _, unknown = encodings_of(terms)
    if unknown:
        yield Hit(f"SpecificCharacterSet {shown(unknown[0])} is not a defined term")
    elif header.undecodable:
        stated = f"text in the SpecificCharacterSet {shown(', '.join(terms))}"
        wrong = stated if terms else "ASCII, and SpecificCharacterSet is missing"
        yield Hit(f"{', '.join(sorted(header.undecodable))}: not {wrong}")
