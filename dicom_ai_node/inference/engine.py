"""The engine: normalised images in, calibrated predictions out.

On a CPU the network is asked in ONNX Runtime, where the bundle has its graph, and torch is not
loaded; else in torch.
"""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

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
from dicom_ai_node.inference.heads import CategoryHead, Head, QuantityHead
from dicom_ai_node.inference.intervals import Predicted
from dicom_ai_node.likeness import Embedding

if TYPE_CHECKING:
    from dicom_ai_node.inference.network import Network
    from dicom_ai_node.inference.torch_engine import TorchEngine

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
Tensors = Mapping[str, NDArray[np.float32]]
"""Of a weights file, by name."""


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


class Engine(Protocol):
    """What computes a network."""

    name: str

    def run(self, images: NDArray[np.float32]) -> Raw:
        """Uncalibrated answers for ``images`` of shape (N, S, S) or (N, C, S, S), N > 0."""


class Estimator:
    """One bundle, loaded and ready.

    Parameters
    ----------
    bundle
        Folder of the bundle; its hashes are checked.
    device
        ``cpu``, ``cuda`` or ``auto``: CUDA when there is one. The CPU computes in float32, CUDA in
        bfloat16.
    batch
        Most images that are computed at a time.
    threads
        Of the CPU, for the whole process; None leaves the engine's own choice.
    embeds
        Whether chests are embedded, where the bundle can.
    eager
        Whether torch answers on a CPU, too.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        device: str = "auto",
        batch: int = 16,
        threads: int | None = None,
        embeds: bool = False,
        eager: bool = False,
    ) -> None:
        self.manifest: Manifest = verify(bundle)
        self.identity: ModelIdentity = self.manifest.identity
        self.size: int = self.manifest.size
        if device == "auto":
            device = "cuda" if has_cuda() else "cpu"
        self.device: str = device
        self._bundle, self._batch, self._threads, self._embeds = bundle, batch, threads, embeds
        tensors = read_tensors(bundle / WEIGHTS)
        self._content, self._texture = (space_of(tensors, name) for name in SPACES)
        known = (tensors[f"{name}.reference"].astype(np.float64) for name in SPACES)
        self.reference: Distances = Distances(*known).reference
        if device == "cpu" and self.manifest.onnx_sha256 and not eager:
            from dicom_ai_node.inference.onnx_engine import OnnxEngine

            self._engine: Engine = OnnxEngine(
                bundle, self.manifest, tensors, batch=batch, threads=threads, embeds=embeds
            )
        else:
            self._engine = self._in_torch(tensors)
            self.network = self._engine.network

    @property
    def engine(self) -> str:
        """What computes the network: ``onnxruntime`` or ``torch``."""
        return self._engine.name

    @cached_property
    def network(self) -> "Network":
        """The network in torch, which is loaded when it is first asked for.

        Raises BundleError: the files have changed since, or do not fit.
        """
        if verify(self._bundle).sha256 != self.manifest.sha256:
            raise BundleError(f"{self._bundle / WEIGHTS}: not what it was when it was loaded")
        network: Network = self._in_torch(read_tensors(self._bundle / WEIGHTS)).network
        return network

    def _in_torch(self, tensors: Tensors) -> "TorchEngine":
        from dicom_ai_node.inference.torch_engine import TorchEngine

        return TorchEngine(
            self._bundle,
            self.manifest,
            tensors,
            device=self.device,
            batch=self._batch,
            threads=self._threads,
            embeds=self._embeds,
        )

    def predict(self, images: NDArray[np.float32]) -> list[Prediction]:
        """Calibrated answer for each of ``images``, float32 in [0, 1].

        Their shape is (N, S, S) for an input contract of one channel, else (N, C, S, S).

        An answer does not depend on which images stand beside it.
        """
        channels = self.manifest.channels
        expected = (len(images), *((channels,) if channels > 1 else ()), self.size, self.size)
        if images.shape != expected or images.dtype != np.float32:
            raise ValueError(f"expected float32 {expected}, got {images.dtype} {images.shape}")
        if not len(images):
            return []
        return self.calibrated(*self.measure(images))

    def measure(self, images: NDArray[np.float32]) -> tuple[Raw, Distances]:
        """Uncalibrated answers for at least one of ``images``, and how far these lie off."""
        raw = self._engine.run(images)
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


def has_cuda() -> bool:
    """Whether there is a GPU that torch can use; without its driver, torch is not loaded to ask."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    from dicom_ai_node.inference import torch_engine

    return torch_engine.has_cuda()


def in_parts(images: NDArray[np.float32], batch: int) -> Iterator[NDArray[np.float32]]:
    """Yield ``images``, at most ``batch`` at a time."""
    for start in range(0, len(images), batch):
        yield images[start : start + batch]


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
