"""What is observed of a study, for :mod:`dicom_ai_node.monitor`, and the bundle beside the live.

Nothing here may cost a study its report: whatever goes wrong beside the live bundle is logged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from pydicom import Dataset

from dicom_ai_node.answers import Answer, BundleResult, Measured, Outcome, Quantity, Reason
from dicom_ai_node.decide.images import pool_images
from dicom_ai_node.decide.study import outside_training_ages
from dicom_ai_node.inference.bundle import Manifest
from dicom_ai_node.inference.heads import FindingsHead, Head, QuantityHead
from dicom_ai_node.monitor.observation import Observation, ObservedHead, Role
from dicom_ai_node.parts import LoadedBundle, PreparedPart, read, show
from dicom_ai_node.pipeline import File, Pipeline, Prepared
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.attributes import ATTRIBUTES

log = structlog.get_logger()


def observe(prepared: Prepared, pipeline: Pipeline, role: Role) -> tuple[Observation, ...]:
    """Return what each bundle of ``pipeline`` makes of a study that it was shown.

    ``role`` is that of the first; another one is a further one. Also where policy would not say it.
    The recorded values are held against the check of the header alone, before the image. Nothing of
    a bundle that sees nothing of the study.
    """
    if not prepared.shown:
        return ()
    parts = [(bundle, prepared.part_of(bundle)) for bundle in pipeline.bundles]
    first = pipeline.bundles[0]
    return tuple(
        _of_part(prepared, part, pipeline, role if bundle is first else Role.FURTHER)
        for bundle, part in parts
        if part is not None
    )


def _of_part(prepared: Prepared, part: PreparedPart, pipeline: Pipeline, role: Role) -> Observation:
    bundle = part.bundle
    result = pipeline.answer(part, prepared.check)
    reason = result.reason or Reason("", "")
    # Also where the image contradicts that age: counted, only the misses would be.
    answers: Mapping[str, Answer] = {}
    if not outside_training_ages(prepared.check, bundle.gates.ages):
        answers = pool_images(result.images)
    asked = {head.attribute for head in bundle.manifest.heads if not isinstance(head, FindingsHead)}
    labels = [key for key in prepared.check.attributes if key in asked or _is_label(key)]
    trusted = {keyword: prepared.check.trusted(keyword) for keyword in labels}
    return Observation(
        study_uid=prepared.study_uid,
        model_sha256=bundle.manifest.sha256,
        role=role,
        outcome=result.outcome,
        reason_code=reason.code,
        gate=bundle.gates.named(reason.code) if result.outcome is Outcome.ABSTAINED else "",
        recorded={keyword: value for keyword, value in trusted.items() if value is not None},
        heads={
            head.name: _observed(head, answers.get(head.name)) for head in bundle.manifest.heads
        },
        measured=_measured(result, bundle.manifest),
        **_equipment(prepared.sources),
    )


def _measured(result: BundleResult, manifest: Manifest) -> Measured | None:
    """Return what is fitted to, of the image that ``model recalibrate`` would take."""
    if not manifest.of_single_images:
        return None
    passed = [one for one in result.images if one.outcome is Outcome.ESTIMATED]
    for one in sorted(passed, key=lambda one: one.image.sop_instance_uid):
        if one.prediction is not None and one.prediction.measured is not None:
            return one.prediction.measured
    return None


def _is_label(keyword: str) -> bool:
    return keyword not in ATTRIBUTES or ATTRIBUTES[keyword].a_label


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
    """A second bundle that sees what the first one sees; nothing of it is ever reported."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def prepare(
        self, live: Prepared, first: LoadedBundle, files: Sequence[File]
    ) -> Prepared | None:
        """Return the study as this bundle is shown it, None where ``first`` sees nothing of it.

        None also when that fails.
        """
        seen = live.part_of(first)
        if seen is None:
            return None
        (bundle,) = self.pipeline.bundles
        part = PreparedPart(bundle, list(seen.refused), seen.images, seen.tensors)
        if bundle.manifest.accepts != first.manifest.accepts:
            part = PreparedPart(bundle, list(seen.refused))
            more = [one.image for one in seen.more_refused]
            wanted = {image.sop_instance_uid for image in (*seen.images, *seen.unread, *more)}
            limits = self.pipeline.limits
            try:
                found, _ = read(
                    [file for file in files if file[0].sop_instance_uid in wanted], limits
                )
                show(part, found, {}, limits)
            except Exception as error:
                log.error("shadow_failed", study=live.study_uid, exc_info=error)
                return None
        return replace(live, parts=[part])

    def observe(self, studies: Sequence[Prepared | None]) -> list[tuple[Observation, ...]]:
        """Return this bundle's observation of each study; none of any when the bundle fails."""
        try:
            self.pipeline.predict([study for study in studies if study is not None])
            return [
                () if study is None else observe(study, self.pipeline, Role.SHADOW)
                for study in studies
            ]
        except Exception as error:
            log.error("shadow_failed", exc_info=error)
            return [() for _ in studies]
