"""Our own check of a report before it is sent; one that fails is quarantined.

No process and no network: what a PACS or a viewer refuses a report for is looked at here in
milliseconds. The foreign validators are for the tests.
"""

import struct
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import BytesIO

import pydicom
from highdicom.sr import MeasurementReport
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_ai_node.answers import StudyResult, Terms
from dicom_ai_node.dicom.classes import REPORTS, SECONDARY_CAPTURE
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.marks import is_own_report
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report import codes
from dicom_ai_node.report.elements import encode, verbatim
from dicom_ai_node.report.modules import MOST_IMAGES, TYPE_2, differing, ordered

_FOREIGN = (
    InvalidDicomError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RuntimeError,
    NotImplementedError,
    OSError,
    EOFError,
    struct.error,
)
"""What pydicom and highdicom raise on objects that they do not understand."""

_FILLED = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SeriesNumber Modality"
    " InstanceNumber ContentDate ContentTime Manufacturer ManufacturerModelName"
    " DeviceSerialNumber SoftwareVersions"
)
_FILLED_SR = (
    "CompletionFlag VerificationFlag PreliminaryFlag ValueType ConceptNameCodeSequence"
    " ContentSequence ContentTemplateSequence CurrentRequestedProcedureEvidenceSequence"
)
_ROOT = (
    "ValueType",
    "ConceptNameCodeSequence",
    "ContinuityOfContent",
    "ContentTemplateSequence",
    "ContentSequence",
)
_Asked = tuple[tuple[str, str], ...]
"""Of one part: the name of each head, and the code value of its concept."""
_FILLED_SC = "ConversionType BurnedInAnnotation SourceImageSequence Rows Columns PixelData"


