"""What is done with one study, without database or sockets: the node and ``infer`` share it.

Split in three, so that decoding runs in parallel and the network sees the images of several
studies at once: :meth:`Pipeline.prepare` (header, rules, pixels), :meth:`Pipeline.predict`
(network), :meth:`Pipeline.conclude` (decision).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_ai_node import pixels
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.images import Gates, judge
from dicom_ai_node.decide.study import (
    decide,
    header_only,
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
    ImageRef,
    ImageResult,
    Outcome,
    Prediction,
    PriorStudy,
    Reason,
    StudyResult,
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


@dataclass(slots=True)
class Prepared:
    """A study whose header has been checked and whose pixels are ready for the network."""

    study_instance_uid: str
    sources: list[Dataset]
    """Headers of the images that could be read, in the order of ``images``."""
    check: HeaderCheck
    refused: list[ImageResult] = field(default_factory=list)
    images: list[ImageRef] = field(default_factory=list)
    """The images that the network is to see."""
    tensors: list[NDArray[np.float32]] = field(default_factory=list)
    """One (size, size) array for each of ``images``."""
    header_only: bool = False
    """The report says nothing of the images, whether the network sees them or not."""
    shown: bool = True
    """Whether the network is to see the images."""


class Pipeline:
    """The pure stages, bound to their settings and a network."""

    def __init__(
        self,
        estimator: Estimator,
        *,
        rules: RulesSettings,
        policy: PolicySettings,
        limits: Limits = DEFAULT,
    ) -> None:
        self.estimator = estimator
        self.rules = rules
        self.policy = policy
        self.limits = limits
        self.gates = gates_of(estimator.manifest).overridden(policy)
        self.heads = tuple(head.name for head in estimator.manifest.heads)

    def prepare(
        self,
        study_instance_uid: str,
        files: Sequence[tuple[ImageRef, Path]],
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
        sources, readable, refused = _read(files, self.limits)
        if not sources:
            raise UnreadableInstance(f"none of {len(files)} files could be read as DICOM")
        headers = [TextHeader.from_dataset(source) for source in sources]
        known = partial(check, headers, priors=priors(sources[0]), settings=self.rules, today=today)
        checked = known()
        if worklist is not None and (answer := worklist(headers, checked)) is not None:
            checked = known(worklist=answer)
        prepared = Prepared(study_instance_uid, sources, checked, refused=refused)
        if not wants_network(checked, self.policy):
            prepared.header_only = True
            prepared.shown = sampled(study_instance_uid, sample)
        if not prepared.shown:
            return prepared
        found: list[Finding] = []
        for image, path in readable:
            try:
                shown = self.show(path)
            except PixelsRefused as error:
                prepared.refused.append(_refused(image, error.reason))
            except UnreadableInstance:
                prepared.refused.append(_refused(image, Reason("unreadable", _UNREADABLE)))
            else:
                prepared.images.append(image)
                prepared.tensors.append(shown.tensor)
                found += shown.findings
        if not prepared.header_only:
            prepared.check = with_pixels(checked, found, disabled=self.rules.disabled)
        return prepared

    def show(self, path: Path) -> pixels.Shown:
        """Return the DICOM image at ``path`` as the bundle sees it, if it accepts it."""
        manifest = self.estimator.manifest
        return pixels.show(path, size=manifest.size, limits=self.limits, accepted=manifest.accepted)

    def prepare_picture(self, image: ImageRef, path: Path) -> Prepared:
        """Decode a PNG or JPEG; it has no header to check and nothing to be compared with."""
        prepared = Prepared(str(path), [], NO_HEADER)
        try:
            tensor = pixels.load_picture(path, size=self.estimator.size, limits=self.limits)
        except PixelsRefused as error:
            prepared.refused.append(_refused(image, error.reason))
        except UnreadableInstance as error:
            prepared.refused.append(_refused(image, Reason("unreadable", str(error))))
        else:
            prepared.images.append(image)
            prepared.tensors.append(tensor)
        return prepared

    def predict(self, studies: Sequence[Prepared]) -> list[list[Prediction]]:
        """Show the network all images of ``studies`` at once; one list of answers per study."""
        tensors = [tensor for one in studies for tensor in one.tensors]
        answers = iter(self.estimator.predict(np.stack(tensors)) if tensors else [])
        return [[next(answers) for _ in one.tensors] for one in studies]

    def conclude(self, prepared: Prepared, predictions: Sequence[Prediction]) -> StudyResult:
        """Decide what the study's report says."""
        if prepared.header_only:
            return header_only(prepared.study_instance_uid, prepared.check, self.heads)
        return self.answer(prepared, predictions)

    def answer(self, prepared: Prepared, predictions: Sequence[Prediction]) -> StudyResult:
        """Decide on the images, be it for the report or for an observation alone."""
        judged = [
            judge(image, prediction, self.gates)
            for image, prediction in zip(prepared.images, predictions, strict=True)
        ]
        return decide(
            prepared.study_instance_uid,
            prepared.check,
            [*judged, *prepared.refused],
            heads=self.heads,
            model=self.estimator.identity if judged else None,
            ages=self.gates.ages,
            policy=self.policy,
            disabled=self.rules.disabled,
        )


def gates_of(manifest: Manifest) -> Gates:
    """Return what a bundle asks of an image."""
    return Gates(
        thresholds={gate.name: gate.threshold for gate in manifest.gates},
        reasons={gate.name: Reason(gate.code, gate.text) for gate in manifest.gates},
        in_distribution=manifest.in_distribution,
        ages=manifest.training_age_range,
    )


def _read(
    files: Sequence[tuple[ImageRef, Path]], limits: Limits
) -> tuple[list[Dataset], list[tuple[ImageRef, Path]], list[ImageResult]]:
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
