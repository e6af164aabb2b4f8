"""What is done with one study, without database or sockets: the node and ``infer`` share it.

Split in three, so that decoding runs in parallel and the network sees the images of several
studies at once: :meth:`Pipeline.prepare` (header, rules, pixels), :meth:`Pipeline.predict`
(networks), :meth:`Pipeline.conclude` (decision). A study has a part for each bundle whose route
accepts something of it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset

from dicom_ai_node.answers import (
    BundleResult,
    ImageRef,
    Prediction,
    StudyResult,
)
from dicom_ai_node.config import Config
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.images import embedding_of, judge_frames
from dicom_ai_node.decide.study import (
    combine,
    decide,
    not_asked,
    sampled,
    wants_network,
    with_pixels,
)
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.inference.bundle import verify
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.likeness import Embedding, likeness
from dicom_ai_node.parts import (
    Known,
    LoadedBundle,
    PreparedPart,
    read,
    routed,
    show,
    show_picture,
)
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.rules.attributes import ATTRIBUTES
from dicom_ai_node.types import (
    AttributeStatus,
    CheckedAttribute,
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


class Pipeline:
    """The pure stages, bound to their settings and to bundles, the first of them first."""

    def __init__(
        self,
        *bundles: LoadedBundle | Estimator,
        rules: RulesSettings,
        policy: PolicySettings,
        limits: Limits = DEFAULT,
    ) -> None:
        self.bundles = tuple(
            one if isinstance(one, LoadedBundle) else _at_hand(one, policy) for one in bundles
        )
        self.rules = rules
        self.policy = policy
        self.limits = limits

    @classmethod
    def of(
        cls,
        config: Config,
        bundles: Sequence[Path],
        policy: PolicySettings | None = None,
        *,
        loaded: Callable[[Estimator], None] = lambda _: None,
    ) -> "Pipeline":
        """Verify ``bundles``; each is loaded as ``config`` says when a study first needs it.

        ``policy`` takes the place of its own. ``loaded`` is told of each that is.
        """
        model = config.model
        policy = policy or config.policy

        def load(bundle: Path) -> Estimator:
            threads = model.threads or None
            found = Estimator(
                bundle,
                device=model.device,
                batch=model.batch,
                threads=threads,
                embeds=model.compare_chests,
            )
            loaded(found)
            return found

        def loading(bundle: Path) -> LoadedBundle:
            return LoadedBundle(verify(bundle), partial(load, bundle), policy)

        return cls(
            *map(loading, bundles),
            rules=config.rules,
            policy=policy,
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
        readable, unreadable = read(files, self.limits)
        sources = [file.header for file in readable]
        if not sources:
            raise UnreadableInstance(f"none of {len(files)} files could be read as DICOM")
        headers = [TextHeader.from_dataset(source) for source in sources]
        known = priors(sources[0])
        checks = partial(check, headers, priors=known, settings=self.rules, today=today)
        checked = checks()
        if worklist is not None and (answer := worklist(headers, checked)) is not None:
            checked = checks(worklist=answer)
        taken = routed(self.bundles, readable)
        parts = [PreparedPart(bundle) for bundle, _ in taken]
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
            for part, (_, images) in zip(parts, taken, strict=True)
            for finding in show(part, images, decoded, self.limits)
        ]
        if not prepared.header_only:
            prepared.check = with_pixels(checked, found, disabled=self.rules.disabled)
        return prepared

    def prepare_picture(self, image: ImageRef, path: Path) -> Prepared:
        """Decode a PNG or JPEG; it has no header to check and nothing to be compared with.

        Its kind is not stated, so the first bundle sees it.
        """
        part = PreparedPart(self.bundles[0])
        show_picture(part, image, path, self.limits)
        return Prepared(str(path), [], NO_HEADER, [part])

    def predict(self, studies: Sequence[Prepared]) -> None:
        """Show each network all of its images of ``studies`` at once, and keep what it says."""
        for bundle in self.bundles:
            parts = [part for study in studies if (part := study.part_of(bundle)) is not None]
            tensors = [tensor for part in parts for tensor in part.tensors]
            answers = iter(bundle.estimator.predict(np.stack(tensors)) if tensors else [])
            for part in parts:
                part.predictions = [next(answers) for _ in part.tensors]

    def conclude(self, prepared: Prepared, others: Iterable[Embedding] = ()) -> StudyResult:
        """Decide what the study's report says.

        ``others`` are the chests of the patient's other studies, as far as they are kept.
        """
        check = prepared.check
        parts = [
            part.bundle.signed(not_asked(part.bundle.heads))
            if prepared.header_only
            else self.answer(part, check)
            for part in prepared.parts
        ]
        return combine(
            prepared.study_uid,
            check,
            parts,
            policy=self.policy,
            disabled=self.rules.disabled,
            likeness=likeness(embedding_of(parts), others),
        )

    def answer(self, part: PreparedPart, check: HeaderCheck) -> BundleResult:
        """Decide on the images of a part, be it for the report or for an observation alone."""
        bundle = part.bundle
        said: list[tuple[ImageRef, list[Prediction]]] = []
        for image, prediction in zip(part.images, part.predictions, strict=True):
            if not said or said[-1][0] is not image:
                said.append((image, []))
            said[-1][1].append(prediction)
        judged = [judge_frames(image, frames, bundle.gates) for image, frames in said]
        decided = decide(
            check,
            [*judged, *part.refused],
            heads=bundle.heads,
            model=bundle.manifest.identity if judged else None,
            ages=bundle.gates.ages,
            policy=self.policy,
            disabled=self.rules.disabled,
        )
        read = len(part.tensors) if part.offered else 0
        return replace(bundle.signed(decided), offered=part.offered, read=read)


def _at_hand(estimator: Estimator, policy: PolicySettings) -> LoadedBundle:
    return LoadedBundle(estimator.manifest, lambda: estimator, policy)
