"""The weights that a run starts from: an earlier run's, a bundle's, ImageNet's, or random ones."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import NETWORK, fill
from dicom_ai_node.inference.network import Network
from training import imagenet
from training.config import RANDOM, Config
from training.tables import DataError


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
    if _named(config):
        file = Path(config.start)
        fill(made, _tensors(file), config.architecture, file)
    elif _imagenet(config):
        archive = root / imagenet.ARCHIVE
        if not archive.exists():
            raise DataError(
                f"{archive}: expected ImageNet weights; else name weights, or {RANDOM!r}, as start"
            )
        imagenet.load_imagenet(made.backbone, archive)
        images = calm(config.sides[0]).cpu()
        imagenet.insert_norms(made.backbone, list((images * 2 - 1).chunk(4)))
    return made


def words(config: Config) -> str:
    """The same for a person: what the weights came from."""
    if _named(config):
        return f"weights with SHA-256 {bundle.sha256(Path(config.start))}"
    return "ImageNet weights" if _imagenet(config) else "random weights"


def _named(config: Config) -> bool:
    return config.start not in ("", RANDOM)


def _imagenet(config: Config) -> bool:
    return not config.start and config.architecture == "mobilenet_v2"


def _tensors(file: Path) -> dict[str, Tensor]:
    """The network's tensors of a run, or of a bundle."""
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: expected weights to start from ({error})") from error
    of_bundle = {k.removeprefix(NETWORK): v for k, v in tensors.items() if k.startswith(NETWORK)}
    return of_bundle or tensors
