"""The engine: normalised images in, calibrated predictions out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn

from dicom_ai_node.answers import (
    Answer,
    Category,
    LabelProbabilities,
    Measured,
    ModelIdentity,
    Prediction,
    Quantity,
)
from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference import calibration
from dicom_ai_node.inference.bundle import WEIGHTS, Manifest, verify
from dicom_ai_node.inference.distances import Distances, Far, Floats, Space, p_value
from dicom_ai_node.inference.embedding import Branch
from dicom_ai_node.inference.heads import GATES, HEADS, CategoryHead, Head, QuantityHead, Row
from dicom_ai_node.inference.intervals import Predicted
from dicom_ai_node.inference.network import Network, fold_norms, pool, stacked
from dicom_ai_node.likeness import Embedding

NETWORK = "network."
"""Prefix of the network's tensors in the weights file."""
BRANCH = "embedding."
"""Prefix of the tensors of the branch that embeds."""
SPACES = ("content", "texture")
SPACE_TENSORS = tuple(
    f"{space}.{part}"
    for space in SPACES
    for part in (*(field.name for field in fields(Space)), "reference")
)
"""Tensors of the weights file beside the network's: each Space, and the distances known there."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What the network says of N images before calibration."""

    values: Mapping[str, NDArray[np.float32]]
    """Of each head and gate by its name, see :meth:`Network.values`."""
    features: NDArray[np.float32]
    """Shape (N, F)."""
    texture: NDArray[np.float32]
    """Shape (N, T)."""
    embedding: NDArray[np.float32] | None = None
    """Shape (N, 128), each of length 1; None where none was asked for."""

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.values[name]

    def at(self, positions: NDArray[np.int64]) -> "Raw":
        """Return some of the images."""
        values = {name: of[positions] for name, of in self.values.items()}
        embedding = None if self.embedding is None else self.embedding[positions]
        return Raw(values, self.features[positions], self.texture[positions], embedding)

    @classmethod
    def joined(cls, parts: "Sequence[Raw]") -> "Raw":
        """Return the images of all ``parts``, at least one, in order."""
        embedded = [part.embedding for part in parts if part.embedding is not None]
        return cls(
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0].values},
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.texture for part in parts]),
            np.concatenate(embedded) if embedded else None,
        )


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
    embeds
        Whether chests are embedded, where the bundle can.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        device: str = "auto",
        batch: int = 16,
        threads: int | None = None,
        embeds: bool = False,
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
        self.network = load_network(
            self.manifest.architecture,
            tensors,
            bundle / WEIGHTS,
            self.manifest.rows,
            self.manifest.channels,
        )
        fold_norms(self.network)
        self.network = self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._branch: Branch | None = None
        if embeds and self.manifest.embedding is not None:
            channels = self.manifest.embedding.channels
            self._branch = load_branch(channels, tensors, bundle / WEIGHTS).to(device)

    def predict(self, images: NDArray[np.float32]) -> list[Prediction]:
        """Calibrated answer for each of ``images``, float32 in [0, 1].

        Their shape is (N, S, S) for an input contract of one channel, else (N, C, S, S).

        An answer does not depend on which images stand beside it.
        """
        channels = self.network.channels
        expected = (len(images), *((channels,) if channels > 1 else ()), self.size, self.size)
        if images.shape != expected or images.dtype != np.float32:
            raise ValueError(f"expected float32 {expected}, got {images.dtype} {images.shape}")
        if not len(images):
            return []
        return self.calibrated(*self.measure(images))

    def measure(self, images: NDArray[np.float32]) -> tuple[Raw, Distances]:
        """Uncalibrated answers for at least one of ``images``, and how far these lie off."""
        raw = run(self.network, images, device=self.device, batch=self._batch, branch=self._branch)
        content, texture = raw.features, raw.texture
        return raw, Distances(self._content.distance(content), self._texture.distance(texture))

    def calibrated(self, raw: Raw, distances: Distances) -> list[Prediction]:
        """Calibrated answers from what :meth:`measure` gives."""
        far = Far.of(distances, self.reference)
        in_distribution = p_value(distances.content, self.reference.content)
        predicted = self.manifest.calibration.predicted(self.manifest.heads, raw.values, far)
        answers = {
            head.name: self._answers(head, raw[head.name].astype(np.float64), predicted, far)
            for head in self.manifest.heads
        }
        measured = self._measured(raw, distances)
        return [
            Prediction(
                answers={name: of_head[i] for name, of_head in answers.items()},
                gates={
                    gate.name: calibration.sigmoid(float(raw[gate.name][i]))
                    for gate in self.manifest.gates
                },
                in_distribution=float(in_distribution[i]),
                embedding=self._embedding(raw, i),
                measured=measured[i],
            )
            for i in range(len(in_distribution))
        ]

    def _embedding(self, raw: Raw, i: int) -> Embedding | None:
        part = self.manifest.embedding
        if raw.embedding is None or part is None:
            return None
        return Embedding(self.manifest.sha256, tuple(raw.embedding[i].tolist()), part.scale)

    def _measured(self, raw: Raw, distances: Distances) -> list[Measured]:
        """Return what a calibration is fitted to, of each image."""
        columns = {
            head.name: raw[head.name].reshape(len(distances.content), -1).tolist()
            for head in self.manifest.heads
            if isinstance(head, QuantityHead | CategoryHead)
        }
        far = zip(distances.content.tolist(), distances.texture.tolist(), strict=True)
        return [
            Measured({name: tuple(of[i]) for name, of in columns.items()}, content, texture)
            for i, (content, texture) in enumerate(far)
        ]

    def _answers(self, head: Head, raw: Floats, predicted: Predicted, far: Far) -> Sequence[Answer]:
        """Return the calibrated answer of one head for each image."""
        if isinstance(head, QuantityHead):
            fitted = self.manifest.calibration.quantity(head.name)
            mu, sigma, excess = predicted[head.name], raw[:, 1], far.excess
            low, high = fitted.intervals(
                mu, sigma, predicted=predicted, excess=excess, bounds=head.bounds
            )
            columns = (mu, fitted.sds(sigma, excess), low, high)
            return [
                Quantity(mean, sd, (least, most), head.unit, head.attribute)
                for mean, sd, least, most in zip(*map(np.ndarray.tolist, columns), strict=True)
            ]
        if isinstance(head, CategoryHead):
            found = np.stack([predicted[f"{head.name}.{value}"] for value in head.values], axis=1)
            return [
                _category(head, dict(zip(head.values, row, strict=True))) for row in found.tolist()
            ]
        found = self.manifest.calibration.findings(head.name).probabilities(raw, far.excess)
        return [
            LabelProbabilities(dict(zip(head.labels, row, strict=True))) for row in found.tolist()
        ]


