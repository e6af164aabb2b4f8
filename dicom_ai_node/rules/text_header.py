"""What the rules read of one instance, as it was sent.

Of an Enhanced object the body part of the frames is a functional group (Frame Anatomy, PS3.3
C.7.6.16.2.8): where nothing is said of it at the top, what its frames say stands there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.header import sequence_of
from dicom_ai_node.dicom.values import (
    PADDING,
    as_sent,
    codes,
    encodings,
    raw_element,
    says_something,
    sent,
)

_LATER: Mapping[str, tuple[int, str]] = {
    "GenderIdentitySequence": (0x00100041, "SQ"),
    "SexParametersForClinicalUseCategoryComment": (0x00100042, "UT"),
    "SexParametersForClinicalUseCategorySequence": (0x00100043, "SQ"),
    "GenderIdentityCodeSequence": (0x00100044, "SQ"),
    "GenderIdentityComment": (0x00100045, "UT"),
    "SexParametersForClinicalUseCategoryCodeSequence": (0x00100046, "SQ"),
}
"""What pydicom 3.0 has no keywords for."""
CLINICAL_SEX_PARAMETERS = tuple(_LATER)
"""Sex Parameters for Clinical Use and Gender Identity (PS3.3 C.7.1.1, C.7.2.2)."""
_KEYWORDS = """
    SpecificCharacterSet StudyDate AcquisitionDate AccessionNumber Modality Manufacturer
    StationName StudyDescription SeriesDescription AdmittingDiagnosesDescription
    ManufacturerModelName PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex
    PatientAge PatientSize PatientWeight PregnancyStatus PatientSpeciesDescription
    PatientSpeciesCodeSequence PatientSexNeutered PatientBreedDescription PatientBreedCodeSequence
    ResponsiblePersonRole QualityControlSubject PatientIdentityRemoved DeidentificationMethod
    DeidentificationMethodCodeSequence BodyPartExamined SoftwareVersions ProtocolName ViewPosition
    StudyInstanceUID PhotometricInterpretation QualityControlImage BurnedInAnnotation
    LongitudinalTemporalInformationModified WindowCenter WindowWidth RescaleIntercept RescaleSlope
    LossyImageCompression RequestedProcedureDescription PerformedProcedureStepDescription
    PresentationLUTShape SeriesInstanceUID ImageType Laterality ImageLaterality
    AnatomicRegionSequence ProcedureCodeSequence RequestedProcedureCodeSequence
