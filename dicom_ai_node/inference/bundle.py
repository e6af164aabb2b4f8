"""A model bundle: a folder with weights.safetensors, network.onnx, manifest.json and CARD.md.

The manifest says what the weights are, which images they accept, what they answer, how that is
calibrated and what was measured. Nothing here imports torch, and nothing is ever unpickled.
"""

import hashlib
import json
import operator
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from dicom_ai_node.answers import Concept, ModelIdentity, Terms
from dicom_ai_node.config.bundles import resolve_bundle
from dicom_ai_node.config.processes import ModelSettings
from dicom_ai_node.errors import BundleError, ConfigError
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.coverage import Covered
from dicom_ai_node.inference.heads import CategoryHead, Gate, Head, Row
from dicom_ai_node.inference.intervals import ManifestPart
from dicom_ai_node.inference.movement import Moved
from dicom_ai_node.likeness import Scale
from dicom_ai_node.pixels.contracts import CONTRACTS, PROJECTIONS, Contract, Takes
from dicom_ai_node.pixels.projections import refuse_without_skimage
from dicom_ai_node.pixels.refusals import Accepted

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
NETWORK_FILE = "network.onnx"
CARD = "CARD.md"
SCHEMA = 4
ARCHITECTURES = ("mobilenet_v2", "efficientnet_b0", "densenet121", "resnet18")


class Route(ManifestPart):
    """Which images of a study the network is shown, and what is made of them."""

    sop_classes: tuple[str, ...] = Field(min_length=1)
    """UIDs of the SOP classes."""
    modalities: tuple[str, ...] = Field(min_length=1)
    """Values of Modality; '' lets in what states none."""
    takes: Takes = "image"
    """What is one input: an image (of several frames, each of them), or a series as a whole."""
    sample: int = Field(0, ge=0, exclude_if=operator.not_)
    """Most images (or frames) of one series that are read, evenly spread; 0: all of them."""
    contract: str
    """Name of the input contract, see :mod:`dicom_ai_node.pixels.contracts`."""
    size: int = Field(ge=32, le=2048)
    """Side in pixels."""


class TrainingSource(ManifestPart):
    """Where training images came from."""

    name: str
    images: int
    licence: str


class Training(ManifestPart):
    """What the weights were trained with."""

    summary: str
    images: int
    patients: int
    age_range: tuple[float, float]
    """1st and 99th percentile of the training ages, years."""
    sources: tuple[TrainingSource, ...]
    prior_tau: float = Field(0.0, ge=0, le=1)
    """Share of the training ages' log prior that was taken out of the age head's bias."""
    caution: float = Field(1.0, ge=1)
    """Least factor of the age's sigma and the sex's temperature far away, whatever was fitted."""
    images_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """Of the training images' names and roles, ``training.fit.checkpoint``; '': not stated."""
    runs_sha256: tuple[str, ...] = ()
    """Of the weights of each run whose mean was packed."""


class Figure(ManifestPart):
    """One measured number with its 95 % interval."""

    dataset: str
    quantity: str
    group: str = ""
    """Part of the data set, such as ``sex: female``; '' means all of it."""
    gated: bool = False
    """Of those images alone that every gate lets pass."""
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    baseline: float | None = None
    """The same figure of an answer that needs no image, such as the median age."""


class Recalibration(ManifestPart):
    """A site's own calibration of somebody else's weights."""

    base_version: str
    base_sha256: str
    """Of the weights file that the bundle was made from."""
    date: date
    images: int
    patients: int
    files: dict[str, int]
    """How many files were used, and how many were not for each reason."""
    before: tuple[Covered, ...] = ()
    """Of the age, by the calibration that the bundle came with."""
    after: tuple[Covered, ...] = ()
    """By the site's own, cross-fitted by patient."""
    sex_log_loss: tuple[float, float] | None = None
    """Of the recorded sex before and after, nats; after on the images that it was fitted on."""
    observed: bool = Field(False, exclude_if=operator.not_)
    """Made of what the monitor had observed: :attr:`files` counts studies then."""
    moved: tuple[Moved, ...] = Field((), exclude_if=operator.not_)
    """What moving the answers of each head gains, and whether the bundle does so."""


