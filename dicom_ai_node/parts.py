"""What each bundle sees of a study: the images that its route accepts, and which are read, and how.

Of a route that reads a sample, or that takes a series as one input, the headers of all images say
which are fit and where in the body they lie; the pixels of the others are never read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_ai_node import pixels
from dicom_ai_node.answers import BundleResult, ImageRef, ImageResult, Outcome, Prediction, Reason
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.images import Gates
from dicom_ai_node.dicom.limits import Limits
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.inference.bundle import Manifest
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import FindingsHead
from dicom_ai_node.rules.attributes import OF_SERIES
from dicom_ai_node.types import Finding

UNREADABLE = Reason("unreadable", "the file cannot be read as DICOM")
MOST_REFUSED = 8
"""Images of a series that are named as refused for one reason, where a route samples."""


class LoadedBundle:
    """A bundle at work: its manifest, and what the policy makes of its gates.

    Its network is loaded when it is first asked for.
    """

    def __init__(
        self, manifest: Manifest, load: Callable[[], Estimator], policy: PolicySettings
    ) -> None:
        self.manifest = manifest
        self._load = load
        self.gates = gates_of(manifest).overridden(policy)
        self.heads = tuple(head.name for head in manifest.heads)
        self.accepted = manifest.accepted
        self.terms = manifest.terms
        self.research = manifest.research
        route = manifest.accepts
        self.tells_of_studies = (
            bool(route.sample)
            or route.takes == "series"
            or any(
                head.attribute in OF_SERIES
                for head in manifest.heads
                if not isinstance(head, FindingsHead)
            )
        )
        """Whether what it answers is of a series or study, and an image alone says little."""

    @cached_property
    def estimator(self) -> Estimator:
        """The network, ready to answer.

        Raises BundleError: its tensors do not fit.
        """
        return self._load()

    def signed(self, said: BundleResult) -> BundleResult:
        """Return what it says of a study with what its manifest says of all of its answers."""
        return replace(said, terms=self.terms, research=self.research)


def gates_of(manifest: Manifest) -> Gates:
    """Return what a bundle asks of an image."""
    return Gates(
        thresholds={gate.name: gate.threshold for gate in manifest.gates},
        reasons={gate.name: Reason(gate.code, gate.text) for gate in manifest.gates},
        in_distribution=manifest.in_distribution,
        ages=manifest.training_age_range,
    )


@dataclass(slots=True)
class PreparedPart:
    """What one bundle sees of a study, and says of it."""

    bundle: LoadedBundle
    refused: list[ImageResult] = field(default_factory=list)
    images: list[ImageRef] = field(default_factory=list)
    """Of each input the image that it is made of: of several frames the same one again, of a series
    its first one."""
    tensors: list[NDArray[np.float32]] = field(default_factory=list)
    """The inputs, of the shape of the bundle's contract."""
    predictions: list[Prediction] = field(default_factory=list)
    """One for each of ``tensors``, once the network was asked."""
    unread: list[ImageRef] = field(default_factory=list)
    """Images that are accepted and for which others of their series stand."""
    more_refused: list[ImageResult] = field(default_factory=list)
    """Images that are refused for what :data:`MOST_REFUSED` others of their series are: their
    number is known, and no result names them."""
    offered: int = 0
    """Images and frames that could have been read, where a sample was; else 0."""


class ReadableFile(NamedTuple):
    """A file that could be read as DICOM."""

    image: ImageRef
    path: Path
    header: Dataset


Known = dict[tuple[Path, str, int, int], list[pixels.Shown]]
"""Inputs as they were made, by file, contract, side and sample."""


def routed(
    bundles: Sequence[LoadedBundle], files: Sequence[ReadableFile]
) -> list[tuple[LoadedBundle, list[ReadableFile]]]:
    """Return each bundle that accepts something, with what it accepts.

    What none accepts goes to the first of them, which says why; that is the first of all where none
    accepts anything.
    """
    takers = [[one for one in bundles if one.accepted.includes(file.header)] for file in files]
    asked = [one for one in bundles if any(one in taking for taking in takers)]
    first, *others = asked or bundles[:1]
    return [
        (
            bundle,
            [
                file
                for file, taking in zip(files, takers, strict=True)
                if bundle in taking or (bundle is first and not taking)
            ],
        )
        for bundle in (first, *others)
    ]


def show(
    part: PreparedPart, files: Sequence[ReadableFile], known: Known, limits: Limits
) -> list[Finding]:
    """Make the inputs of a part; return what the headers say wrongly of the pixels.

    ``known`` grows: bundles of one contract and size share what was decoded.
    """
    route = part.bundle.manifest.accepts
    if route.takes == "image" and not route.sample:
        return [found for file in files for found in _show_image(part, file, known, limits)]
    found: list[Finding] = []
    tried = 0
    series: dict[str, list[ReadableFile]] = {}
    for file in files:
        series.setdefault(file.image.series_instance_uid, []).append(file)
    for members in series.values():
        fit = _fit(part, members)
        if not fit:
            continue
        part.offered += sum(pixels.frames_of(file.header) for file in fit)
        ordered = pixels.in_order([file.header for file in fit])
        if route.takes == "series":
            found += _show_series(part, [fit[at] for at in ordered.indices], limits)
        else:
            tried += _show_sample(part, fit, ordered, found, known, limits)
    if route.takes == "series" or tried == part.offered:
        part.offered = 0
    return found


