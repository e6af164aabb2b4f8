"""Our own check finds what a PACS or a reader would stumble over."""

from collections.abc import Callable, Sequence
from datetime import datetime
from io import BytesIO

import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report import codes
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from tests.builders.reports import samples, source


def content(kind: str = "one_image", *, report: int = 0) -> bytes:
    sample = samples()[kind]
    reports = build_reports(
        sample.result,
        sample.sources,
        settings=ReportSettings(secondary_capture=True),
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    return reports[report].files[0].content


def spoilt(
    change: Callable[[Dataset], object], kind: str = "one_image", *, report: int = 0
) -> bytes:
    ds = pydicom.dcmread(BytesIO(content(kind, report=report)))
    fp = BytesIO()
    with disable_value_validation():
        change(ds)
        pydicom.dcmwrite(fp, ds)
    return fp.getvalue()


def group(ds: Dataset, index: int = 1) -> Dataset:
    """The study's group; that of the header comes first."""
    found: Dataset = ds.ContentSequence[-1].ContentSequence[index]
    return found


def drop(ds: Dataset, concept: str) -> None:
    first = next(
        item for item in ds.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == concept
    )
    ds.ContentSequence.remove(first)


def number(ds: Dataset) -> Dataset:
    items: Sequence[Dataset] = group(ds).ContentSequence
    return next(item for item in items if item.ValueType == "NUM")


@pytest.mark.parametrize("kind", sorted(samples()))
def test_every_kind_passes(kind: str) -> None:
    for report in (0, 1):
        check_report(content(kind, report=report), sources=samples()[kind].sources)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ds: ds.__delattr__("PatientID"), "PatientID is absent"),
        (lambda ds: ds.__setattr__("PatientAge", "064Y"), r"differs from the source.*0010,1010"),
        (lambda ds: ds.__setattr__("SeriesInstanceUID", "1.2."), "SeriesInstanceUID is not a UID"),
        (lambda ds: ds.__setattr__("SOPInstanceUID", "1.2.3"), "names another instance"),
        (lambda ds: ds.__setattr__("VerificationFlag", "VERIFIED"), "verified or final"),
        (lambda ds: ds.__setattr__("Manufacturer", ""), "Manufacturer is absent or empty"),
        (
            lambda ds: ds.CurrentRequestedProcedureEvidenceSequence.clear(),
            "CurrentRequestedProcedureEvidenceSequence is absent or empty",
        ),
        (lambda ds: ds.__delattr__("ContentSequence"), "cannot be read back"),
        (lambda ds: drop(group(ds), codes.SCOPE.value), "one group of scope STUDY"),
        (lambda ds: drop(group(ds), "112040"), "no tracking unique identifier"),
        (lambda ds: drop(number(ds), codes.DERIVATION.value), "told apart by Derivation"),
        (lambda ds: drop(group(ds), codes.AGE_ESTIMATED.value), "told apart by Derivation"),
        (lambda ds: drop(group(ds), "111065"), "numbers without an estimate"),
    ],
)
def test_a_fault_is_named(change: Callable[[Dataset], object], says: str) -> None:
    with pytest.raises(InvalidReport, match=says):
        check_report(spoilt(change), sources=samples()["one_image"].sources)


def test_a_number_in_a_study_that_was_not_analysed_is_a_fault() -> None:
    number_of = number(pydicom.dcmread(BytesIO(content())))
    smuggled = spoilt(lambda ds: group(ds).ContentSequence.append(number_of), "refused")
    with pytest.raises(InvalidReport, match="numbers without an estimate"):
        check_report(smuggled)


def test_a_reference_without_evidence_is_a_fault() -> None:
    def elsewhere(ds: Dataset) -> None:
        ds.ContentSequence[-2].ContentSequence[0].ContentSequence[0].ReferencedSOPSequence[
            0
        ].ReferencedSOPInstanceUID = "1.2.3"

    with pytest.raises(InvalidReport, match="not among the evidence"):
        check_report(spoilt(elsewhere))


def test_a_source_that_is_not_named_is_a_fault() -> None:
    sources = [*samples()["one_image"].sources, source(9)]
    with pytest.raises(InvalidReport, match="1 images that were read are not named"):
        check_report(content(), sources=sources)


def test_a_capture_of_the_wrong_size_is_a_fault() -> None:
    short = spoilt(lambda ds: ds.__setattr__("Rows", 10), report=1)
    with pytest.raises(InvalidReport, match="does not fit"):
        check_report(short)


def test_an_object_of_somebody_else_is_not_ours() -> None:
    def strip(ds: Dataset) -> None:
        for keyword in (
            "InstanceCreatorUID",
            "ContributingEquipmentSequence",
            "CodingSchemeIdentificationSequence",
        ):
            delattr(ds, keyword)

    with pytest.raises(InvalidReport, match="not marked"):
        check_report(spoilt(strip))


@pytest.mark.parametrize("junk", [b"", b"DICM", bytes(200), content()[:3000]])
def test_what_cannot_be_read_is_an_invalid_report(junk: bytes) -> None:
    with pytest.raises(InvalidReport, match=r"cannot be read back|is absent|there must be"):
        check_report(junk)
