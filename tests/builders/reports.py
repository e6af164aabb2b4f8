"""One study of every kind: what a report can be about.

Nobody's data: UIDs, names and values are made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from dicom_ai_node.answers import (
    Answer,
    Category,
    ImageRef,
    ImageResult,
    LabelProbabilities,
    ModelIdentity,
    Outcome,
    Prediction,
    Quantity,
    Reason,
    SaliencyMap,
    SaliencyMethod,
    StudyResult,
)
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.part10 import file_head
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.report.capture import ExplainedImage
from dicom_ai_node.report.elements import encode, raw_element
from dicom_ai_node.report.modules import named_images
from dicom_ai_node.rules.ages_and_dates import parse_age
from dicom_ai_node.types import AttributeStatus, Finding, HeaderCheck, Proposal, Severity
from tests.builders.answers import age, sex, study_result, with_part
from tests.builders.checks import header_check

MODEL = ModelIdentity("chest-age-sex", "1.0.0", "0123456789abcdef" * 4)
STUDY_UID = uid_of("sample", "study")


def source(number: int = 1, **raw: bytes | None) -> Dataset:
    """Return the header of one image as a receiver reads it, every value still raw.

    ``raw`` replaces values by their bytes, whatever they are; None leaves an attribute out.
    """
    values: dict[str, bytes | None] = {
        "SpecificCharacterSet": b"ISO_IR 100",
        "SOPClassUID": DigitalXRayImageStorageForPresentation.encode(),
        "SOPInstanceUID": uid_of("sample", "instance", str(number)).encode(),
        "StudyDate": b"20240315",
        "StudyTime": b"101500",
        "AccessionNumber": b"A1",
        "Modality": b"DX",
        "ReferringPhysicianName": b"Example^Referrer",
        "StudyDescription": b"Chest PA",
        "PatientName": b"Sample^Patient",
        "PatientID": b"SAMPLE-1",
        "PatientBirthDate": b"19601102",
        "PatientSex": b"F",
        "PatientAge": b"063Y",
        "StudyInstanceUID": STUDY_UID.encode(),
        "SeriesInstanceUID": uid_of("sample", "series").encode(),
        "StudyID": b"1",
        "SeriesNumber": b"1",
        "InstanceNumber": str(number).encode(),
    }
    values |= raw
    return read_raw({tag_of(key): value for key, value in values.items() if value is not None})


def read_raw(values: dict[int, bytes]) -> Dataset:
    """Return a data set of these element values, read back from a file as a receiver would."""
    head = file_head(
        sop_class_uid=DigitalXRayImageStorageForPresentation,
        sop_instance_uid=uid_of("sample", "file"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    elements = [raw_element(tag, dictionary_VR(tag), value) for tag, value in values.items()]
    return pydicom.dcmread(BytesIO(head + encode(elements)))


def image_ref(header: Dataset) -> ImageRef:
    """Return how results name the image of a sample header."""
    return named_images([header], ())[0].image


@dataclass(frozen=True, slots=True)
class Sample:
    """One study: what was read, and what came of it."""

    result: StudyResult
    sources: Sequence[Dataset]


def samples() -> dict[str, Sample]:
    """Return one study of every kind."""
    return {
        "one_image": estimated(1),
        "two_images": estimated(2),
        "one_of_two": _one_of_two(),
        "conflict": _conflict(),
        "half": _half(),
        "uncertain": _uncertain(),
        "sex_other": _sex_other(),
        "abstained": _abstained(),
        "refused": _refused(),
        "header_only": _header_only(),
    }


def check(
    age: AttributeStatus = AttributeStatus.CONSISTENT,
    sex: AttributeStatus = AttributeStatus.CONSISTENT,
    *,
    recorded: tuple[str, str] = ("063Y", "F"),
    birth_date_age: float | None = 63.37,
    findings: Sequence[Finding] = (),
    proposals: Sequence[Proposal] = (),
) -> HeaderCheck:
    """Return a check of the header of :func:`source`, with other recorded values."""
    return header_check(
        age,
        sex,
        recorded=recorded,
        years=parse_age(recorded[0]),
        birth_date_age=birth_date_age,
        findings=findings,
        proposals=proposals,
    )


def estimated(images: int, headers: Sequence[Dataset] | None = None) -> Sample:
    """Return a study of which every image was estimated."""
    headers = headers or [source(number) for number in range(1, images + 1)]
    results = tuple(
        ImageResult(
            image_ref(header),
            Outcome.ESTIMATED,
            prediction=Prediction(
                {"age": age(61.0 + 2 * i, 6.7, (52.0, 74.0)), "sex": sex(0.99)},
                {"chest": 0.999, "frontal": 0.99},
                in_distribution=0.4,
            ),
        )
        for i, header in enumerate(headers)
    )
    result = study_result(
        text_of(headers[0], "StudyInstanceUID"),
        Outcome.ESTIMATED,
        check(),
        images=results,
        answers={"age": age(63.21, 6.71, (52.04, 73.96)), "sex": sex(0.9971)},
        model=MODEL,
    )
    return Sample(result, headers)


def explained(sample: Sample) -> list[ExplainedImage]:
    """Return a made-up map for each head of each estimated image of each part of ``sample``."""
    rising = np.linspace(0, 1, 64, dtype=np.float32)
    pixels = np.outer(rising, rising[::-1])
    drawn = (np.outer(rising, rising), np.outer(rising[::-1], rising))
    made = []
    for number, part in enumerate(sample.result.parts):
        maps = tuple(
            _map(head, answer, values)
            for (head, answer), values in zip(part.stated.items(), drawn, strict=False)
        )
        further = part.model.name if number and part.model else ""
        made += [
            ExplainedImage(one.image, {"": pixels}, maps, further, part.research)
            for one in part.images
            if one.outcome is Outcome.ESTIMATED and maps
        ]
    return made


def _map(head: str, answer: Answer, values: NDArray[np.float32]) -> SaliencyMap:
    label = answer.ordered[0][0] if isinstance(answer, LabelProbabilities) else ""
    method = SaliencyMethod.GRAD_CAM
    return SaliencyMap(head, _KINDS[type(answer)], method, values, flat=False, label=label)


_KINDS: dict[type, str] = {
    Quantity: "quantity",
    Category: "category",
    LabelProbabilities: "findings",
}


def _one_of_two() -> Sample:
    sample = estimated(2)
    reason = Reason("not_frontal", "does not look like a frontal view (probability 0.02)")
    lateral = replace(sample.result.images[1], outcome=Outcome.ABSTAINED, reason=reason)
    images = (sample.result.images[0], lateral)
    return Sample(with_part(sample.result, images=images), sample.sources)


def _conflict() -> Sample:
    sample = estimated(1)
    wording = "inferred characteristics differ from the record"
    findings = [
        Finding("H1", Severity.WARNING, "age", f"{wording}: far outside the 90 % interval"),
        Finding("H2", Severity.WARNING, "sex", f"{wording}: recorded sex has probability 0.003"),
    ]
    conflict = AttributeStatus.CONFLICT_IMAGE
    checked = check(
        conflict, conflict, recorded=("021Y", "M"), birth_date_age=21.2, findings=findings
    )
    header = source(PatientAge=b"021Y", PatientSex=b"M", PatientBirthDate=b"20030101")
    return Sample(replace(sample.result, check=checked), [header])


def _sex_other() -> Sample:
    sample = estimated(1)
    checked = check(sex=AttributeStatus.NOT_ASSESSED, recorded=("063Y", "O"))
    why = Reason("sex_not_assessed", "PatientSex is not assessed in this study")
    answers = {**sample.result.parts[0].answers, "sex": why}
    result = with_part(replace(sample.result, check=checked), answers=answers)
    return Sample(result, [source(PatientSex=b"O")])


def _half() -> Sample:
    """A sex and no age, which the header lacks too."""
    sample = estimated(1)
    checked = check(
        AttributeStatus.MISSING,
        recorded=("", "F"),
        birth_date_age=None,
        findings=[
            Finding("B5", Severity.WARNING, "age", "PatientAge and PatientBirthDate are empty")
        ],
    )
    why = Reason(
        "age_interval_too_wide",
        "the 90 % interval of the age, 31 to 88 years, is wider than 45 years",
    )
    answers = {**sample.result.parts[0].answers, "age": why}
    result = with_part(replace(sample.result, check=checked), answers=answers)
    return Sample(result, [source(PatientAge=b"", PatientBirthDate=b"")])


def _uncertain() -> Sample:
    """Two images of which little can be said, and little is."""
    sample = estimated(2)
    answers = {
        "age": replace(age(60.4, 17.1, (31.2, 88.4)), certain=False),
        "sex": replace(sex(0.62), certain=False),
    }
    return Sample(with_part(sample.result, answers=answers), sample.sources)


def _abstained() -> Sample:
    """The image passed the gates, and the study as a whole did not."""
    sample = estimated(2)
    reason = Reason("too_uncertain", "neither age nor sex is certain enough to be stated")
    result = with_part(
        sample.result, outcome=Outcome.ABSTAINED, reason=reason, answers=_neither(reason)
    )
    return Sample(result, sample.sources)


def _neither(reason: Reason) -> dict[str, Reason]:
    return dict.fromkeys(("age", "sex"), reason)


def _refused() -> Sample:
    """One image whose kind is not analysed, one that could be read but not decoded."""
    sources = [source(1), source(2)]
    kind = Reason("not_projection_radiograph", "The object is not a projection radiograph")
    broken = Reason("undecodable", "The pixel data cannot be decoded")
    images = (
        ImageResult(image_ref(sources[0]), Outcome.REFUSED, reason=kind),
        ImageResult(image_ref(sources[1]), Outcome.REFUSED, reason=broken),
    )
    result = study_result(
        STUDY_UID, Outcome.REFUSED, check(), images=images, reason=kind, answers=_neither(kind)
    )
    return Sample(result, sources)


def _header_only() -> Sample:
    reason = Reason("not_flagged", "header is consistent; policy analyses flagged studies only")
    missing = AttributeStatus.MISSING
    checked = check(
        missing,
        recorded=("", "F"),
        findings=[Finding("B3", Severity.WARNING, "age", "PatientAge is empty")],
        proposals=[Proposal("PatientAge", "063Y", "PatientBirthDate and StudyDate", "B3")],
    )
    result = study_result(
        STUDY_UID, Outcome.HEADER_ONLY, checked, reason=reason, answers=_neither(reason)
    )
    return Sample(result, [source(PatientAge=b"")])
