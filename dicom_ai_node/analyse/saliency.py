"""Saliency maps of a study's images: as Secondary Captures for the node, as PNG for ``infer``.

Only what is answered is explained: an image that was refused or on which the network abstained has
no map, nor has an estimate that is not stated.
"""

import hashlib
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog
from PIL import Image

from dicom_ai_node.answers import (
    BundleResult,
    ImageRef,
    LabelProbabilities,
    Outcome,
    Reason,
    SaliencyMethod,
    StudyResult,
)
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.uids import is_uid, uid_of
from dicom_ai_node.output import make_private, write_private
from dicom_ai_node.parts import PreparedPart
from dicom_ai_node.pipeline import Prepared
from dicom_ai_node.pixels.contracts import CONTRACTS
from dicom_ai_node.report.build import build_saliency
from dicom_ai_node.report.capture import ExplainedImage, picture
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.identity import EncodedReport
from dicom_ai_node.rules import RULES_VERSION

log = structlog.get_logger()

MOST_OF_SAMPLE = 3
"""How many images are explained of those that a bundle reads of a large series."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Which maps ``infer --saliency`` writes, and where."""

    folder: Path
    method: SaliencyMethod = SaliencyMethod.GRAD_CAM
    heads: tuple[str, ...] | None = None
    """Names of the heads; None: of all."""
    progress: Callable[[int, int], None] | None = None
    """Told how many forward passes of how many are done for an image."""

    def write(self, explained: ExplainedImage, file: Path) -> list[Path]:
        """Write one PNG per map of the image in ``file``, named by its SOP Instance UID alone,
        and by the network where that is a further one.

        A value that is no UID names no file: then a UID made of the file's content does.
        """
        name = explained.image.sop_instance_uid
        if not is_uid(name):
            name = uid_of("image", hashlib.sha256(file.read_bytes()).hexdigest())
        name = f"{name}-{explained.further}" if explained.further else name
        make_private(self.folder)
        paths = []
        for one in explained.maps:
            shown = replace(explained, maps=(one,))
            paths.append(self.folder / f"{name}-{one.head}.png")
            content = io.BytesIO()
            Image.fromarray(picture(shown)).save(content, "PNG")
            write_private(paths[-1], content.getvalue())
        return paths


def explain_image(
    part: PreparedPart,
    result: BundleResult,
    image: ImageRef,
    *,
    method: SaliencyMethod,
    heads: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExplainedImage | None:
    """Return a bundle's maps of one image that it saw, None when it states nothing of it.

    ``result`` is what it says of ``part``, its part of the study. Of findings the map is that of
    the most probable one.
    """
    answered = [
        one.prediction
        for one in result.images
        if one.image is image and one.outcome is Outcome.ESTIMATED
    ]
    prediction = answered[0] if answered else None  # none, too, where others stand for the image
    said = result.answers_of(image.series_instance_uid)
    stated = [name for name, answer in said.items() if not isinstance(answer, Reason)]
    wanted = [name for name in stated if heads is None or name in heads]
    if prediction is None or not wanted:
        return None
    from dicom_ai_node.inference.saliency import explain  # loads torch

    labels = {
        name: answer.ordered[0][0]
        for name, answer in prediction.answers.items()
        if isinstance(answer, LabelProbabilities)
    }
    shown = [seen for each, seen in zip(part.images, part.tensors, strict=True) if each is image]
    pixels, estimator = shown[len(shown) // 2], part.bundle.estimator  # of frames the middle one
    maps = explain(
        estimator.network,
        pixels,
        method=method,
        heads=wanted,
        labels=labels,
        device=estimator.device,
        progress=progress,
    )
    contract = CONTRACTS[estimator.manifest.accepts.contract]
    named = tuple(replace(one, label=labels.get(name, "")) for name, one in maps.items())
    return ExplainedImage(image, contract.views(pixels), named, research=result.research)


def build_captures(
    prepared: Prepared,
    result: StudyResult,
    *,
    settings: ReportSettings,
    digest: str,
    deadline: float = math.inf,
) -> tuple[EncodedReport, ...]:
    """Return a checked capture for each image that was answered; none unless ``settings`` ask.

    One of each bundle that answered it; of a sample :data:`MOST_OF_SAMPLE`. Images that are not
    reached before ``deadline`` (monotonic) get none.

    Raises InvalidReport: a capture failed its check.
    """
    if settings.saliency == "none" or prepared.header_only:
        return ()
    explained = list(_explained(prepared, result, SaliencyMethod(settings.saliency), deadline))
    captures = build_saliency(
        result,
        prepared.sources,
        explained,
        settings=settings,
        rules_version=RULES_VERSION,
        digest=digest,
        created=datetime.now(UTC),
    )
    for capture in captures:
        check_report(capture.files[0].content, sources=prepared.sources, subject=capture.subject)
    return captures


def _few(images: Sequence[ImageRef], said: BundleResult) -> Sequence[ImageRef]:
    """Return the images that are explained: all, or of a sample a few that are spread over it."""
    each = list({id(image): image for image in images}.values())  # frames of one are one
    if not said.offered:
        return each
    answered = {id(one.image) for one in said.images if one.outcome is Outcome.ESTIMATED}
    fit = [image for image in each if id(image) in answered]
    places = [(2 * n + 1) * len(fit) // (2 * MOST_OF_SAMPLE) for n in range(MOST_OF_SAMPLE)]
    return [fit[place] for place in dict.fromkeys(places) if fit]


def _explained(
    prepared: Prepared, result: StudyResult, method: SaliencyMethod, deadline: float
) -> Iterator[ExplainedImage]:
    shown = [
        (part, said, image)
        for part, said in zip(prepared.parts, result.parts, strict=True)
        for image in _few(part.images, said)
    ]
    for number, (part, said, image) in enumerate(shown):
        if time.monotonic() >= deadline:
            late = len(shown) - number
            log.warning("saliency_skipped", study=result.study_uid, images=late)
            return
        one = explain_image(part, said, image, method=method)
        if one is not None:
            is_first = part is prepared.parts[0]
            further = "" if is_first else part.bundle.manifest.name
            yield replace(one, further=further)