"""
ELEMENTS: Mapping[str, tuple[int, str]] = {
    **{keyword: (tag_of(keyword), dictionary_VR(keyword)) for keyword in _KEYWORDS.split()},
    **_LATER,
}
"""Tag and VR of each (PS3.6): a file in Implicit VR names none, and a bad one names a wrong one."""

_SHARED_GROUPS, _FRAME_GROUPS = 0x52009229, 0x52009230
_FRAME_ANATOMY, _FRAME_LATERALITY = 0x00209071, 0x00209072

# No attribute above may be longer; a megabyte in PatientAge must not travel through the program.
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class TextHeader:
    """The attributes of one instance that the rules read, each as the text that was sent.

    Values keep their padding; several are joined by a backslash as in the file. Of a sequence the
    code values and meanings of its items are kept. An absent attribute is not in :attr:`values`.
    """

    values: Mapping[str, str] = field(default_factory=dict, hash=False)
    undecodable: frozenset[str] = frozenset()
    """Keywords whose bytes are not text in the SpecificCharacterSet of the instance."""
    transfer_syntax_uid: str = ""
    """'' when the file meta information is not at hand."""

    @classmethod
    def from_dataset(cls, ds: Dataset) -> "TextHeader":
        """Read ``ds``, which may stop before its pixels; no value in it makes this raise."""
        values: dict[str, str] = {}
        undecodable: set[str] = set()
        codecs = encodings(ds)
        for keyword, (tag, vr) in ELEMENTS.items():
            element = raw_element(ds, tag)
            if element is None:
                continue
            values[keyword], is_text = as_sent(element, vr, codecs, longest=_LONGEST)
            if not is_text:
                undecodable.add(keyword)
        for keyword, said in _anatomy_of_frames(ds).items():
            if not says_something(values.get(keyword, "")):
                values[keyword] = said
        return cls(values, frozenset(undecodable), _transfer_syntax(ds))

    def __contains__(self, keyword: str) -> bool:
        """Whether the instance has the attribute, be it empty."""
        return keyword in self.values

    def __getitem__(self, keyword: str) -> str:
        """The value as sent, padding included; '' when absent."""
        return self.values.get(keyword, "")

    def clean(self, keyword: str) -> str:
        """The value without its padding (PS3.5 6.2); '' when absent or nothing but padding."""
        return self[keyword].strip(PADDING)

    def says(self, keyword: str) -> bool:
        """Whether the value says anything: more than padding, delimiters and empty items."""
        return says_something(self[keyword])

    def says_yes(self, keyword: str) -> bool:
        """Whether a flag is YES, in whatever case."""
        return self.clean(keyword).upper() == "YES"

    def parts(self, keyword: str) -> list[str]:
        """The values of a multi-valued attribute, each without its padding."""
        text = self.clean(keyword)
        return [part.strip(PADDING) for part in text.split("\\")] if text else []


def _anatomy_of_frames(ds: Dataset) -> dict[str, str]:
    """Return AnatomicRegionSequence and FrameLaterality of the frames of an Enhanced object.

    The second as ImageLaterality, where all frames that state one state the same; what is said of
    all frames together comes first, and each code once.
    """
    regions: dict[str, None] = {}
    sides: set[str] = set()
    for groups in (_SHARED_GROUPS, _FRAME_GROUPS):
        for group in _items(ds, groups):
            for anatomy in _items(group, _FRAME_ANATOMY):
                region = raw_element(anatomy, ELEMENTS["AnatomicRegionSequence"][0])
                if region is not None:
                    regions |= dict.fromkeys(codes(region).split("\\"))
                side = raw_element(anatomy, _FRAME_LATERALITY)
                if side is not None:
                    sides.add(sent(side.value).strip(PADDING))
    said = {"AnatomicRegionSequence": "\\".join(filter(None, regions))[:_LONGEST]}
    if len(sides) == 1:
        said["ImageLaterality"] = sides.pop()
    return {keyword: text for keyword, text in said.items() if says_something(text)}


def _items(ds: Dataset, tag: int) -> Sequence[Dataset]:
    element = raw_element(ds, tag)
    items = element.value if element is not None else ()
    if isinstance(items, bytes) and isinstance(element, RawDataElement):
        items = sequence_of(element)
    return items if isinstance(items, Items) else ()


def _transfer_syntax(ds: Dataset) -> str:
    meta: object = getattr(ds, "file_meta", None)
    uid: object = meta.get("TransferSyntaxUID") if isinstance(meta, Dataset) else None
    return str(uid) if isinstance(uid, UID) else ""


def usual(headers: Sequence[TextHeader], keyword: str) -> str:
    """The value that most of ``headers`` have, the first of equals; '' where none has one."""
    if len(headers) == 1:
        return headers[0].clean(keyword)
    counts = Counter(filter(None, (header.clean(keyword) for header in headers)))
    return min(counts, key=lambda value: (-counts[value], value), default="")


def distinct(headers: Sequence[TextHeader]) -> tuple[TextHeader, ...]:
    """The different ones among ``headers``, in an order that does not depend on theirs."""
    keyed = {
        (
            tuple(sorted(header.values.items())),
            tuple(sorted(header.undecodable)),
            header.transfer_syntax_uid,
        ): header
        for header in headers
    }
    return tuple(keyed[key] for key in sorted(keyed))