class EmbeddingPart(ManifestPart):
    """How the bundle embeds chests, to compare studies that claim to be of one patient.

    No head: it answers nothing, and is reported nowhere (docs/decisions/0038).
    """

    channels: int = Field(ge=1)
    """Of the maps in the middle of the backbone, on which its branch stands."""
    scale: Scale
    """What a similarity is worth."""
    patients: int = Field(ge=1)
    """On whose images the scale was fitted, each by a layer that had seen none of them."""
    figures: tuple[Figure, ...] = ()
    """How well it tells people apart."""


class Manifest(ManifestPart):
    """The contents of manifest.json."""

    schema_version: Literal[4] = 4
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    version: str
    architecture: str
    accepts: Route
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of weights.safetensors."""
    onnx_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", exclude_if=operator.not_)
    """Of network.onnx, which answers on a CPU; '': there is none, and torch answers."""
    heads: tuple[Head, ...] = Field(min_length=1)
    """What is answered, in the order in which it is told."""
    gates: tuple[Gate, ...]
    """In the order in which they are asked; the first that fails is the reason."""
    in_distribution: float = Field(ge=0, le=1)
    """Smallest conformal p-value at which an image passes."""
    calibration: Calibration
    """Of each head."""
    training: Training
    embedding: EmbeddingPart | None = Field(None, exclude_if=operator.not_)
    """None of a bundle that embeds nothing."""
    finding_site: Concept | None = Field(None, exclude_if=operator.not_)
    """What its images show, in a report; None: the chest."""
    research: bool = Field(False, exclude_if=operator.not_)
    """Its answers are reported as research, never held against the header and never proposed."""
    intended_use: str
    not_for: str
    figures: tuple[Figure, ...] = ()
    recalibration: Recalibration | None = None
    """Set where a site has recalibrated the bundle; the figures are then in the card only."""

    @field_validator("schema_version", mode="before")
    @classmethod
    def _of_this_release(cls, value: object) -> object:
        if value != SCHEMA:
            raise ValueError(
                f"{value!r}, expected {SCHEMA}: the bundle was made for another release"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Manifest":
        rows = sorted(self.rows, key=lambda row: row.output)
        names = [row.name for row in rows]
        if len(set(names)) < len(names):
            raise ValueError(f"heads and gates: expected different names, got {', '.join(names)}")
        outputs = [output for row in rows for output in range(row.place.start, row.place.stop)]
        if outputs != list(range(len(outputs))):
            raise ValueError("heads and gates: expected each output of the network once, from 0 on")
        self.calibration.check(self.heads)
        return self

    @property
    def rows(self) -> tuple[Row, ...]:
        """All that the network's linear layer answers."""
        return (*self.heads, *self.gates)

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each gate by its name, that of the in-distribution score last."""
        own = {gate.name: gate.threshold for gate in self.gates}
        return own | {"in_distribution": self.in_distribution}

    @property
    def identity(self) -> ModelIdentity:
        """Name, version and hash, as reports state them."""
        return ModelIdentity(self.name, self.version, self.sha256)

    @property
    def terms(self) -> Terms:
        """How a report names what the bundle answers."""
        named = {name: code for head in self.heads for name, code in head.concepts.items()}
        held = {head.name: head.attribute for head in self.heads if head.kind != "findings"}
        return Terms(self.finding_site, named, {name: key for name, key in held.items() if key})

    @property
    def accepted(self) -> Accepted:
        """Which images are shown to the network."""
        return Accepted(self.accepts.sop_classes, self.accepts.modalities)

    @property
    def contract(self) -> Contract:
        """What an input is made of."""
        return CONTRACTS[self.accepts.contract]

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return self.accepts.size

    @property
    def spans(self) -> frozenset[str]:
        """Names of the heads whose images of one study may truly show different values."""
        categories = (head for head in self.heads if isinstance(head, CategoryHead))
        return frozenset(head.name for head in categories if head.spans)

    @property
    def of_single_images(self) -> bool:
        """Whether one image says what the header can be held to: else none can recalibrate it."""
        return self.accepts.takes == "image" and not self.spans

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return CONTRACTS[self.accepts.contract].channels

    @property
    def training_age_range(self) -> tuple[float, float]:
        """Ages between which the network has seen enough to be asked, years."""
        return self.training.age_range


def load_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the bundle in folder ``path``; BundleError if unusable."""
    file = path / MANIFEST
    manifest = _read(file)
    contract, takes = manifest.accepts.contract, manifest.accepts.takes
    if contract not in CONTRACTS:
        known = ", ".join(CONTRACTS)
        raise BundleError(f"{file}: input contract {contract!r}, expected one of {known}")
    if takes != CONTRACTS[contract].takes:
        expected = f"expected {CONTRACTS[contract].takes!r}, as {contract} does"
        raise BundleError(f"{file}: accepts.takes: {takes!r}, {expected}")
    if manifest.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise BundleError(
            f"{file}: architecture {manifest.architecture!r}, expected one of {known}"
        )
    return manifest


