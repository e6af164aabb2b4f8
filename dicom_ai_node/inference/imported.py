"""An imported bundle: somebody else's network, that answers one question and nothing else.

A folder with weights.safetensors and imported.json. It is on purpose no bundle in the sense of
:mod:`dicom_ai_node.inference.bundle`: such a network knows only age or only sex, says nothing of
its own doubt, was never calibrated and has no gates, so the node must not answer with it. ``infer
--beside`` shows what it says of images that passed the gates of a real bundle.

Nothing here imports torch; :mod:`dicom_ai_node.inference.foreign` runs these networks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.bundle import IMPORTED, Input, check_contract, check_weights, read
from dicom_ai_node.types import ModelIdentity

UNTESTED = (
    "Untested with the published weights: the adapter was tried on the same architecture with"
    " random ones. Not calibrated, without gates. Not a medical device."
)


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a published network."""

    answers: Literal["age", "sex"]
    size: int
    scaling: str
    """What its adapter does to an image of the contract before the network sees it."""
    licence: str
    citation: str
    home: str


PUBLISHED = {
    "riken-age": Published(
        answers="age",
        size=320,
        scaling="three equal channels, (x - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)",
        licence="Apache-2.0, copyright 2022 Hirotaka Ieki and Kaoru Ito; trained on NIH ChestX-ray",
        citation="Ieki et al., Communications Medicine 2, 159 (2022), 10.1038/s43856-022-00220-6",
        home="github.com/pirocv/xray_age; torchxrayvision.baseline_models.riken.AgeModel",
    ),
    "mira-sex": Published(
        answers="sex",
        size=224,
        scaling="three equal channels, 255 x",
        licence="Apache-2.0 (code); the weights were trained on CheXpert, see its terms of use",
        citation="Glocker and Winzeck, arXiv:2110.14755 (2021)",
        home="github.com/biomedia-mira/chexploration;"
        " torchxrayvision.baseline_models.mira.SexModel",
    ),
}
"""The networks that can be imported, by the name that ``model import`` takes."""


class ImportedManifest(BaseModel):
    """The contents of imported.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    kind: Literal["imported"] = "imported"
    name: str
    """One of PUBLISHED."""
    answers: Literal["age", "sex"]
    input: Input
    scaling: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of weights.safetensors."""
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the file that the weights came from."""
    calibrated: Literal[False] = False
    note: str
    licence: str
    citation: str
    home: str

    @property
    def identity(self) -> ModelIdentity:
        """Name and hash; others' networks have no version here."""
        return ModelIdentity(self.name, "imported", self.sha256)


def is_imported(path: Path) -> bool:
    """Whether the folder ``path`` holds an imported bundle."""
    return (path / IMPORTED).is_file()


def load_imported_manifest(path: Path) -> ImportedManifest:
    """Read and check imported.json of the folder ``path``; BundleError if unusable."""
    file = path / IMPORTED
    manifest = read(file, ImportedManifest)
    check_contract(manifest.input, file)
    known = PUBLISHED.get(manifest.name)
    if known is None:
        names = ", ".join(PUBLISHED)
        raise BundleError(f"{file}: name {manifest.name!r}, expected one of {names}")
    if (manifest.answers, manifest.input.size) != (known.answers, known.size):
        raise BundleError(f"{file}: expected {manifest.name} to answer {known.answers} from images"
                          f" of {known.size} pixels")  # fmt: skip
    return manifest


def verify_imported(path: Path) -> ImportedManifest:
    """Like :func:`load_imported_manifest`, and the weights are the ones that it names."""
    manifest = load_imported_manifest(path)
    check_weights(path, manifest.sha256)
    return manifest
