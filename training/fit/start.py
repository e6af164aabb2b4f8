"""The weights that a run starts from: an earlier run's, a bundle's, ImageNet's, or random ones.

torchvision publishes ImageNet weights of networks that take RGB less ImageNet's mean m over its
deviation s; ours take z = 2x - 1 of a grey x. Colour c of a grey image is
z / (2 s_c) + (1/2 - m_c) / s_c, so the first convolution is summed over the colours with
1 / (2 s_c), and what the constant adds to its output moves the mean of the norm behind it. Inside
the image that changes nothing. Along its border both pad with zeros, which is mid-grey here and
ImageNet's mean colour there: no padding of one channel is all three.

MobileNetV2 pads as TensorFlow does here, see :mod:`dicom_ai_node.inference.network`: at each
halving its windows lie a pixel further right and down than torchvision's, which moves the image.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from torch import Tensor

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import NETWORK
from dicom_ai_node.inference.heads import GATES, HEADS, Row
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import fill
from training.data.tables import DataError
from training.fit import mobilenet
from training.fit.config import RANDOM, WEIGHTS, RunConfig

PICKLED = (".pth", ".pt")
"""Names of what torch saves; anything else is safetensors."""

OURS = "backbone."
COUNTER = "num_batches_tracked"
"""Of a norm; a bundle has it as an array of one number."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in [0, 1], as every preset of these networks has them."""

FIRST = {
    "mobilenet_v2": ("0.0", "0.1"),
    "efficientnet_b0": ("0.0", "0.1"),
    "densenet121": ("conv0", "norm0"),
    "resnet18": ("0", "1"),
}
"""The first convolution of each backbone, and the norm behind it."""

_RESNET = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
_HEADS = ("fc.", "classifier.")
_NAME = re.compile(r"[A-Za-z0-9_]+_Weights\.[A-Z0-9_]+")
_OLDER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


def network(
    config: RunConfig,
    root: Path,
    images: Callable[[int], Tensor],
    rows: Sequence[Row] = (*HEADS, *GATES),
    channels: int = 1,
) -> Network:
    """The network to train; ``images`` of a side give the statistics of the norms.

    Of the network that ``start`` names, the linear layer is taken only where it is as large as that
    of ``rows``, and a first convolution of one channel serves for several.

    Raises DataError: there are no such weights; BundleError: they are another network's.
    """
    made = Network(config.architecture, config.dropout, rows, channels)
    named = file(config)
    if named is not None:
        fill_from(made, named)
    elif not config.start:
        archive = root / mobilenet.ARCHIVE
        if config.architecture != "mobilenet_v2":
            raise DataError(
                f"start: expected weights of {config.architecture}, such as torchvision's by name"
                f" or file, or {RANDOM!r}: the ImageNet weights at hand are mobilenet_v2's"
            )
        if not archive.exists():
            raise DataError(
                f"{archive}: expected ImageNet weights; else name weights, or {RANDOM!r}, as start"
            )
        mobilenet.load_imagenet(made.backbone, archive)
        if not config.ridge:  # else they are not needed
            batch = images(config.sides[0]).cpu()
            mobilenet.insert_norms(made.backbone, list((batch * 2 - 1).chunk(4)))
    return made


def file(config: RunConfig) -> Path | None:
    """The file of the weights that ``start`` names, as a file or as torchvision does.

    None where it names none: for random weights, and for the ImageNet weights at hand.

    Raises DataError: torchvision's are not there, or not of this architecture.
    """
    if config.start in ("", RANDOM):
        return None
    if is_name(config.start):
        return named_file(config.architecture, config.start)
    return Path(config.start)


def words(config: RunConfig) -> str:
    """The same for a person: what the weights came from."""
    named = file(config)
    if named is not None:
        return f"weights with SHA-256 {bundle.sha256(named)}"
    return "random weights" if config.start else "ImageNet weights"


def weights_of(folder: Path) -> Path:
    """The weights file of a run or of a bundle."""
    packed = folder / bundle.WEIGHTS
    return packed if packed.exists() else folder / WEIGHTS


