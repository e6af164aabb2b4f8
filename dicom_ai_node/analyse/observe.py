"""What is observed of a study, for :mod:`dicom_ai_node.monitor`, and the bundle beside the live.

Nothing here may cost a study its report: whatever goes wrong beside the live bundle is logged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from pydicom import Dataset

from dicom_ai_node.decide.images import pool
from dicom_ai_node.decide.study import outside_training_ages
from dicom_ai_node.inference.bundle import Route
from dicom_ai_node.inference.heads import FindingsHead, Head, QuantityHead
from dicom_ai_node.monitor.observation import Observation, ObservedHead, Role
from dicom_ai_node.pipeline import Pipeline, Prepared
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.types import Answer, ImageRef, Outcome, Prediction, Quantity, Reason

log = structlog.get_logger()


def observe(
    prepared: Prepared, predictions: Sequence[Prediction], pipeline: Pipeline, role: Role
) -> Observation:
    """Return what the bundle of ``pipeline`` makes of a study, also where policy would not say it.

    The recorded values are held against the check of the header alone, before the image.
    """
    result = pipeline.answer(prepared, predictions)
    reason = result.reason or Reason("", "")
    usable = [
        one.prediction
        for one in result.images
        if one.outcome is Outcome.ESTIMATED and one.prediction is not None
    ]
    # Also where the image contradicts that age: counted, only the misses would be.
    answers: Mapping[str, Answer] = {}
    if usable and not outside_training_ages(prepared.check, pipeline.gates.ages):
        answers = pool(usable)
    trusted = {keyword: prepared.check.trusted(keyword) for keyword in prepared.check.attributes}
    return Observation(
        study_uid=prepared.study_instance_uid,
        model_sha256=pipeline.estimator.identity.sha256,
        role=role,
        outcome=result.outcome,
        reason_code=reason.code,
        gate=pipeline.gates.named(reason.code) if result.outcome is Outcome.ABSTAINED else "",
        recorded={keyword: value for keyword, value in trusted.items() if value is not None},
        heads={
            head.name: _observed(head, answers.get(head.name))
            for head in pipeline.estimator.manifest.heads
        },
        **_equipment(prepared.sources),
    )


def _observed(head: Head, answer: Answer | None) -> ObservedHead:
    said: Mapping[str, float] = {}
    if isinstance(answer, Quantity):
        low, high = answer.interval90
        said = {"mu": answer.mu, "low90": low, "high90": high}
    elif answer is not None:
        said = answer.probabilities
    if isinstance(head, FindingsHead):
        return ObservedHead(head.kind, values=head.labels, answer=said)
    if isinstance(head, QuantityHead):
        return ObservedHead(head.kind, head.attribute, head.unit, answer=said)
    return ObservedHead(head.kind, head.attribute, values=head.values, answer=said)


def _equipment(sources: Sequence[Dataset]) -> dict[str, Any]:
    """Return the words of the first header, and the view when all images share one."""
    headers = [TextHeader.from_dataset(source) for source in sources]
    views = {header.clean("ViewPosition").upper() for header in headers}
    first = headers[0]
    words = {
        "manufacturer": first.clean("Manufacturer"),
        "model_name": first.clean("ManufacturerModelName"),
        "station": first.clean("StationName"),
        "software": first.clean("SoftwareVersions"),
        "view": views.pop() if len(views) == 1 else "",
    }
    return {name: word.replace("\0", " ") for name, word in words.items()}


class Shadow:
    """A second bundle that sees what the live one sees; nothing of it is ever reported."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def prepare(
        self, live: Prepared, files: Sequence[tuple[ImageRef, Path]], *, accepts: Route
    ) -> Prepared | None:
        """Return the study as this bundle is shown it, None when that fails.

        ``accepts`` is the route of the bundle that ``live`` was prepared for.
        """
        if accepts == self.pipeline.estimator.manifest.accepts or not live.images:
            return live
        paths = {image.sop_instance_uid: path for image, path in files}
        try:
            tensors = [
                self.pipeline.show(paths[image.sop_instance_uid]).tensor for image in live.images
            ]
        except Exception as error:
            log.error("shadow_failed", study=live.study_instance_uid, exc_info=error)
            return None
        return replace(live, tensors=tensors)

    def observe(self, studies: Sequence[Prepared | None]) -> list[tuple[Observation, ...]]:
        """Return this bundle's observation of each study; none of any when the bundle fails."""
        there = [one if one is not None and one.shown else None for one in studies]
        try:
            answers = iter(self.pipeline.predict([one for one in there if one is not None]))
            return [
                () if one is None else (observe(one, next(answers), self.pipeline, Role.SHADOW),)
                for one in there
            ]
        except Exception as error:
            log.error("shadow_failed", exc_info=error)
            return [() for _ in studies]
