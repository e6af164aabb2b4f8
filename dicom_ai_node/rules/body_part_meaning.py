"""What a header says of the body part, in BodyPartExamined and beside it.

BodyPartExamined is an attribute of the series: what is said here is said of one header, and thus of
its series.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from dicom_ai_node.dicom.body_part_words import (
    areas_named,
    read_value,
    sides_named,
    term_named,
    terms_named,
)
from dicom_ai_node.dicom.body_parts import BODY_PARTS, BY_CODE, Area, areas_of, combined
from dicom_ai_node.rules.meaning import only_value
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.text_header import TextHeader

BODY_PART = "BodyPartExamined"
OF_STUDY = (
    "StudyDescription",
    "RequestedProcedureDescription",
    "ProcedureCodeSequence",
    "RequestedProcedureCodeSequence",
)
"""What was asked for, in words: of the study, and maybe of more than one series shows."""
OF_SERIES = ("SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription")
"""What was done, in words."""


def recorded_part(header: TextHeader) -> str:
    """The term that BodyPartExamined means, whatever its form; '' where that is not sure."""
    text = only_value(header.clean(BODY_PART))
    return text if text in BODY_PARTS else read_value(text)


def in_form(header: TextHeader) -> bool:
    """Whether BodyPartExamined is a defined term as it was sent, with its padding."""
    sent, text = header[BODY_PART], header.clean(BODY_PART)
    return text in BODY_PARTS and sent in {text, text + " "}


def to_be_filled(header: TextHeader) -> bool:
    """Whether what is proposed for the study is for this series: its own is missing or wrong."""
    return not in_form(header) or contradicted(header)


def coded_part(header: TextHeader) -> str:
    """The term for what AnatomicRegionSequence states by code or meaning, '' where it is none."""
    parts = header.parts("AnatomicRegionSequence")
    terms = {BY_CODE[part].term for part in parts if part in BY_CODE}
    return combined(terms or set(filter(None, map(read_value, parts))))


def coded_parts(readings: Sequence[Reading]) -> str:
    """The term for what the AnatomicRegionSequence of all instances states, '' where one has none.

    A DX image has to have it, and need not have BodyPartExamined (PS3.3 C.8.11.2, C.7.3.1).
    """
    terms = {coded_part(reading.header) for reading in readings}
    return "" if "" in terms else combined(terms)


def described_areas(header: TextHeader) -> frozenset[Area]:
    """Where on the body the descriptions of study and series are about; empty: they do not say."""
    return frozenset[Area]().union(
        *(areas_named(text) for text in (*_texts(header, OF_STUDY), *_series_texts(header)))
    )


def study_areas(header: TextHeader) -> frozenset[Area]:
    """The same of the study's descriptions alone."""
    return frozenset[Area]().union(*map(areas_named, _texts(header, OF_STUDY)))


def described_part(header: TextHeader) -> str:
    """The one term for what the series is described as, else the study; '' where it is not sure."""
    return _named(_series_texts(header)) or _named(_texts(header, OF_STUDY))


def described_sides(header: TextHeader) -> frozenset[str]:
    """The sides that the descriptions name, both where the words are of two."""
    texts = (*_texts(header, OF_STUDY), *_texts(header, OF_SERIES))
    return frozenset[str]().union(*map(sides_named, texts))


def contradicted(header: TextHeader) -> bool:
    """Whether descriptions name parts of the body, and BodyPartExamined means none of them.

    Not of a scout, which takes in more than what is asked for.
    """
    term, areas = recorded_part(header), described_areas(header)
    scout = "LOCALIZER" in header.parts("ImageType")
    return bool(term and areas) and not scout and areas_of(term).isdisjoint(areas)


def parts_by_series(readings: Sequence[Reading], disabled: Collection[str]) -> Mapping[str, str]:
    """By SeriesInstanceUID the term that the images of the series are compared with.

    '' where nothing is recorded, where it is not sure what is meant, where the header's own words
    contradict it, and where no one term has what its images record. What a rule among ``disabled``
    would doubt is not understood either.
    """
    found: dict[str, set[str]] = {}
    for reading in readings:
        terms = found.setdefault(reading.header.clean("SeriesInstanceUID"), set())
        if (term := _trusted(reading.header, disabled)) is not None:
            terms.add(term)
    return {uid: "" if "" in terms else combined(terms) for uid, terms in found.items()}


def _trusted(header: TextHeader, disabled: Collection[str]) -> str | None:
    """The term of one header, '' where it is not sure; None where it records nothing."""
    text = header.clean(BODY_PART)
    if not text:
        return coded_part(header) or None
    if contradicted(header) and "J3" not in disabled:
        return ""
    if text not in BODY_PARTS and "J2" in disabled:
        return ""
    return recorded_part(header)


def part_meant(readings: Sequence[Reading]) -> str | None:
    """The term for what all instances that say something mean; None where one is not sure."""
    said = [reading.header for reading in readings if reading.header.clean(BODY_PART)]
    terms = {recorded_part(header) for header in said}
    return None if "" in terms else combined(terms) or None


def _named(texts: Iterable[str]) -> str:
    terms = {term_named(text) for text in texts if areas_named(text)}
    return "" if "" in terms else combined(terms)


def _texts(header: TextHeader, keywords: Iterable[str]) -> list[str]:
    return [part for keyword in keywords for part in header.parts(keyword)]


def _series_texts(header: TextHeader) -> list[str]:
    """The words of a series; not 'lung' alone of a CT, which is a kernel or a window."""
    texts = _texts(header, OF_SERIES)
    if header.clean("Modality") != "CT":
        return texts
    return [text for text in texts if terms_named(text) != {"LUNG"}]
