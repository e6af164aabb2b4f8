"""The measurement groups (TID 1501) of the answers: what was inferred, and what was not and why.

Each bears a private code SCOPE so that no reader has to guess. After the one of scope ``HEADER``
(:mod:`dicom_ai_node.report.header_group`) come, of each part of the result, that is of each bundle
that accepts something of the study:

1. ``STUDY``, exactly once: the answer for the study. Where one image was estimated, or the part
   has one image, that image's group is this one, with the values of the study.
2. ``SERIES``, once per series, where not all series have the same answer to what is held against an
   attribute of the series, :data:`MOST_IMAGES` of them at most. STUDY then gives the one term for
   all, or says that there is none.
3. ``IMAGE``, once per remaining image: its own estimate beside the pooled one, or why it has
   none. Not where a sample of the images was read, or more than :data:`MOST_IMAGES`: then the
   STUDY group counts those that have none.

Where several images were estimated, the STUDY group names all of them as source of measurement, and
each of its numbers is INFERRED FROM all of them; the IMAGE groups hold the estimate of each.

A group without an estimate holds no NUM: a status (CID 6042), quality, reason and comment instead.
Where a head alone has no answer, a coded reason and a comment say why.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
    LabelProbabilities,
    ModelIdentity,
    Outcome,
    Quantity,
    Reason,
    SeriesResult,
    StudyResult,
    as_certain_as,
)
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.report import codes, text, words
from dicom_ai_node.report.identity import ReportIdentity
from dicom_ai_node.report.modules import MOST_IMAGES
from dicom_ai_node.types import HeaderCheck


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
    counted: tuple[str, ...] = ()
    """Of images that have no group of their own: how many have no answer, and why; of more series
    than have one, how many show what."""
    series_uid: str = ""
    """Of a group of one series."""


def answer_groups(
    result: StudyResult,
    references: Sequence[ImageRef],
    *,
    identity: ReportIdentity,
    settings: ReportSettings,
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Return the groups of all parts; ``references`` are the images that the report speaks of."""
    return [
        _encoded(group, identity=identity, settings=settings)
        for number, part in enumerate(result.parts)
        for group in _groups(part, number, result.check, references)
    ]


def _groups(
    part: BundleResult, number: int, check: HeaderCheck, references: Sequence[ImageRef]
) -> list[_Group]:
    images = sorted(part.images, key=lambda one: one.image.sop_instance_uid)
    estimated = [one for one in images if one.outcome is Outcome.ESTIMATED]
    answering = estimated if part.outcome is Outcome.ESTIMATED else images
    spoken_for = answering if len(answering) == 1 else []
    rest = [one for one in images if one not in spoken_for]
    many = bool(part.offered) or len(images) > MOST_IMAGES
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
        counted=tuple(text.counted_reasons(rest)) if many else (),
    )
    if len(part.differing) > MOST_IMAGES:
        study = replace(study, counted=(*study.counted, *text.series_lines(part)))
    series = [
        _of_series(one, part, number, f"Series {at}", estimated)
        for at, one in enumerate(part.differing[:MOST_IMAGES], 1)
    ]
    of_series = {one.series_instance_uid: one for one in part.series}
    others = [] if many else [
        _of_image(one, part, number, f"Image {at}", reported,
                  of_series.get(one.image.series_instance_uid))
        for at, one in enumerate(rest, 1)
    ]  # fmt: skip
    return [study, *series, *others]


def _of_series(
    one: SeriesResult,
    part: BundleResult,
    number: int,
    title: str,
    estimated: Sequence[ImageResult],
) -> _Group:
    uid = one.series_instance_uid
    reasons = [answer for answer in one.answers.values() if isinstance(answer, Reason)]
    return _Group(
        part,
        number,
        scope=codes.SCOPE_SERIES,
        title=title,
        images=tuple(each.image for each in estimated if each.image.series_instance_uid == uid),
        outcome=Outcome.ESTIMATED if one.stated else Outcome.ABSTAINED,
        reason=None if one.stated else reasons[0],
        answers=one.stated,
        seen=True,
        unanswered={
            name: answer for name, answer in one.answers.items() if isinstance(answer, Reason)
        },
        series_uid=uid,
    )


def _of_image(
    one: ImageResult,
    part: BundleResult,
    number: int,
    title: str,
    reported: Collection[str],
    series: SeriesResult | None,
) -> _Group:
    """An image says no more than its study, or its series where that has answers of its own."""
    said = part.answers_of(one.image.series_instance_uid)
    reasons = {name: why for name, why in said.items() if isinstance(why, Reason)}
    outcome, reason = one.outcome, one.reason
    if outcome is Outcome.ESTIMATED and part.outcome is not Outcome.ESTIMATED:
        outcome, reason = part.outcome, part.reason
    elif outcome is Outcome.ESTIMATED and series and len(reasons) == len(said):
        outcome, reason = Outcome.ABSTAINED, next(iter(reasons.values()))
    own = series.answers if series else {}
    answers: dict[str, Answer] = {}
    if one.prediction is not None and outcome is Outcome.ESTIMATED:
        names = [name for name in said if name not in reasons and (name in reported or name in own)]
        answers = {name: as_certain_as(one.prediction.answers[name], said[name]) for name in names}
    return _Group(
        part,
        number,
        scope=codes.SCOPE_IMAGE,
        title=title,
        images=(one.image,),
        outcome=outcome,
        reason=reason,
        answers=answers,
        seen=one.prediction is not None,
        unanswered=reasons if one.outcome is Outcome.ESTIMATED else {},
    )


