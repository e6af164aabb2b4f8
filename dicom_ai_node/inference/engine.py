"""The engine: normalised images in, calibrated predictions out."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference import calibration
from dicom_ai_node.inference.bundle import WEIGHTS, Manifest, verify
from dicom_ai_node.inference.calibration import Distances, Space
from dicom_ai_node.inference.network import Answers, Network, moments
from dicom_ai_node.types import ModelIdentity, Prediction

NETWORK = "network."
"""Prefix of the network's tensors in the weights file."""
SPACES = ("content", "texture")
SPACE_TENSORS = tuple(
    f"{space}.{part}"
    for space in SPACES
    for part in (*(field.name for field in fields(Space)), "reference")
)
"""Tensors of the weights file beside the network's: each Space, and the distances known there."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What the network says before calibration; each of shape (N,) but the last two."""

    mu: NDArray[np.float32]
    sigma: NDArray[np.float32]
    sex: NDArray[np.float32]
    frontal: NDArray[np.float32]
    chest: NDArray[np.float32]
    features: NDArray[np.float32]
    """Shape (N, F)."""
    texture: NDArray[np.float32]
    """Shape (N, T)."""


class Estimator:
    """One bundle, loaded and ready.

    Parameters
    ----------
    bundle
        Folder of the bundle; its hash is checked.
    device
        ``cpu``, ``cuda`` or ``auto``: CUDA when there is one. The CPU computes in float32, CUDA in
        bfloat16.
    batch
        Most images that are computed at a time.
    threads
        Of the CPU, for the whole process; None leaves torch's own choice.
    """

    def __init__(
        self, bundle: Path, *, device: str = "auto", batch: int = 16, threads: int | None = None
    ) -> None:
        self.manifest: Manifest = verify(bundle)
        self.identity: ModelIdentity = self.manifest.identity
        self.size: int = self.manifest.size
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device: str = device
        self._batch = batch
        tensors = read_tensors(bundle / WEIGHTS)
        self._content, self._texture = (space_of(tensors, name) for name in SPACES)
        known = (tensors[f"{name}.reference"].astype(np.float64) for name in SPACES)
        self.reference: Distances = Distances(*known).reference
        self.network = load_network(self.manifest.architecture, tensors, bundle / WEIGHTS)
        self.network = self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(self, images: NDArray[np.float32]) -> list[Prediction]:
        """Calibrated answer for each of ``images``, shape (N, S, S), float32 in [0, 1].

        An answer does not depend on which images stand beside it.
        """
        expected = (len(images), self.size, self.size)
        if images.shape != expected or images.dtype != np.float32:
            raise ValueError(f"expected float32 {expected}, got {images.dtype} {images.shape}")
        if not len(images):
            return []
        return self.calibrated(*self.measure(images))

    def measure(self, images: NDArray[np.float32]) -> tuple[Raw, Distances]:
        """Uncalibrated answers for at least one of ``images``, and how far these lie off."""
        raw = run(self.network, images, device=self.device, batch=self._batch)
        content, texture = raw.features, raw.texture
        return raw, Distances(self._content.distance(content), self._texture.distance(texture))

    def calibrated(self, raw: Raw, distances: Distances) -> list[Prediction]:
        """Calibrated answers from what :meth:`measure` gives."""
        age, sex = self.manifest.calibration.age, self.manifest.calibration.sex
        mu, sigma = raw.mu.astype(np.float64), raw.sigma.astype(np.float64)
        in_distribution = calibration.p_value(distances.content, self.reference.content)
        p_value = calibration.p_value(distances.texture, self.reference.texture)
        excess = calibration.excess(distances.texture, self.reference.texture)
        female = sex.probabilities_female(raw.sex.astype(np.float64), excess)
        low, high = age.intervals(mu, sigma, p_female=female, p_value=p_value, excess=excess)
        sd = age.sds(sigma, excess)
        return [
            Prediction(
                age=float(mu[i]),
                age_sd=float(sd[i]),
                age_interval90=(float(low[i]), float(high[i])),
                probability_female=float(female[i]),
                chest=calibration.sigmoid(float(raw.chest[i])),
                frontal=calibration.sigmoid(float(raw.frontal[i])),
                in_distribution=float(in_distribution[i]),
            )
            for i in range(len(mu))
        ]


def run(
    network: Network, images: NDArray[np.float32], *, device: str = "cpu", batch: int = 16
) -> Raw:
    """Uncalibrated answers for ``images`` of shape (N, S, S), N > 0."""
    parts = [_answer(network, part, device) for part in _parts(images, batch)]
    return Raw(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _parts(images: NDArray[np.float32], batch: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(images), batch):
        yield images[start : start + batch]


@torch.inference_mode()
def _answer(
    network: Network, images: NDArray[np.float32], device: str
) -> tuple[NDArray[np.float32], ...]:
    x = torch.from_numpy(np.ascontiguousarray(images))[:, None].to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.startswith("cuda")):
        features, texture = network.pooled(x)
    answers: Answers = network.answer(features)
    mu, sigma = moments(answers.ages)
    outputs = (mu, sigma, answers.sex, answers.frontal, answers.chest, features, texture)
    return tuple(output.float().cpu().numpy() for output in outputs)


def load_network(architecture: str, tensors: dict[str, NDArray[np.float32]], file: Path) -> Network:
    """Build the network and fill it, ready to answer; BundleError when the tensors do not fit."""
    network = Network(architecture)
    state = {
        name.removeprefix(NETWORK): torch.from_numpy(tensor)
        for name, tensor in tensors.items()
        if name.startswith(NETWORK)
    }
    fill(network, state, architecture, file)
    return network.eval()


def fill(network: nn.Module, state: dict[str, Tensor], architecture: str, file: Path) -> None:
    """Put the tensors that ``file`` holds into ``network``; BundleError when they do not fit."""
    try:
        strangers = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a wrong shape; the message lists each on a line of its own
        reason = " ".join(str(error).splitlines()[1:2]).strip() or str(error)
        raise BundleError(f"{file}: expected the tensors of {architecture}: {reason}") from error
    amiss = [f"{name} is missing" for name in strangers.missing_keys]
    amiss += [f"{name} is not one of them" for name in strangers.unexpected_keys]
    if amiss:
        others = f" (and {len(amiss) - 1} more)" if len(amiss) > 1 else ""
        raise BundleError(f"{file}: expected the tensors of {architecture}: {amiss[0]}{others}")


def read_tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """Read a weights file; BundleError when it cannot be read or lacks the spaces' tensors."""
    try:
        tensors: dict[str, NDArray[np.float32]] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{file}: expected safetensors ({error})") from error
    for name in SPACE_TENSORS:
        if name not in tensors:
            raise BundleError(f"{file}: expected the tensor {name}")
    return tensors


def space_of(tensors: dict[str, NDArray[np.float32]], name: str) -> Space:
    """Return the space of that name, one of :data:`SPACES`, from a weights file's tensors."""
    return Space(*(tensors[f"{name}.{field.name}"] for field in fields(Space)))
