"""Studies of other questions than age and sex: findings, body region, age from CT, all in one.

Nobody's data, as in :mod:`tests.builders.reports`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    Concept,
    ImageResult,
    LabelProbabilities,
    ModelIdentity,
    Outcome,
    Prediction,
    Reason,
    SeriesResult,
    StudyResult,
    Terms,
)
from dicom_ai_node.dicom.uids import uid_of
from tests.builders.answers import age
from tests.builders.reports import STUDY_UID, Sample, check, estimated, image_ref, source

FINDINGS = LabelProbabilities(
    {"Cardiomegaly": 0.713, "Effusion": 0.42, "Nodule": 0.0312, "Pleural_Thickening": 0.911}
)
FINDING_TERMS = Terms(
    concepts={
        "findings.Cardiomegaly": Concept("8186001", "SCT", "Cardiomegaly"),
        "findings.Effusion": Concept("60046008", "SCT", "Pleural effusion"),
        "findings.Nodule": Concept("27925004", "SCT", "Nodule"),
    }
)
SPAN = Category(
    {"CHESTABDOMEN": 0.934, "PELVIS": 0.066},
    attribute="BodyPartExamined",
    covered=("CHEST", "ABDOMEN"),
)
CHEST, ABDOMEN, BRAIN, KNEE = (
    Category({term: 0.95, other: 0.05}, attribute="BodyPartExamined", covered=(term,))
    for term, other in (
        ("CHEST", "ABDOMEN"), ("ABDOMEN", "CHEST"), ("BRAIN", "KNEE"), ("KNEE", "BRAIN")
    )
)  # fmt: skip
REGION_TERMS = Terms(attributes={"body_region": "BodyPartExamined"})
CT_AGE_TERMS = Terms(attributes={"age": "PatientAge"}, site=Concept("816094009", "SCT", "Chest"))


def question_samples() -> dict[str, Sample]:
    """Return one study of every further kind."""
    return {
        "findings": findings(),
        "no_findings": _no_findings(),
        "region": region(20, 1000),
        "two_regions": region(2, 0),
        "no_region": _no_region(),
        "regions_by_series": regions_by_series(),
        "regions_apart": regions_by_series(BRAIN, KNEE),
        "research": research(),
        "all_at_once": _all_at_once(),
    }


def section_source(number: int, **raw: bytes | None) -> Dataset:
    """Return the header of one section of a CT series."""
    given = {
        "SOPClassUID": CTImageStorage.encode(),
        "Modality": b"CT",
        "SeriesInstanceUID": uid_of("sample", "ct").encode(),
    }
    return source(number, **(given | raw))


def _model(name: str) -> ModelIdentity:
    return ModelIdentity(name, "1.0", f"{len(name):02x}" * 32)


def _part(
    name: str,
    answers: Mapping[str, Answer],
    headers: Sequence[Dataset],
    terms: Terms,
    *,
    research: bool = False,
    offered: int = 0,
) -> BundleResult:
    prediction = Prediction(answers, {}, in_distribution=0.4)
    return BundleResult(
        Outcome.ESTIMATED,
        None,
        tuple(
            ImageResult(image_ref(one), Outcome.ESTIMATED, prediction=prediction) for one in headers
        ),
        answers,
        _model(name),
        (16.0, 90.0),
        research,
        offered,
        len(headers) if offered else 0,
        terms,
    )


def findings() -> Sample:
    """Age and sex, and the findings of the same radiograph by a further bundle."""
    sample = estimated(1)
    part = _part("chest-findings", {"findings": FINDINGS}, sample.sources, FINDING_TERMS)
    return Sample(replace(sample.result, parts=(*sample.result.parts, part)), sample.sources)


def _no_findings() -> Sample:
    """A bundle for findings alone, which the image is not one for."""
    sample = findings()
    why = Reason("not_a_chest", "does not look like a chest radiograph (probability 0.01)")
    (_, part) = sample.result.parts
    images = tuple(replace(one, outcome=Outcome.ABSTAINED, reason=why) for one in part.images)
    silent = replace(
        part, outcome=Outcome.ABSTAINED, reason=why, answers={"findings": why}, images=images
    )
    return Sample(replace(sample.result, parts=(silent,)), sample.sources)


def region(read: int, offered: int) -> Sample:
    """The body region of a CT series, of which so many images of so many were read; 0: all."""
    headers = [section_source(number) for number in range(1, (offered or read) + 1)]
    shown = headers[:: max(1, len(headers) // read)][:read]
    part = _part("ct-mr-region", {"body_region": SPAN}, shown, REGION_TERMS, offered=offered)
    if offered:  # one of them could not be decoded
        why = Reason("undecodable", "the pixel data cannot be decoded")
        lost = ImageResult(part.images[-1].image, Outcome.REFUSED, reason=why)
        part = replace(part, images=(*part.images[:-1], lost), read=read - 1)
    return Sample(StudyResult(STUDY_UID, check(), (part,)), headers)


def regions_by_series(*shown: Category) -> Sample:
    """Series of two images each: a chest beside an abdomen, or what is ``shown``.

    A last one has no answer that is certain enough.
    """
    shown = shown or (CHEST, ABDOMEN)
    series = [uid_of("sample", f"ct-{at}") for at in range(len(shown) + 1)]
    headers = [
        section_source(10 * at + number, SeriesInstanceUID=uid.encode())
        for at, uid in enumerate(series)
        for number in (1, 2)
    ]
    unsure = replace(shown[0], probabilities={"CHEST": 0.5, "ABDOMEN": 0.5})
    of_image = [one for one in (*shown, unsure) for _ in range(2)]
    why = Reason("body_region_uncertain", "not certain enough")
    of_series: list[Answer | Reason] = [*shown, why]
    said = [
        SeriesResult(uid, {"body_region": answer})
        for uid, answer in zip(series, of_series, strict=True)
    ]
    apart = Reason("body_region_differs", "its series show parts that no one term has: BRAIN, KNEE")
    joined: Answer | Reason = SPAN if shown[0] is CHEST else apart
    part = _part("ct-mr-region", {"body_region": SPAN}, headers, REGION_TERMS)
    images = tuple(
        replace(one, prediction=Prediction({"body_region": answer}, {}, 0.4))
        for one, answer in zip(part.images, of_image, strict=True)
    )
    answers = {"body_region": joined}
    part = replace(part, images=images, answers=answers, series=tuple(said))
    return Sample(StudyResult(STUDY_UID, check(), (part,)), headers)


def _no_region() -> Sample:
    sample = region(2, 0)
    (part,) = sample.result.parts
    why = Reason("body_region_uncertain", "no region is certain enough to be stated")
    answers = {"body_region": why}
    silent = replace(part, outcome=Outcome.ABSTAINED, reason=why, answers=answers)
    return Sample(replace(sample.result, parts=(silent,)), sample.sources)


def research() -> Sample:
    """An age from CT that is reported as research alone."""
    headers = [section_source(number) for number in range(1, 4)]
    answers = {"age": age(58.4, 11.2, (37.1, 76.0))}
    part = _part("ct-age-slice", answers, headers, CT_AGE_TERMS, research=True)
    return Sample(StudyResult(STUDY_UID, check(), (part,)), headers)


def _all_at_once() -> Sample:
    x_ray, ct, years = findings(), region(3, 40), research()
    parts = (*x_ray.result.parts, *ct.result.parts, *years.result.parts)
    headers = {str(one.SOPInstanceUID): one for one in (*ct.sources, *years.sources)}
    sources = [source(900), *headers.values()]
    shown = image_ref(sources[0])
    parts = (
        *(replace(one, images=(replace(one.images[0], image=shown),)) for one in parts[:2]),
        *parts[2:],
    )
    return Sample(StudyResult(STUDY_UID, check(), parts), sources)
