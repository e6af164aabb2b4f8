"""The measurement groups (TID 1501): what was inferred, what was not and why, and the header check.

Groups, in this order; each bears a private code SCOPE so that no reader has to guess:

1. ``HEADER``, exactly once: the check of the recorded age and sex.
2. Of each part of the result, that is of each bundle that accepts something of the study:

   a. ``STUDY``, exactly once: the answer for the study. Where one image was estimated, or the part
      has one image, that image's group is this one, with the values of the study.
   b. ``IMAGE``, once per remaining image: its own estimate beside the pooled one, or why it has
      none.

Where several images were estimated, the STUDY group names all of them as source of measurement, and
each of its numbers is INFERRED FROM all of them; the IMAGE groups hold the estimate of each.

A group without an estimate holds no NUM: a status (CID 6042), quality, reason and comment instead.
Where a head alone has no answer, a coded reason and a comment say why.
The NUMs of the HEADER group are the record itself, under other concepts (Age Reported, Age
calculated), and stand in every report. Its status codes are private, because the standard has none
for a wrong record.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    ContentSequence,
    FindingSite,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    QualitativeEvaluation,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    ImageRef,
    ImageResult,
    ModelIdentity,
    Outcome,
    Quantity,
    Reason,
    StudyResult,
    Terms,
)
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.report import codes, text
from dicom_ai_node.report.identity import ReportIdentity
from dicom_ai_node.report.modules import recorded_age
from dicom_ai_node.types import HeaderCheck

TITLE = "Header audit"


@dataclass(frozen=True, slots=True)
class _Group:
    """What one group says."""

    part: BundleResult
    """The part of the result that it belongs to."""
    number: int
    """Which of the parts that is, from 0 on."""
    scope: Code
    title: str
    images: tuple[ImageRef, ...]
    outcome: Outcome
    reason: Reason | None
    answers: Mapping[str, Answer]
    """What is stated, by the name of the head."""
    seen: bool
    """Whether the network saw the images."""
    unanswered: Mapping[str, Reason] = field(default_factory=dict)
    """Why other heads are not stated."""


def measurement_groups(
    result: StudyResult,
    references: Sequence[ImageRef],
    *,
    identity: ReportIdentity,
    settings: ReportSettings,
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Return the groups of a report; ``references`` are all images of the study that it names."""
    header = header_group(result.check, references, identity=identity, settings=settings)
    return [
        header,
        *(
            _encoded(group, identity=identity, settings=settings)
            for number, part in enumerate(result.parts)
            for group in _groups(part, number, result.check, references)
        ),
    ]


def _groups(
    part: BundleResult, number: int, check: HeaderCheck, references: Sequence[ImageRef]
) -> list[_Group]:
    images = sorted(part.images, key=lambda one: one.image.sop_instance_uid)
    estimated = [one for one in images if one.outcome is Outcome.ESTIMATED]
    answering = estimated if part.outcome is Outcome.ESTIMATED else images
    spoken_for = answering if len(answering) == 1 else []
    rest = [one for one in images if one not in spoken_for]
    reported = text.reported(part, check) if part.outcome is Outcome.ESTIMATED else {}
    study = _Group(
        part,
        number,
        scope=codes.SCOPE_STUDY,
        title="Study",
        images=tuple(one.image for one in answering) or tuple(references),
        outcome=part.outcome,
        reason=part.reason,
        answers=reported,
        seen=any(one.prediction is not None for one in answering),
        unanswered=part.unanswered,
    )
    others = [
        _of_image(one, part, number, f"Image {at}", reported) for at, one in enumerate(rest, 1)
    ]
    return [study, *others]


def _of_image(
    one: ImageResult, part: BundleResult, number: int, title: str, reported: Iterable[str]
) -> _Group:
    """An image says no more than its study: what the study withholds, its images withhold too."""
    withheld = part.outcome is not Outcome.ESTIMATED and one.outcome is Outcome.ESTIMATED
    outcome = part.outcome if withheld else one.outcome
    answers: dict[str, Answer] = {}
    if one.prediction is not None and outcome is Outcome.ESTIMATED:
        answers = {name: one.prediction.answers[name] for name in reported}
    return _Group(
        part,
        number,
        scope=codes.SCOPE_IMAGE,
        title=title,
        images=(one.image,),
        outcome=outcome,
        reason=part.reason if withheld else one.reason,
        answers=answers,
        seen=one.prediction is not None,
        unanswered=part.unanswered if one.outcome is Outcome.ESTIMATED else {},
    )


def _encoded(
    group: _Group, *, identity: ReportIdentity, settings: ReportSettings
) -> MeasurementsAndQualitativeEvaluations:
    sources = [(one.sop_class_uid, one.sop_instance_uid) for one in group.images]
    subject = sources[0][1] if len(sources) == 1 else identity.study_instance_uid
    model = group.part.model
    further = [str(group.number)] if group.number else []  # two bundles may see the same image
    encoded = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(uid_of("tracking", subject, model.sha256 if model else "", *further)),
            identifier=" ".join([group.title, *(f"(part {group.number + 1})" for _ in further)]),
        ),
        finding_sites=[FindingSite(codes.finding_site(group.part.terms))],
        algorithm_id=_network(model, group, settings) if model and group.seen else None,
        measurements=list(_measurements(group, sources)) or None,
        qualitative_evaluations=_evaluations(group),
        source_images=[SourceImageForMeasurementGroup(*source) for source in sources],
    )
    encoded[0].ContentSequence.extend(_comments(group))
    return encoded