def _encoded(
    group: _Group, *, identity: ReportIdentity, settings: ReportSettings
) -> MeasurementsAndQualitativeEvaluations:
    sources = [(one.sop_class_uid, one.sop_instance_uid) for one in group.images]
    subject = sources[0][1] if len(sources) == 1 else identity.study_instance_uid
    subject = group.series_uid or subject
    model = group.part.model
    further = [str(group.number)] if group.number else []  # two bundles may see the same image
    sites = codes.finding_sites(group.answers, group.part.terms)
    encoded = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(uid_of("tracking", subject, model.sha256 if model else "", *further)),
            identifier=" ".join([group.title, *(f"(part {group.number + 1})" for _ in further)]),
        ),
        finding_sites=[FindingSite(site) for site in sites] or None,
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
    part = group.part
    sample = f", a sample of {part.read} of {part.offered}" if part.offered else ""
    parameters = [f"images pooled: {len(group.images)}{sample}"]
    answers = group.answers.values()
    # What has no answer may be a quantity: only where all have answers it is sure that none is.
    if group.unanswered or not answers or any(isinstance(one, Quantity) for one in answers):
        parameters.append("prediction interval: 90 %, calibrated")
    return AlgorithmIdentification(
        name=words.plain(model.name),
        version=f"{words.plain(model.version)} sha256:{model.sha256}",
        parameters=parameters,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=settings.manufacturer,
    )


def _measurements(group: _Group, sources: Sequence[tuple[str, str]]) -> Iterator[Measurement]:
    """Yield four NUMs of one concept (TID 300) for each quantity.

    Derivation tells them apart: the first is the estimate. Of many images the group alone names
    what it is inferred from.
    """
    named = sources if len(sources) <= MOST_IMAGES else ()
    for head, answer in group.answers.items():
        if isinstance(answer, Quantity):
            numbers = (answer.mu, answer.sigma, *answer.interval90)
            for derivation, value in zip(codes.DERIVATIONS, numbers, strict=True):
                yield Measurement(
                    name=codes.concept(head, group.part.terms),
                    value=round(float(value), 1),
                    unit=codes.unit_code(answer.unit),
                    derivation=derivation,
                    referenced_images=[SourceImageForMeasurement(*each) for each in named] or None,
                )


def _evaluations(group: _Group) -> list[QualitativeEvaluation]:
    evaluations = [
        QualitativeEvaluation(codes.SCOPE, group.scope),
        QualitativeEvaluation(
            codes.SUMMARY_OF_ANALYSES, codes.summary_code(group.outcome, group.reason)
        ),
        *(QualitativeEvaluation(codes.INTENDED_USE, use) for use in _uses(group)),
    ]
    for head, answer in group.answers.items():
        evaluations += _answered(head, answer, group)
        if isinstance(answer, Quantity | Category) and not answer.certain:
            evaluations.append(QualitativeEvaluation(codes.how_certain(head), codes.UNCERTAIN))
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


def _uses(group: _Group) -> Iterator[Code]:
    """Yield what answers are for, where that is less than a check of the record."""
    if group.part.research:
        yield codes.FOR_RESEARCH
    if group.part.research or _states_findings(group):
        yield codes.NOT_FOR_DIAGNOSIS


def _states_findings(group: _Group) -> bool:
    return any(isinstance(answer, LabelProbabilities) for answer in group.answers.values())


def _answered(head: str, answer: Answer, group: _Group) -> Iterator[QualitativeEvaluation]:
    """Yield the value of a category, or all labels of findings, the most probable first."""
    terms = group.part.terms
    name, said = codes.concept(head, terms), []
    if isinstance(answer, Category):
        said = [(answer.value, answer.certainty)]
    elif isinstance(answer, LabelProbabilities):
        name, said = codes.looked_for(head, terms), answer.ordered
    for value, share in said:
        yield _evaluation(name, codes.value_code(head, value, terms), share)


def _evaluation(name: Code, value: Code, probability: float) -> QualitativeEvaluation:
    """Return a value of a category, or a label of findings, with how probable it is."""
    evaluation = QualitativeEvaluation(name, value)
    evaluation[0].ContentSequence = ContentSequence(
        [
            CodeContentItem(codes.DERIVATION, codes.ESTIMATED, "HAS CONCEPT MOD"),
            NumContentItem(
                codes.CERTAINTY,
                words.percent(probability),
                codes.PERCENT,
                relationship_type="HAS PROPERTIES",
            ),
        ]
    )
    return evaluation


def _comments(group: _Group) -> list[TextContentItem]:
    lines = []
    if group.part.research:
        lines.append(text.RESEARCH)
    if _states_findings(group):
        lines.append(text.FINDINGS)
    if group.scope is codes.SCOPE_STUDY:
        lines += [text.DISCLAIMER, *text.coverage_lines(group.part, group.answers), *group.counted]
    elif group.scope is codes.SCOPE_SERIES:
        lines += text.span_lines(group.answers)
    lines += text.uncertain_lines(group.answers)
    if group.outcome is not Outcome.ESTIMATED:
        lines.append(f"No estimate: {text.reason_line(group.reason)}")
    own = {group.reason.code} if group.reason else set()
    lines += [
        f"No {words.spoken(head)}: {text.reason_line(reason)}"
        for head, reason in group.unanswered.items()
        if reason.code not in own
    ]
    return [TextContentItem(codes.COMMENT, line, "CONTAINS") for line in lines]
