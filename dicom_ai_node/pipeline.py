"""What is done with one study, without database or sockets: the node and ``infer`` share it.

Split in three, so that decoding runs in parallel and the network sees the images of several
studies at once: :meth:`Pipeline.prepare` (header, rules, pixels), :meth:`Pipeline.predict`
(networks), :meth:`Pipeline.conclude` (decision). A study has a part for each bundle whose route
accepts something of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_ai_node import pixels
from dicom_ai_node.answers import (
    BundleResult,
    ImageRef,
    ImageResult,
    Outcome,
    Prediction,
    Reason,
    StudyResult,
)
from dicom_ai_node.config import Config
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.images import Gates, judge
from dicom_ai_node.decide.study import (
    combine,
    decide,
    not_asked,
    sampled,
    wants_network,
    with_pixels,
)
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.inference.bundle import Manifest
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.rules.attributes import ATTRIBUTES
from dicom_ai_node.types import (
    AttributeStatus,
    CheckedAttribute,
    Finding,
    HeaderCheck,
    PriorStudy,
    WorklistAnswer,
)

NO_HEADER = HeaderCheck(
    {
        keyword: CheckedAttribute(attribute.name, "", AttributeStatus.CONSISTENT)
        for keyword, attribute in ATTRIBUTES.items()
    }
)
"""Of a picture that is not DICOM: nothing is recorded, so nothing contradicts the image."""

_UNREADABLE = "the file cannot be read as DICOM"


class LoadedBundle:
    """A bundle at work: its network, and what the policy makes of its gates."""

    def __init__(self, estimator: Estimator, policy: PolicySettings) -> None:
        self.estimator = estimator
        manifest = estimator.manifest
        self.gates = gates_of(manifest).overridden(policy)
        self.heads = tuple(head.name for head in manifest.heads)
        self.accepted = manifest.accepted
        self.terms = manifest.terms
        self.research = manifest.research

    def signed(self, said: BundleResult) -> BundleResult:
        """Return what it says of a study with what its manifest says of all of its answers."""
        return replace(said, terms=self.terms, research=self.research)


@dataclass(slots=True)
class PreparedPart:
    """What one bundle sees of a study, and says of it."""

    bundle: LoadedBundle
    refused: list[ImageResult] = field(default_factory=list)
    images: list[ImageRef] = field(default_factory=list)
    """The images that the network is to see."""
    tensors: list[NDArray[np.float32]] = field(default_factory=list)
    """One (size, size) array for each of ``images``."""
    predictions: list[Prediction] = field(default_factory=list)
    """One for each of ``images``, once :meth:`Pipeline.predict` was asked."""


@dataclass(slots=True)
class Prepared:
    """A study whose header has been checked and whose pixels are ready for the networks."""

    study_uid: str
    sources: list[Dataset]
    """Headers of the images that could be read."""
    check: HeaderCheck
    parts: list[PreparedPart]
    """Of each bundle that accepts something of the study, else of the first."""
    header_only: bool = False
    """The report says nothing of the images, whether the networks see them or not."""
    shown: bool = True
    """Whether the networks are to see the images."""

    def part_of(self, bundle: LoadedBundle) -> PreparedPart | None:
        """Return the part of ``bundle``, None where it accepts nothing of the study."""
        return next((part for part in self.parts if part.bundle is bundle), None)


File = tuple[ImageRef, Path]
Known = dict[tuple[Path, int], pixels.Shown]
"""Images as they were decoded, by file and side."""


class Pipeline:
    """The pure stages, bound to their settings and to bundles, the first of them first."""

    def __init__(
        self,
        *estimators: Estimator,
        rules: RulesSettings,
        policy: PolicySettings,
        limits: Limits = DEFAULT,
    ) -> None:
        self.bundles = tuple(LoadedBundle(estimator, policy) for estimator in estimators)
        self.rules = rules
        self.policy = policy
        self.limits = limits

    @classmethod
    def of(
        cls, config: Config, bundles: Sequence[Path], policy: PolicySettings | None = None
    ) -> "Pipeline":
        """Load ``bundles`` as ``config`` says; ``policy`` takes the place of its own."""
        model = config.model
        estimators = [
            Estimator(bundle, device=model.device, batch=model.batch, threads=model.threads or None)
            for bundle in bundles
        ]
        return cls(
            *estimators,
            rules=config.rules,
            policy=policy or config.policy,
            limits=config.limits.bounds,
        )

    def prepare(
        self,
        study_uid: str,
        files: Sequence[File],
        *,
        priors: Callable[[Dataset], Sequence[PriorStudy]],
        worklist: Callable[[Sequence[TextHeader], HeaderCheck], WorklistAnswer | None]
        | None = None,
        today: date,
        sample: float = 0.0,
    ) -> Prepared:
        """Read, check and decode the images of one study.

        ``priors`` answers what is known of the patient whose header it is given, ``worklist`` what
        was ordered for the study with these headers, which the rules say this of. ``sample`` is the
        share of the studies that the policy passes over whose images are decoded all the same.

        Raises UnreadableInstance: when not one file could be read.
        """
        sources, readable, unreadable = _read(files, self.limits)
        if not sources:
            raise UnreadableInstance(f"none of {len(files)} files could be read as DICOM")
        headers = [TextHeader.from_dataset(source) for source in sources]
        known = priors(sources[0])
        checks = partial(check, headers, priors=known, settings=self.rules, today=today)
        checked = checks()
        if worklist is not None and (answer := worklist(headers, checked)) is not None:
            checked = checks(worklist=answer)
        routed = self._routed(sources, readable)
        parts = [PreparedPart(bundle) for bundle, _ in routed]
        parts[0].refused += unreadable
        prepared = Prepared(study_uid, sources, checked, parts)
        if not wants_network(checked, self.policy):
            prepared.header_only = True
            prepared.shown = sampled(study_uid, sample)
        if not prepared.shown:
            return prepared
        decoded: Known = {}
        found = [
            finding
            for part, (_, images) in zip(parts, routed, strict=True)
            for finding in self._show(part, images, decoded)
        ]
        if not prepared.header_only:
            prepared.check = with_pixels(checked, found, disabled=self.rules.disabled)
        return prepared

    def _routed(
        self, sources: Sequence[Dataset], readable: Sequence[File]
    ) -> list[tuple[LoadedBundle, list[File]]]:
        """Return each bundle that accepts something, with what it accepts.

        What none accepts goes to the first of them, which says why; that is the first of all where
        none accepts anything.
        """
        takers = [[one for one in self.bundles if one.accepted.includes(ds)] for ds in sources]
        asked = [one for one in self.bundles if any(one in taking for taking in takers)]
        first, *others = asked or self.bundles[:1]
        return [
            (
                bundle,
                [
                    file
                    for file, taking in zip(readable, takers, strict=True)
                    if bundle in taking or (bundle is first and not taking)
                ],
            )
            for bundle in (first, *others)
        ]

    def _show(self, part: PreparedPart, files: Sequence[File], known: Known) -> list[Finding]:
        """Decode the images that a bundle sees; return what their headers say wrongly of them.

        ``known`` grows: bundles of one size share what was decoded.
        """
        found: list[Finding] = []
        size, accepted = part.bundle.estimator.size, part.bundle.accepted
        for image, path in files:
            try:
                shown = known.get((path, size)) or pixels.show(
                    path, size=size, limits=self.limits, accepted=accepted
                )
            except PixelsRefused as error:
                part.refused.append(_refused(image, error.reason))
            except UnreadableInstance:
                part.refused.append(_refused(image, Reason("unreadable", _UNREADABLE)))
            else:
                known[path, size] = shown
                part.images.append(image)
                part.tensors.append(shown.tensor)
                found += shown.findings
        return found

    def prepare_picture(self, image: ImageRef, path: Path) -> Prepared:
        """Decode a PNG or JPEG; it has no header to check and nothing to be compared with.

        Its kind is not stated, so the first bundle sees it.
        """
        part = PreparedPart(self.bundles[0])
        try:
            tensor = pixels.load_picture(path, size=part.bundle.estimator.size, limits=self.limits)
        except PixelsRefused as error:
            part.refused.append(_refused(image, error.reason))
        except UnreadableInstance as error:
            part.refused.append(_refused(image, Reason("unreadable", str(error))))
        else:
            part.images.append(image)
            part.tensors.append(tensor)
        return Prepared(str(path), [], NO_HEADER, [part])

    def predict(self, studies: Sequence[Prepared]) -> None:
        """Show each network all of its images of ``studies`` at once, and keep what it says."""
        for bundle in self.bundles:
            parts = [part for study in studies if (part := study.part_of(bundle)) is not None]
            tensors = [tensor for part in parts for tensor in part.tensors]
            answers = iter(bundle.estimator.predict(np.stack(tensors)) if tensors else [])
            for part in parts:
                part.predictions = [next(answers) for _ in part.tensors]

    def conclude(self, prepared: Prepared) -> StudyResult:
        """Decide what the study's report says."""
        check = prepared.check
        return combine(
            prepared.study_uid,
            check,
            [
                part.bundle.signed(not_asked(part.bundle.heads))
                if prepared.header_only
                else self.answer(part, check)
                for part in prepared.parts
            ],
            policy=self.policy,
            disabled=self.rules.disabled,
        )

    def answer(self, part: PreparedPart, check: HeaderCheck) -> BundleResult:
        """Decide on the images of a part, be it for the report or for an observation alone."""
        bundle = part.bundle
        judged = [
            judge(image, prediction, bundle.gates)
            for image, prediction in zip(part.images, part.predictions, strict=True)
        ]
        decided = decide(
            check,
            [*judged, *part.refused],
            heads=bundle.heads,
            model=bundle.estimator.identity if judged else None,
            ages=bundle.gates.ages,
            policy=self.policy,
            disabled=self.rules.disabled,
        )
        return bundle.signed(decided)


def gates_of(manifest: Manifest) -> Gates:
    """Return what a bundle asks of an image."""
    return Gates(
        thresholds={gate.name: gate.threshold for gate in manifest.gates},
        reasons={gate.name: Reason(gate.code, gate.text) for gate in manifest.gates},
        in_distribution=manifest.in_distribution,
        ages=manifest.training_age_range,
    )


def _read(
    files: Sequence[File], limits: Limits
) -> tuple[list[Dataset], list[File], list[ImageResult]]:
    sources, readable, refused = [], [], []
    for image, path in files:
        try:
            sources.append(pixels.read_header(path, limits))
            readable.append((image, path))
        except UnreadableInstance:
            refused.append(_refused(image, Reason("unreadable", _UNREADABLE)))
    return sources, readable, refused


def _refused(image: ImageRef, reason: Reason) -> ImageResult:
    return ImageResult(image=image, outcome=Outcome.REFUSED, reason=reason)
