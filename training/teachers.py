"""Distillation: what trained networks say of the training images, as part of the targets.

Several networks agree on less of the noise in the labels than each has learnt of it; one that is
taught their mean answer, on images changed on purpose, comes near to all of them at the price of
one (Hinton et al. 2015).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from dicom_ai_node.inference.network import Answers, Network
from training import checkpoint, loss, record, start
from training.config import Config
from training.data import Images

FILE = "taught.safetensors"
AT_ONCE = 32
Taught = dict[str, Tensor]
"""``ages`` (N, 101), each a distribution, and ``female`` (N,), probabilities."""


def taught(config: Config, images: Images, device: torch.device) -> Taught:
    """What the ``config.teachers`` say of ``images``; kept in the folder of the run.

    They see them unchanged, at the side of the last stage.

    Raises
    ------
    DataError
        A teacher is not there, or was trained with other images: it may know what is held out.
    BundleError
        They are another network's.
    """
    for folder in config.teachers:
        checkpoint.check_images(Path(folder), images.items)
    file, side = Path(config.out) / FILE, config.sides[-1]
    wanted = f"{side} {record.images(images.items)} {record.teachers(config)}"
    if file.exists():
        with safe_open(file, framework="pt") as kept:
            if kept.metadata() == {"of": wanted}:
                return {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
    teachers = [_teacher(config, weights, device) for weights in config.teachers_weights]
    found = _answers(teachers, images, side, device)
    partial = file.with_suffix(".partial")
    save_file(found, partial, {"of": wanted})
    partial.rename(file)
    return found


def mixed(labels: Taught, answers: Taught, share: float) -> Taught:
    """Targets of age and sex of which ``share`` is what teachers said; unknown stays unknown."""
    recorded = {loss.AGES_TARGET: loss.around(labels["age"]), "female": labels["female"]}
    return {
        name: (1 - share) * target + share * answers[name].to(target.device)
        for name, target in recorded.items()
    }


def _teacher(config: Config, file: Path, device: torch.device) -> Network:
    network = Network(config.architecture)
    start.fill_from(network, file)
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


@torch.inference_mode()
def _answers(
    teachers: Sequence[Network], images: Images, side: int, device: torch.device
) -> Taught:
    ages, female = [], []
    for first in track(range(0, len(images), AT_ONCE), "asking the teachers"):
        x = _batch(images.pixels[first : first + AT_ONCE], side, device)
        said: list[Answers] = [teacher(x) for teacher in teachers]
        ages.append(torch.stack([one.ages.float().softmax(dim=1) for one in said]).mean(dim=0))
        female.append(torch.stack([one.sex.float().sigmoid() for one in said]).mean(dim=0))
    return {loss.AGES_TARGET: torch.cat(ages).cpu(), "female": torch.cat(female).cpu()}


def _batch(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], side: int, device: torch.device
) -> Tensor:
    largest = np.float32(np.iinfo(pixels.dtype).max)
    x = torch.from_numpy(pixels.astype(np.float32) / largest)[:, None].to(device)
    x = functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    return x.contiguous(memory_format=torch.channels_last)