def verify(path: Path) -> Manifest:
    """Like :func:`load_manifest`, and weights and graph are the ones that the manifest names."""
    manifest = load_manifest(path)
    _verify(path / WEIGHTS, "the weights", manifest.sha256)
    if manifest.onnx_sha256:
        _verify(path / NETWORK_FILE, "the network's graph", manifest.onnx_sha256)
    return manifest


def _verify(file: Path, what: str, expected: str) -> None:
    try:
        found = sha256(file)
    except OSError as error:
        raise BundleError(f"{file}: expected {what} ({error.strerror})") from error
    if found != expected:
        raise BundleError(f"{file}: SHA-256 is {found}, the manifest expects {expected}")


def verify_in_use(model: ModelSettings) -> list[Manifest]:
    """Verify every bundle that a configuration names; return their manifests, the first one first.

    Raises BundleError: one cannot be used; ConfigError: two keys name the same weights, two that
    are reported bear one name, a package is missing that one needs, or chests are to be compared
    and none embeds them.
    """
    named = [("bundle", model.bundle), *(("further", name) for name in model.further)]
    named += [("shadow", model.shadow)] if model.shadow else []
    found: dict[str, tuple[str, Manifest]] = {}
    for key, name in named:
        try:
            manifest = verify(resolve_bundle(name))
        except BundleError as error:
            raise BundleError(f"model.{key}: {error}") if key == "further" else error from error
        if manifest.accepts.contract == PROJECTIONS:
            refuse_without_skimage()
        if manifest.sha256 in found:
            other = found[manifest.sha256][0]
            same = "the live bundle" if other == "bundle" else f"named by model.{other} already"
            raise ConfigError(f"model.{key} = {name!r}: it is {same}")
        if key == "further" and manifest.name in {each.name for _, each in found.values()}:
            raise ConfigError(f"model.further = {name!r}: another bundle is called {manifest.name}")
        found[manifest.sha256] = key, manifest
    reported = [manifest for key, manifest in found.values() if key != "shadow"]
    if model.compare_chests and not any(manifest.embedding for manifest in reported):
        names = ", ".join(manifest.name for manifest in reported)
        raise ConfigError(f"model.compare_chests = true: no bundle embeds chests, of {names}")
    return [manifest for _, manifest in found.values()]


def _read(file: Path) -> Manifest:
    """Read a manifest; BundleError names the file and the first field amiss."""
    try:
        return Manifest.model_validate(json.loads(file.read_bytes()))
    except OSError as error:
        raise BundleError(f"{file}: expected a readable manifest ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BundleError(f"{file}: {where}: {first['msg']}") from error
    except ValueError as error:
        raise BundleError(f"{file}: expected JSON ({error})") from error


def sha256(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
