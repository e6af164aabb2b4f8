"""ImageNet weights as torchvision publishes them, fitted to a backbone of one grey channel.

torchvision's networks take RGB less ImageNet's mean m over its deviation s; ours take z = 2x - 1 of
a grey x. Colour c of a grey image is z / (2 s_c) + (1/2 - m_c) / s_c, so the first convolution is
summed over the colours with 1 / (2 s_c), and what the constant adds to its output moves the mean of
the norm behind it. Inside the image that changes nothing. Along its border both pad with zeros,
which is mid-grey here and ImageNet's mean colour there: no padding of one channel is all three.

MobileNetV2 pads as TensorFlow does here, see :mod:`dicom_ai_node.inference.network`: at each
halving its windows lie a pixel further right and down than torchvision's, which moves the image.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dicom_ai_node.inference import operators as operators  # before torchvision, see there
from training.data.tables import DataError

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


def is_name(start: str) -> bool:
    """Whether ``start`` looks like the name of torchvision's weights, and not like a file."""
    return _NAME.fullmatch(start) is not None


def named_file(architecture: str, name: str) -> Path:
    """Where torchvision keeps the weights ``name``, as in ``ResNet18_Weights.IMAGENET1K_V1``.

    Raises
    ------
    DataError
        They are not of this architecture, or are not there: nothing is downloaded.
    """
    from torchvision.models import get_model_weights

    urls = {f"{type(one).__name__}.{one.name}": one.url for one in get_model_weights(architecture)}
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


def grey(architecture: str, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The tensors of our backbone, from those of torchvision's network that ``file`` holds.

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
    of_one = torch.einsum("ocyx,c->oyx", weight.double(), 1 / (2 * s))[:, None]
    constant = torch.einsum("ocyx,c->o", weight.double(), (0.5 - m) / s)
    return tensors | {convolution: of_one.float(), norm: (mean.double() - constant).float()}


def _renamed(architecture: str, name: str) -> str:
    if architecture == "resnet18":
        first, _, rest = name.partition(".")
        return f"{_RESNET.get(first, first)}.{rest}"
    return _OLDER.sub(r"\1\2.", name.removeprefix("features."))