def network_tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a run, or those of the network of a bundle, by their names in a run."""
    tensors: dict[str, NDArray[np.float32]] = load_arrays(file)
    of_bundle = {
        name.removeprefix(NETWORK): tensor.reshape(()) if name.endswith(COUNTER) else tensor
        for name, tensor in tensors.items()
        if name.startswith(NETWORK)
    }
    return of_bundle or tensors


def history(config: RunConfig) -> str:
    """What a manifest says of a run: its network, what that started from, how long it trained."""
    made = f"{config.architecture} from {words(config)}"
    if config.ridge:
        return f"{made}, its linear layer by ridge regression, nothing else trained"
    return f"{made}, trained for {config.budget}"


def fill_from(network: Network, file: Path) -> None:
    """Take the whole network of a run or of a bundle, or the backbone of torchvision's."""
    tensors = _tensors(file)
    of_bundle = {k.removeprefix(NETWORK): v for k, v in tensors.items() if k.startswith(NETWORK)}
    ours = of_bundle or tensors
    if not any(name.startswith(OURS) for name in ours):
        ours = from_colours(network.architecture, ours, file, network.channels)
        fill(network.backbone, ours, network.architecture, file)
        return
    if network.channels > 1:
        first = f"{OURS}{FIRST[network.architecture][0]}.weight"
        if first in ours and ours[first].shape[1] == 1:
            ours = ours | {first: spread(ours[first], network.channels)}
    layer = ours.get("head.weight")
    if layer is not None and layer.shape != network.head.weight.shape:
        backbone = {k.removeprefix(OURS): v for k, v in ours.items() if k.startswith(OURS)}
        fill(network.backbone, backbone, network.architecture, file)
    else:
        fill(network, ours, network.architecture, file)


def spread(weight: Tensor, channels: int) -> Tensor:
    """Return weights (O, 1, y, x) for ``channels``: they see in equal ones what one showed."""
    return weight.repeat(1, channels, 1, 1) / channels


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


def is_name(start: str) -> bool:
    """Whether ``start`` looks like the name of torchvision's weights, and not like a file."""
    return _NAME.fullmatch(start) is not None


def named_file(architecture: str, name: str) -> Path:
    """Where torchvision keeps the weights ``name``, as in ``ResNet18_Weights.IMAGENET1K_V1``.

    Raises DataError: they are not of this architecture, or are not there: nothing is downloaded.
    """
    from torchvision.models import get_model_weights

    urls = {f"{type(w).__name__}.{w.name}": w.url for w in get_model_weights(architecture)}
    if name not in urls:
        expected = ", ".join(sorted(urls))
        raise DataError(f"start: expected weights of {architecture}, {expected}; got {name!r}")
    file = Path(torch.hub.get_dir(), "checkpoints", urls[name].rpartition("/")[2])
    if not file.is_file():
        raise DataError(
            f"{file}: expected the weights {name}; nothing is downloaded, so put"
            f" {urls[name]} there, or name its file as start"
        )
    return file


def from_colours(
    architecture: str, state: Mapping[str, Tensor], file: Path, channels: int = 1
) -> dict[str, Tensor]:
    """The tensors of our backbone, from those of torchvision's network that ``file`` holds.

    Three channels take the place of the colours; any other number of them is grey.

    Raises
    ------
    DataError
        There is no first convolution of three colours. Other strangers are left to who fills the
        backbone.
    """
    tensors = {
        _renamed(architecture, name): tensor
        for name, tensor in state.items()
        if not name.startswith(_HEADS)
    }
    first, behind = FIRST[architecture]
    convolution, norm = f"{first}.weight", f"{behind}.running_mean"
    weight, mean = tensors.get(convolution), tensors.get(norm)
    if weight is None or mean is None or weight.ndim != 4 or weight.shape[1] != len(MEAN):
        raise DataError(f"{file}: expected torchvision's weights of {architecture}, of RGB images")
    m, s = (torch.tensor(of, dtype=torch.float64) for of in (MEAN, DEVIATION))
    scaled = weight.double() / (2 * s)[:, None, None]
    if channels != len(MEAN):
        scaled = spread(scaled.sum(dim=1, keepdim=True), channels)
    constant = torch.einsum("ocyx,c->o", weight.double(), (0.5 - m) / s)
    return tensors | {convolution: scaled.float(), norm: (mean.double() - constant).float()}


def _renamed(architecture: str, name: str) -> str:
    if architecture == "resnet18":
        first, _, rest = name.partition(".")
        return f"{_RESNET.get(first, first)}.{rest}"
    return _OLDER.sub(r"\1\2.", name.removeprefix("features."))
