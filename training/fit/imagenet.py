"""ImageNet weights for MobileNetV2, taken from an archive of a TFLite model without batch norm.

The archive holds convolutions with batch norm folded in. Fine-tuning wants the norm back, so it is
put in again around the unchanged function: the norm's running statistics are those of the layer's
output on real radiographs, its scale and shift undo exactly what it normalises.

    python -m training.imagenet --data ../shared/data     # proves the mapping on two photographs
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dicom_ai_node.inference.network import mobilenet_v2

ARCHIVE = "weights/mobilenet_v2_imagenet_dequantised.npz"


def load_imagenet(backbone: nn.Module, archive: Path) -> tuple[Tensor, Tensor]:
    """Fill ``backbone`` (1 or 3 channels) in place; returns the classifier's weight and bias."""
    stored = np.load(archive)
    layers = sorted({key[:-2] for key in stored.files})
    pairs = [(m, n) for m, n in convolutions(backbone)]
    if len(layers) != len(pairs) + 1:
        raise ValueError(f"{archive}: {len(layers)} layers, expected {len(pairs) + 1}")
    with torch.no_grad():
        for layer, (convolution, norm) in zip(layers, pairs, strict=False):
            weight = torch.from_numpy(stored[f"{layer}_w"]).float()
            depthwise = "DEPTHWISE" in layer
            weight = weight.permute(3, 0, 1, 2) if depthwise else weight.permute(0, 3, 1, 2)
            if convolution.in_channels == 1 and weight.shape[1] == 3:
                weight = weight.sum(dim=1, keepdim=True)  # a grey image is three equal channels
            if convolution.weight.shape != weight.shape:
                raise ValueError(f"{archive}: {layer} is {tuple(weight.shape)}")
            convolution.weight.copy_(weight)
            norm.weight.fill_(1.0)
            norm.bias.copy_(torch.from_numpy(stored[f"{layer}_b"]))
            mean, variance = _statistics(norm)
            mean.zero_()
            variance.fill_(1.0 - norm.eps)
    top = layers[-1]
    weight = torch.from_numpy(stored[f"{top}_w"]).float()[:, 0, 0]
    return weight, torch.from_numpy(stored[f"{top}_b"])


@torch.no_grad()
def insert_norms(backbone: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the norms the statistics of ``batches`` (backbone input), keeping the function."""
    norms = [norm for _, norm in convolutions(backbone)]
    sums = {
        norm: (torch.zeros(norm.num_features), torch.zeros(norm.num_features)) for norm in norms
    }

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        sums[norm][0].add_(inputs[0].mean(dim=(0, 2, 3)))
        sums[norm][1].add_(inputs[0].square().mean(dim=(0, 2, 3)))

    hooks = [norm.register_forward_pre_hook(collect) for norm in norms]
    backbone.eval()
    count = 0
    for batch in batches:
        backbone(batch)
        count += 1
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, square = sums[norm][0] / count, sums[norm][1] / count
        variance = (square - mean.square()).clamp_min(0)
        running_mean, running_variance = _statistics(norm)
        running_mean.copy_(mean)
        running_variance.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def convolutions(backbone: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution with the norm that follows it, in the order of the forward pass."""
    modules = list(backbone.modules())
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    return list(zip(convolutions, norms, strict=True))


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


@torch.no_grad()
def main() -> None:
    """Print what the imported network takes two photographs for."""
    parser = argparse.ArgumentParser(description="prove the mapping of the ImageNet weights")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data: Path = parser.parse_args().data
    names = ["background", *(data / "weights/imagenet_labels.txt").read_text().splitlines()]
    names = names[1:] if names[1] == "background" else names
    backbone, _, _ = mobilenet_v2(channels=3)
    weight, bias = load_imagenet(backbone, data / ARCHIVE)
    backbone.eval()
    for photograph in ("cat.bmp", "parrot.jpg"):
        picture = Image.open(data / "weights" / photograph).convert("RGB").resize((224, 224))
        x = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float()
        x = x / 127.5 - 1
        for pass_ in ("folded", "with norms"):
            logits = backbone(x).mean(dim=(2, 3)) @ weight.T + bias
            best = logits.softmax(dim=1)[0].topk(3)
            answers = [
                f"{names[i]} {p:.2f}"
                for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
            print(photograph, pass_, answers)
            if pass_ == "folded":
                insert_norms(backbone, [x])
        load_imagenet(backbone, data / ARCHIVE)


if __name__ == "__main__":
    main()
