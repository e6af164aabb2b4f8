"""Networks in torch: on CUDA, for saliency and training, and on a CPU for bundles without ONNX."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.bundle import WEIGHTS, Manifest
from dicom_ai_node.inference.embedding import Branch
from dicom_ai_node.inference.engine import BRANCH, NETWORK, Raw, Tensors, in_parts
from dicom_ai_node.inference.heads import GATES, HEADS, Row
from dicom_ai_node.inference.network import Network, fold_norms, pool, stacked


class TorchEngine:
    """The network of a bundle on ``device``, its norms folded into its convolutions.

    The CPU computes in float32, CUDA in bfloat16. ``threads`` of the CPU are set for the whole
    process; None leaves torch's own choice. With ``embeds``, chests are embedded where the bundle
    can.
    """

    name = "torch"

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        tensors: Tensors,
        *,
        device: str = "cpu",
        batch: int = 16,
        threads: int | None = None,
        embeds: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._device, self._batch = device, batch
        file = bundle / WEIGHTS
        network = load_network(
            manifest.architecture, tensors, file, manifest.rows, manifest.channels
        )
        fold_norms(network)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._branch: Branch | None = None
        if embeds and manifest.embedding is not None:
            self._branch = load_branch(manifest.embedding.channels, tensors, file).to(device)

    def run(self, images: NDArray[np.float32]) -> Raw:
        """Uncalibrated answers for ``images`` of shape (N, S, S) or (N, C, S, S), N > 0."""
        return run(
            self.network, images, device=self._device, batch=self._batch, branch=self._branch
        )


def has_cuda() -> bool:
    """Whether torch finds a GPU."""
    return torch.cuda.is_available()


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
    return Raw.joined([_answer(network, part, device, branch) for part in in_parts(images, batch)])


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
    tensors: Tensors,
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


def load_branch(channels: int, tensors: Tensors, file: Path) -> Branch:
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
