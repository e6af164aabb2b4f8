"""Networks that others published, run on this program's images.

The architectures are torchvision's or written anew; no code of their authors is used, and no
weights are shipped or fetched: the user brings the file. Licences and sources stand in
:data:`dicom_ai_node.inference.imported.PUBLISHED` and are written into each imported bundle.

Both adapters are untested with the published weights. Two things differ from what the authors did:
images are stretched between percentiles here and by the full range of the stored bits there, and
squeezed to a square here where TorchXRayVision crops to one.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference import operators as operators  # before torchvision, see there
from dicom_ai_node.inference.bundle import IMPORTED, WEIGHTS, Input, sha256
from dicom_ai_node.inference.engine import fill
from dicom_ai_node.inference.imported import (
    PUBLISHED,
    UNTESTED,
    ImportedManifest,
    verify_imported,
)
from dicom_ai_node.inference.published import read_published
from dicom_ai_node.inference.senet import senet154_age
from dicom_ai_node.pixels.normalise import CONTRACT

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)


class RikenAge(nn.Module):
    """Age in years from (N, 1, 320, 320) in [0, 1]: shape (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = senet154_age()

    def forward(self, images: Tensor) -> Tensor:
        """Answer for ``images``."""
        mean, sd = (images.new_tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_SD))
        years: Tensor = self.model((images.expand(-1, 3, -1, -1) - mean) / sd)
        return years[:, 0]


class MiraSex(nn.Module):
    """Logit of female from (N, 1, 224, 224) in [0, 1]: shape (N,).

    The network has one logit for male, then one for female; a softmax of the two is the sigmoid of
    their difference.
    """

    def __init__(self) -> None:
        from torchvision.models import resnet34

        super().__init__()
        self.model: nn.Module = resnet34(weights=None, num_classes=2)

    def forward(self, images: Tensor) -> Tensor:
        """Answer for ``images``."""
        logits: Tensor = self.model(images.expand(-1, 3, -1, -1) * 255)
        return logits[:, 1] - logits[:, 0]


NETWORKS: dict[str, Callable[[], nn.Module]] = {"riken-age": RikenAge, "mira-sex": MiraSex}
"""The adapter of each network of PUBLISHED."""
MODEL = "model."
"""Prefix of the published network's tensors in the adapter, and in Lightning's checkpoints."""


def convert(name: str, weights: Path, out: Path) -> ImportedManifest:
    """Write an imported bundle into ``out``, a folder that is new or empty.

    ``weights`` is the published file of the network ``name`` of PUBLISHED, in a form that
    :func:`~dicom_ai_node.inference.published.read_published` reads.

    Raises
    ------
    BundleError
        When the file cannot be read, its tensors are not those of the network, or ``out`` is used.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out}: expected a new or empty folder")
    read = read_published(weights)
    state = {
        MODEL + key.removeprefix(MODEL): value.float() if value.is_floating_point() else value
        for key, value in read.items()
    }
    network = _build(name, state, weights)
    known = PUBLISHED[name]
    out.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()},
              out / WEIGHTS)  # fmt: skip
    (out / WEIGHTS).chmod(0o644)
    manifest = ImportedManifest(
        name=name,
        answers=known.answers,
        input=Input(contract=CONTRACT, size=known.size),
        scaling=known.scaling,
        sha256=sha256(out / WEIGHTS),
        source_sha256=sha256(weights),
        note=UNTESTED,
        licence=known.licence,
        citation=known.citation,
        home=known.home,
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=1)
    (out / IMPORTED).write_text(text + "\n")
    return manifest


class Imported:
    """An imported network, ready to answer.

    Parameters
    ----------
    path
        Folder of the imported bundle; its hash is checked, BundleError when anything is amiss.
    batch
        Most images that are computed at a time.
    """

    def __init__(self, path: Path, *, device: str = "cpu", batch: int = 4) -> None:
        self.manifest = verify_imported(path)
        self.size = self.manifest.input.size
        self.device = device
        self._batch = batch
        file = path / WEIGHTS
        try:
            state = load_file(file)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{file}: expected safetensors ({error})") from error
        self.network = _build(self.manifest.name, state, file).to(device)

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Answer for ``images``, shape (N, S, S), float32 in [0, 1], as ``pixels`` makes them.

        Returns
        -------
        Shape (N,): ages in years, or probabilities of female, as ``manifest.answers`` says. Neither
        is calibrated.
        """
        expected = (len(images), self.size, self.size)
        if images.shape != expected or images.dtype != np.float32:
            raise ValueError(f"expected float32 {expected}, got {images.dtype} {images.shape}")
        parts = [np.zeros(0)]
        for start in range(0, len(images), self._batch):
            part = np.ascontiguousarray(images[start : start + self._batch])
            answer: Tensor = self.network(torch.from_numpy(part)[:, None].to(self.device))
            if self.manifest.answers == "sex":
                answer = answer.sigmoid()
            parts.append(answer.cpu().numpy().astype(np.float64))
        return np.concatenate(parts)


def load_imported(path: Path) -> Imported:
    """Return the imported network in folder ``path``, a callable on images; on the CPU."""
    return Imported(path)


def _build(name: str, state: dict[str, Tensor], file: Path) -> nn.Module:
    with torch.device("meta"):  # the weights come from the file: none are drawn
        network = NETWORKS[name]()
    fill(network, state, name, file, assign=True)
    return network.eval()
