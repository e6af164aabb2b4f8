"""The weights that a run starts from: an earlier run's, a bundle's, ImageNet's, or random ones."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import NETWORK, fill
from dicom_ai_node.inference.network import Network
from training.data.tables import DataError
from training.fit import from_torchvision, imagenet
from training.fit.config import RANDOM, Config

PICKLED = (".pth", ".pt")
"""Names of what torch saves; anything else is safetensors."""
OURS = "backbone."
"""Tensors so named are of a network of this project; torchvision's have no such."""


def network(config: Config, root: Path, calm: Callable[[int], Tensor]) -> Network:
    """The network to train; ``calm`` gives images of a side for the statistics of the norms.

    Raises
    ------
    DataError
        There are no such weights.
    BundleError
        They are another network's.
    """
    made = Network(config.architecture, config.dropout)
    named = file(config)
    if named is not None:
        fill_from(made, named)
    elif not config.start:
        archive = root / imagenet.ARCHIVE
        if config.architecture != "mobilenet_v2":
            raise DataError(
                f"start: expected weights of {config.architecture}, such as torchvision's by name"
                f" or file, or {RANDOM!r}: the ImageNet weights at hand are mobilenet_v2's"
            )
        if not archive.exists():
            raise DataError(
                f"{archive}: expected ImageNet weights; else name weights, or {RANDOM!r}, as start"
            )
        imagenet.load_imagenet(made.backbone, archive)
        images = calm(config.sides[0]).cpu()
        imagenet.insert_norms(made.backbone, list((images * 2 - 1).chunk(4)))
    return made


def file(config: Config) -> Path | None:
    """The file of the weights that ``start`` names, as a file or as torchvision does.

    None where it names none: for random weights, and for the ImageNet weights at hand.

    Raises
    ------
    DataError
        torchvision's are not there, or not of this architecture.
    """
    if config.start in ("", RANDOM):
        return None
    if from_torchvision.is_name(config.start):
        return from_torchvision.named_file(config.architecture, config.start)
    return Path(config.start)


def words(config: Config) -> str:
    """The same for a person: what the weights came from."""
    named = file(config)
    if named is not None:
        return f"weights with SHA-256 {bundle.sha256(named)}"
    return "random weights" if config.start else "ImageNet weights"


def history(config: Config) -> str:
    """What a manifest says of a run: its network, what that started from, how long it trained."""
    return f"{config.architecture} from {words(config)}, trained for {config.budget}"


def fill_from(network: Network, file: Path) -> None:
    """Take the whole network of a run or of a bundle, or the backbone of torchvision's."""
    tensors = _tensors(file)
    of_bundle = {k.removeprefix(NETWORK): v for k, v in tensors.items() if k.startswith(NETWORK)}
    ours = of_bundle or tensors
    if any(name.startswith(OURS) for name in ours):
        fill(network, ours, network.architecture, file)
    else:
        grey = from_torchvision.grey(network.architecture, ours, file)
        fill(network.backbone, grey, network.architecture, file)


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = _pickled(file) if file.suffix in PICKLED else load_file(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: expected weights to start from ({error})") from error
    return tensors


def _pickled(file: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # Damage makes torch fail in many ways, and its messages advise to run what is in the file.
        raise DataError(f"{file}: expected tensors alone, as torch saves them") from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise DataError(f"{file}: expected weights to start from, a tensor for each name")
    return found