def _show_sample(
    part: PreparedPart,
    fit: Sequence[ReadableFile],
    ordered: pixels.Ordered,
    found: list[Finding],
    known: Known,
    limits: Limits,
) -> int:
    """Make the inputs of a sample of a series; return how many images and frames were tried.

    ``found`` grows.
    """
    tried = 0

    def shown(at: int) -> bool:
        nonlocal tried
        inputs = len(part.tensors)
        found.extend(_show_image(part, fit[at], known, limits))
        tried += max(1, len(part.tensors) - inputs)
        return len(part.tensors) > inputs

    read = pixels.read_sample(ordered, part.bundle.manifest.accepts.sample, shown)
    part.unread += [file.image for at, file in enumerate(fit) if at not in read]
    return tried


def _fit(part: PreparedPart, files: Sequence[ReadableFile]) -> list[ReadableFile]:
    """Return the files whose headers say that they may be shown; refuse the others.

    A series of a thousand reformats makes no thousand refusals.
    """
    fit = []
    refused: dict[str, int] = {}
    for file in files:
        try:
            pixels.refuse_unfit(file.header, part.bundle.accepted)
        except PixelsRefused as error:
            code = error.reason.code
            refused[code] = refused.get(code, 0) + 1
            if refused[code] <= MOST_REFUSED:
                part.refused.append(_refused(file.image, error.reason))
            else:
                part.more_refused.append(_refused(file.image, error.reason))
        else:
            fit.append(file)
    return fit


def _show_image(
    part: PreparedPart, file: ReadableFile, known: Known, limits: Limits
) -> list[Finding]:
    route = part.bundle.manifest.accepts
    key = (file.path, route.contract, route.size, route.sample)
    try:
        shown = known.get(key) or pixels.show_all(
            file.path,
            size=route.size,
            contract=route.contract,
            limits=limits,
            accepted=part.bundle.accepted,
            sample=route.sample,
        )
    except (PixelsRefused, UnreadableInstance) as error:
        part.refused.append(_refused(file.image, _reason(error)))
        return []
    known[key] = shown
    part.images += [file.image] * len(shown)
    part.tensors += [one.tensor for one in shown]
    return [found for one in shown for found in one.findings]


def _show_series(
    part: PreparedPart, files: Sequence[ReadableFile], limits: Limits
) -> list[Finding]:
    """Make one input of all images of a series, in whose place its first image stands.

    Those that are damaged are refused by themselves, as long as the others make a volume.
    """
    route = part.bundle.manifest.accepts
    try:
        shown = pixels.show_series(
            [(file.header, file.path) for file in files],
            size=route.size,
            contract=route.contract,
            limits=limits,
            sample=route.sample,
        )
    except (PixelsRefused, UnreadableInstance) as error:
        part.refused.append(_refused(files[0].image, _reason(error)))
        part.unread += [file.image for file in files[1:]]
        return []
    first, *others = [file.image for at, file in enumerate(files) if at not in shown.missing]
    part.unread += others
    damaged = [_refused(files[at].image, _reason(error)) for at, error in shown.missing.items()]
    part.refused += damaged[:MOST_REFUSED]
    part.more_refused += damaged[MOST_REFUSED:]
    part.images.append(first)
    part.tensors.append(shown.tensor)
    return list(shown.findings)


def show_picture(part: PreparedPart, image: ImageRef, path: Path, limits: Limits) -> None:
    """Make the input of a PNG or JPEG."""
    route = part.bundle.manifest.accepts
    try:
        tensor = pixels.load_picture(path, size=route.size, contract=route.contract, limits=limits)
    except PixelsRefused as error:
        part.refused.append(_refused(image, error.reason))
    except UnreadableInstance as error:
        part.refused.append(_refused(image, Reason("unreadable", str(error))))
    else:
        part.images.append(image)
        part.tensors.append(tensor)


def read(
    files: Sequence[tuple[ImageRef, Path]], limits: Limits
) -> tuple[list[ReadableFile], list[ImageResult]]:
    """Read the headers of ``files``; return those that could be read, and what became of others."""
    readable, refused = [], []
    for image, path in files:
        try:
            readable.append(ReadableFile(image, path, pixels.read_header(path, limits)))
        except UnreadableInstance:
            refused.append(_refused(image, UNREADABLE))
    return readable, refused


def _reason(error: PixelsRefused | UnreadableInstance) -> Reason:
    return error.reason if isinstance(error, PixelsRefused) else UNREADABLE


def _refused(image: ImageRef, reason: Reason) -> ImageResult:
    return ImageResult(image=image, outcome=Outcome.REFUSED, reason=reason)