def check_report(
    content: bytes,
    *,
    sources: Sequence[Dataset] | None = None,
    subject: str = "",
    result: StudyResult | None = None,
) -> None:
    """Read a report back and raise unless it may be sent.

    Parameters
    ----------
    content
        The file, as in :class:`~dicom_ai_node.report.identity.ReportFile`.
    sources
        Headers of all images that were read for the study. When given, patient and study must be
        those of the source to the byte, and every source must stand among the evidence.
    subject
        SOP Instance UID of the one image that the report is about, as in
        :class:`~dicom_ai_node.report.identity.EncodedReport`: then that one must be named and no
        other.
    result
        What a Structured Report was made of: of each head of each part it must give the answer or
        say why it does not. None: a report of one part, on age and sex.

    Raises InvalidReport: names what is wrong.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values copied from the source may be malformed
        try:
            faults = list(_faults(content, sources, subject, _asked(result)))
        except _FOREIGN as error:
            raise InvalidReport(f"cannot be read back: {type(error).__name__}: {error}") from error
    if faults:
        raise InvalidReport("; ".join(faults))


def _asked(result: StudyResult | None) -> tuple[_Asked, ...]:
    if result is None:
        return (tuple((head, codes.concept(head, Terms()).value) for head in ("age", "sex")),)
    return tuple(
        tuple((head, codes.concept(head, part.terms).value) for head in part.answers)
        for part in result.parts
    )


def _faults(
    content: bytes, sources: Sequence[Dataset] | None, subject: str, asked: tuple[_Asked, ...]
) -> Iterator[str]:
    report = pydicom.dcmread(BytesIO(content))
    yield from _module_faults(report)
    if sources is not None:
        changed = differing(report, ordered(sources)[0])
        if changed:
            yield f"patient or study differs from the source in {', '.join(changed)}"
    if report.SOPClassUID == SECONDARY_CAPTURE:
        yield from _capture_faults(report)
        named = {item.ReferencedSOPInstanceUID for item in report.get("SourceImageSequence", ())}
        if sources is not None and not subject:
            sources = _first_of_each(sources, named)
    else:
        named = set(_evidence(report))
        yield from _evidence_faults(report, named)
        yield from _tree_faults(encode(_root(report)), asked)
    absent = {text_of(ds, "SOPInstanceUID") for ds in sources or ()} - named
    if subject:
        if named != {subject}:
            yield f"names {len(named)} images, expected the one that it is about"
    elif absent:
        yield f"{len(absent)} images that were read are not named"


def _module_faults(report: FileDataset) -> Iterator[str]:
    of_kind = {SECONDARY_CAPTURE: _FILLED_SC} | dict.fromkeys(REPORTS, _FILLED_SR)
    if report.SOPClassUID not in of_kind:
        yield f"unexpected SOP class {report.SOPClassUID}"
    for keyword in f"{_FILLED} {of_kind.get(report.SOPClassUID, '')}".split():
        if not report.get_item(keyword) or not report.get_item(keyword).value:
            yield f"{keyword} is absent or empty"
    for tag in TYPE_2:
        if tag not in report:
            yield f"{pydicom.datadict.keyword_for_tag(tag)} is absent"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not UID(text_of(report, keyword)).is_valid:
            yield f"{keyword} is not a UID"
    if report.file_meta.get("MediaStorageSOPInstanceUID") != report.get("SOPInstanceUID"):
        yield "file meta information names another instance"
    if not is_own_report(report):
        yield "not marked as made by this program"


def _capture_faults(report: FileDataset) -> Iterator[str]:
    values = report.get("Rows", 0) * report.get("Columns", 0) * report.get("SamplesPerPixel", 0)
    if _stored_values(report) != values:
        yield "PixelData does not fit Rows, Columns and SamplesPerPixel"
    if report.get("BurnedInAnnotation") != "YES":
        yield "BurnedInAnnotation is not YES"


def _first_of_each(sources: Sequence[Dataset], named: set[str]) -> Sequence[Dataset]:
    """Return the sources that a capture must name: all, or of many one of each series."""
    if len(sources) <= MOST_IMAGES:
        return sources
    first = {
        text_of(ds, "SeriesInstanceUID"): ds
        for ds in sorted(sources, key=lambda ds: text_of(ds, "SOPInstanceUID") in named)
    }
    return list(first.values())


def _stored_values(report: FileDataset) -> int:
    """Return how many values the pixel data hold; 0 where compressed ones do not fit the header."""
    if not report.file_meta.TransferSyntaxUID.is_compressed:
        return len(report.get("PixelData", b""))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # how pydicom says that there is more, or less
        try:
            return report.pixel_array.size
        except (UserWarning, RuntimeError):
            return 0


def _evidence(report: Dataset) -> Iterator[str]:
    for study in report.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for instance in series.ReferencedSOPSequence:
                yield instance.ReferencedSOPInstanceUID


def _evidence_faults(report: Dataset, evidence: set[str]) -> Iterator[str]:
    if report.VerificationFlag != "UNVERIFIED" or report.PreliminaryFlag != "PRELIMINARY":
        yield "claims to be verified or final"
    for item in _items(report):
        for reference in item.get("ReferencedSOPSequence", ()):
            if reference.ReferencedSOPInstanceUID not in evidence:
                yield f"{item.ValueType} refers to an instance that is not among the evidence"


def _root(report: Dataset) -> list[RawDataElement]:
    copies = (verbatim(report, tag_of(keyword)) for keyword in _ROOT)
    return [copy for copy in copies if copy is not None]


def _items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", ()):
        yield item
        yield from _items(item)


@lru_cache(maxsize=4)
def _tree_faults(tree: bytes, asked: tuple[_Asked, ...]) -> tuple[str, ...]:
    """Check a content tree, once for the objects of all SOP classes that carry it."""
    root = read_dataset(BytesIO(tree), is_implicit_VR=False, is_little_endian=True)
    # what highdicom.sr.srread does, without the copies of patient and study
    groups = MeasurementReport.from_sequence([root]).get_image_measurement_groups()
    return tuple(_group_faults([group[0] for group in groups], asked))


def _group_faults(groups: Sequence[Dataset], asked: Sequence[_Asked]) -> Iterator[str]:
    scopes = [_answers(group, codes.SCOPE) for group in groups]
    by_series = [codes.SCOPE_SERIES.value] in scopes
    for kind, count in ((codes.SCOPE_STUDY, len(asked)), (codes.SCOPE_HEADER, 1)):
        if scopes.count([kind.value]) != count:
            expected = "one group" if count == 1 else f"{count} groups"
            yield f"there must be {expected} of scope {kind.value}"
    for group, scope in zip(groups, scopes, strict=True):
        uids = [item.UID for item in group.ContentSequence if item.ValueType == "UIDREF"]
        if len(uids) != 1 or not UID(uids[0]).is_valid:
            yield "a group has no tracking unique identifier"
        if scope != [codes.SCOPE_HEADER.value]:
            of_study = scope == [codes.SCOPE_STUDY.value]
            yield from _estimate_faults(group, elsewhere=by_series and of_study)
    studies = [
        group
        for group, scope in zip(groups, scopes, strict=True)
        if scope == [codes.SCOPE_STUDY.value]
    ]
    for group, heads in zip(studies, asked, strict=False):  # their number is a fault of its own
        yield from _silence_faults(group, heads)


def _estimate_faults(group: Dataset, *, elsewhere: bool) -> Iterator[str]:
    """Find what is wrong with estimates; ``elsewhere``: those of a study may be of its series."""
    numbers = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    inferred = [item for item in group.ContentSequence if _is_inferred(item)]
    succeeded = _answers(group, codes.SUMMARY_OF_ANALYSES) == [codes.SUCCEEDED.value]
    if succeeded != bool(inferred) and not (succeeded and elsewhere):
        yield "a group has numbers without an estimate, or an estimate without numbers"
    concepts = {_code_value(item.ConceptNameCodeSequence[0]) for item in numbers}
    for concept in sorted(concepts):
        own = [n for n in numbers if _code_value(n.ConceptNameCodeSequence[0]) == concept]
        derivations = sorted(_answers(number, codes.DERIVATION) for number in own)
        if derivations != sorted([code.value] for code in codes.DERIVATIONS[: len(own)]):
            yield "numbers of a group cannot be told apart by Derivation"


def _is_inferred(item: Dataset) -> bool:
    """Whether a content item is an answer: a number, or a code with its certainty."""
    return item.ValueType == "NUM" or bool(_answers(item, codes.DERIVATION))


def _silence_faults(group: Dataset, heads: _Asked) -> Iterator[str]:
    """Find what the study's group neither states nor says why it does not."""
    stated = {
        _code_value(item.ConceptNameCodeSequence[0])
        for item in group.ContentSequence
        if _is_inferred(item)
    }
    for head, concept in heads:
        if (concept in stated) == bool(_answers(group, codes.no_answer(head))):
            yield f"{head} is neither stated nor is said why, or both"


def _answers(parent: Dataset, name: Code) -> list[str]:
    """Return the code values of the children of ``parent`` with that concept name."""
    return [
        _code_value(item.ConceptCodeSequence[0])
        for item in parent.get("ContentSequence", ())
        if item.ValueType == "CODE" and _code_value(item.ConceptNameCodeSequence[0]) == name.value
    ]


def _code_value(code: Dataset) -> str:
    """Return a code value, also one of more than 16 characters (PS3.3 8.1)."""
    return str(code.get("CodeValue") or code.LongCodeValue)
