"""The content tree: TID 1500 Imaging Measurement Report around the measurement groups.

Subject Age and Subject Sex (TID 1007) are AS RECORDED in the header, and left out where the record
is empty or cannot be read: what a network inferred stands in the measurement groups alone.
"""

from collections.abc import Sequence

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.uid import UID

from dicom_ai_node.answers import StudyResult
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.marks import software_version
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.report import codes
from dicom_ai_node.report.groups import answer_groups
from dicom_ai_node.report.header_group import header_group
from dicom_ai_node.report.identity import ReportIdentity
from dicom_ai_node.report.modules import NamedImage, recorded_age, told_images
from dicom_ai_node.report.text import summary
from dicom_ai_node.types import HeaderCheck


def content_tree(
    result: StudyResult,
    images: Sequence[NamedImage],
    *,
    identity: ReportIdentity,
    settings: ReportSettings,
) -> Dataset:
    """Return the root content item of the report on ``result``; ``images`` are all of its study."""
    told = told_images(images, result.images)
    report = MeasurementReport(
        observation_context=_observation_context(result.check, settings),
        procedure_reported=codes.PROCEDURE,
        imaging_measurements=[
            header_group(
                result.check,
                [one.image for one in images],
                identity=identity,
                settings=settings,
            ),
            *answer_groups(
                result, [one.image for one in told], identity=identity, settings=settings
            ),
        ],
        title=standard.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            codes.LANGUAGE
        ),
    )
    root: Dataset = report[0]
    measurements = root.ContentSequence.pop()
    conclusion = TextContentItem(codes.SUMMARY, summary(result), "CONTAINS")
    root.ContentSequence.extend([conclusion, _image_library(told), measurements])
    _separate(root)
    return root


def _separate(item: Dataset) -> None:
    """Mark every container SEPARATE (PS3.3 C.18.8): CONTINUOUS, which highdicom writes, asks
    renderers to run the values together as one text, and then they leave their names out."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        _separate(child)


def device_uid(settings: ReportSettings) -> str:
    """Return the UID of this installation, which follows from how it names itself."""
    return uid_of(
        "device", settings.manufacturer, settings.model_name, settings.device_serial_number
    )


def _observation_context(check: HeaderCheck, settings: ReportSettings) -> ObservationContext:
    """TID 1001: the device that observed (TID 1004) and the patient observed (TID 1006)."""
    device = DeviceObserverIdentifyingAttributes(
        uid=UID(device_uid(settings)),
        name=settings.device_name,
        manufacturer_name=settings.manufacturer,
        model_name=f"{settings.model_name} ({software_version()})",
        serial_number=settings.device_serial_number,
    )
    context = ObservationContext(
        observer_device_context=ObserverContext(standard.DCM.Device, device),
    )
    context.extend(_subject(check))
    return context


def _subject(check: HeaderCheck) -> list[Dataset]:
    """TID 1006 with TID 1007 Subject Context, Patient, of which highdicom has no template."""
    relationship = "HAS OBS CONTEXT"
    items = [CodeContentItem(codes.SUBJECT_CLASS, codes.PATIENT, relationship)]
    sex = codes.SEX.get(check.attributes["PatientSex"].recorded.strip())
    if sex is not None:
        items.append(CodeContentItem(codes.SUBJECT_SEX, sex, relationship))
    age = recorded_age(check)
    if age is not None:
        items.append(
            NumContentItem(codes.SUBJECT_AGE, age[0], age[1], relationship_type=relationship)
        )
    return items


def _image_library(images: Sequence[NamedImage]) -> Dataset:
    """TID 1600 with the one mandatory descriptor of TID 1602, Modality.

    Built by hand: highdicom's takes Rows, ImagerPixelSpacing and PatientOrientation for granted
    and raises on the Secondary Captures that many archives hold radiographs as.
    """
    group: Dataset = ContainerContentItem(codes.IMAGE_LIBRARY_GROUP, relationship_type="CONTAINS")
    group.ContentSequence = ContentSequence([_library_entry(one) for one in images])
    library: Dataset = ContainerContentItem(codes.IMAGE_LIBRARY, relationship_type="CONTAINS")
    library.ContentSequence = ContentSequence([group])
    return library


def _library_entry(named: NamedImage) -> Dataset:
    entry: Dataset = ImageContentItem(
        name=CodedConcept("260753009", "SCT", "Source"),
        referenced_sop_class_uid=named.image.sop_class_uid,
        referenced_sop_instance_uid=named.image.sop_instance_uid,
        relationship_type="CONTAINS",
    )
    modality = codes.MODALITIES.get(named.modality, codes.MODALITIES["OT"])
    entry.ContentSequence = ContentSequence(
        [CodeContentItem(codes.MODALITY, modality, "HAS ACQ CONTEXT")]
    )
    return entry