def _network(
    model: ModelIdentity, group: _Group, settings: ReportSettings
) -> AlgorithmIdentification:
    """TID 4019 Algorithm Identification of the network."""
    parameters = [f"images pooled: {len(group.images)}"]
    answers = group.answers.values()
    # What has no answer may be a quantity: only where all have answers it is sure that none is.
    if group.unanswered or not answers or any(isinstance(one, Quantity) for one in answers):
        parameters.append("prediction interval: 90 %, calibrated")
    return AlgorithmIdentification(
        name=text.plain(model.name),
        version=f"{text.plain(model.version)} sha256:{model.sha256}",
        parameters=parameters,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=settings.manufacturer,
    )


def _measurements(group: _Group, sources: Sequence[tuple[str, str]]) -> Iterator[Measurement]:
    """Yield four NUMs of one concept (TID 300) for each quantity.

    Derivation tells them apart: the first is the estimate.
    """
    for head, answer in group.answers.items():
        if isinstance(answer, Quantity):
            numbers = (answer.mu, answer.sigma, *answer.interval90)
            for derivation, value in zip(codes.DERIVATIONS, numbers, strict=True):
                yield Measurement(
                    name=codes.concept(head, group.part.terms),
                    value=round(float(value), 1),
                    unit=codes.unit_code(answer.unit),
                    derivation=derivation,
                    referenced_images=[SourceImageForMeasurement(*source) for source in sources],
                )


def _evaluations(group: _Group) -> list[QualitativeEvaluation]:
    evaluations = [
        QualitativeEvaluation(codes.SCOPE, group.scope),
        QualitativeEvaluation(
            codes.SUMMARY_OF_ANALYSES, codes.summary_code(group.outcome, group.reason)
        ),
    ]
    for head, answer in group.answers.items():
        if isinstance(answer, Category):
            said = [(answer.value, answer.certainty)]
        else:
            said = [] if isinstance(answer, Quantity) else list(answer.probabilities.items())
        evaluations += [_evaluation(head, value, share, group.part.terms) for value, share in said]
    if group.outcome in codes.QUALITY:
        evaluations.append(
            QualitativeEvaluation(codes.QUALITY_ASSESSMENT, codes.QUALITY[group.outcome])
        )
    if group.reason is not None and group.outcome is not Outcome.ESTIMATED:
        evaluations.append(
            QualitativeEvaluation(codes.QUALITY_FINDING, codes.reason_code(group.reason))
        )
    evaluations += [
        QualitativeEvaluation(codes.no_answer(head), codes.reason_code(reason))
        for head, reason in group.unanswered.items()
    ]
    return evaluations


def _evaluation(head: str, value: str, probability: float, terms: Terms) -> QualitativeEvaluation:
    """Return a value of a category, or a label of findings, with how probable it is."""
    evaluation = QualitativeEvaluation(
        codes.concept(head, terms), codes.value_code(head, value, terms)
    )
    evaluation[0].ContentSequence = ContentSequence(
        [
            CodeContentItem(codes.DERIVATION, codes.ESTIMATED, "HAS CONCEPT MOD"),
            NumContentItem(
                codes.CERTAINTY,
                text.percent(probability),
                codes.PERCENT,
                relationship_type="HAS PROPERTIES",
            ),
        ]
    )
    return evaluation


def _comments(group: _Group) -> list[TextContentItem]:
    lines = []
    if group.scope is codes.SCOPE_STUDY:
        lines.append(text.DISCLAIMER)
    if group.outcome is not Outcome.ESTIMATED:
        lines.append(f"No estimate: {text.reason_line(group.reason)}")
    own = {group.reason.code} if group.reason else set()
    lines += [
        f"No {head}: {text.reason_line(reason)}"
        for head, reason in group.unanswered.items()
        if reason.code not in own
    ]
    return [TextContentItem(codes.COMMENT, line, "CONTAINS") for line in lines]


def header_group(
    check: HeaderCheck,
    references: Sequence[ImageRef],
    *,
    identity: ReportIdentity,
    settings: ReportSettings,
    concepts: Mapping[str, Code] = codes.RECORDED_STATUS,
) -> MeasurementsAndQualitativeEvaluations:
    """Return the group (TID 1501) with the rules engine as its algorithm (TID 4019).

    ``concepts`` names the status of each attribute under check.
    """
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(uid_of("tracking", TITLE, identity.study_instance_uid)),
            identifier=TITLE,
        ),
        algorithm_id=AlgorithmIdentification(
            name="Header rules",
            version=text.plain(identity.rules_version),
            manufacturer=settings.manufacturer,
        ),
        measurements=_ages(check) or None,
        qualitative_evaluations=[
            QualitativeEvaluation(codes.SCOPE, codes.SCOPE_HEADER),
            *(
                QualitativeEvaluation(concepts[keyword], codes.status_code(row.status))
                for keyword, row in check.attributes.items()
            ),
        ],
        source_images=[
            SourceImageForMeasurementGroup(one.sop_class_uid, one.sop_instance_uid)
            for one in references
        ],
    )
    group[0].ContentSequence.extend(
        TextContentItem(codes.COMMENT, line, "CONTAINS") for line in _lines(check)
    )
    return group


def _ages(check: HeaderCheck) -> list[Measurement]:
    ages = []
    reported = recorded_age(check)
    if reported is not None:
        ages.append(Measurement(name=codes.AGE_REPORTED, value=reported[0], unit=reported[1]))
    if check.birth_date_age is not None:
        years = round(float(check.birth_date_age), 1)
        ages.append(Measurement(name=codes.AGE_CALCULATED, value=years, unit=codes.YEAR))
    return ages


def _lines(check: HeaderCheck) -> list[str]:
    lines = [f"As recorded: {text.recorded_line(check)}"]
    lines.append("Rules that fired: " + (text.plain(", ".join(check.rules)) or "none"))
    lines.extend(text.finding_lines(check))
    if text.differs(check):
        lines.append(text.DIFFERS)
    return lines