def _category(head: CategoryHead, probabilities: dict[str, float]) -> Category:
    """Return the answer of one image; of regions it covers the most probable one."""
    answer = Category(probabilities, head.attribute)
    return replace(answer, covered=(answer.value,)) if head.spans else answer


def run(
    network: Network,
    images: NDArray[np.float32],
    *,
    device: str = "cpu",
    batch: int = 16,
    branch: Branch | None = None,
) -> Raw:
    """Uncalibrated answers for ``images`` of shape (N, S, S) or (N, C, S, S), N > 0.

    With a ``branch``, their embeddings too.
    """
    return Raw.joined([_answer(network, part, device, branch) for part in _parts(images, batch)])


def _parts(images: NDArray[np.float32], batch: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(images), batch):
        yield images[start : start + batch]


@torch.inference_mode()
def _answer(
    network: Network, images: NDArray[np.float32], device: str, branch: Branch | None
) -> Raw:
    x = stacked(torch.from_numpy(np.ascontiguousarray(images))).to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.startswith("cuda")):
        maps, middle = network.maps(x)
        features, texture = pool(maps), pool(middle)
        embedding = branch(middle) if branch else None
    values = network.values(network.answer(features))
    return Raw(
        {name: value.float().cpu().numpy() for name, value in values.items()},
        features.float().cpu().numpy(),
        texture.float().cpu().numpy(),
        None if embedding is None else embedding.cpu().numpy(),
    )


def load_network(
    architecture: str,
    tensors: dict[str, NDArray[np.float32]],
    file: Path,
    rows: Sequence[Row] = (*HEADS, *GATES),
    channels: int = 1,
) -> Network:
    """Build the network and fill it, ready to answer; BundleError when the tensors do not fit."""
    network = Network(architecture, rows=rows, channels=channels)
    state = {
        name.removeprefix(NETWORK): torch.from_numpy(tensor)
        for name, tensor in tensors.items()
        if name.startswith(NETWORK)
    }
    fill(network, state, architecture, file)
    return network.eval()


def load_branch(channels: int, tensors: dict[str, NDArray[np.float32]], file: Path) -> Branch:
    """Build the branch that embeds, and fill it; BundleError when the tensors do not fit."""
    state = {
        name.removeprefix(BRANCH): torch.from_numpy(tensor)
        for name, tensor in tensors.items()
        if name.startswith(BRANCH)
    }
    branch = Branch(channels)
    fill(branch, state, "the embedding", file)
    return branch.eval()


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
