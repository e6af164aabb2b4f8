"""Images and a network so small that a run of training takes no time."""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from torch import nn

import training.__main__ as commands
from dicom_ai_node.inference import network
from training.data.images import TRAINING, Images, LabelledImage
from training.fit.config import RunConfig

SIDE = 64


def run_training(name: object, *arguments: object) -> None:
    """Do as ``python -m training NAME``; SystemExit unless it ends well."""
    with (
        patch.object(sys, "argv", ["training", *map(str, (name, *arguments))]),
        pytest.raises(SystemExit) as ended,
    ):
        commands.main()
    if ended.value.code:
        raise ended.value


class Tiny:
    """Material in memory, some of it for the gates."""

    def __init__(self, count: int = 24) -> None:
        self.items = [
            LabelledImage(
                path=f"{n}.png",
                source="tiny",
                patient=f"{n // 2}",
                role="gate" if n % 6 == 5 else "train",
                age=20.0 + 2 * n,
                female=float(n % 2),
                frontal=float(n % 12 != 5),
                chest=1.0,
                view="PA",
            )
            for n in range(count)
        ]

    def trained(self) -> list[LabelledImage]:
        return [item for item in self.items if item.role in TRAINING]

    def training(self, side: int) -> Images:
        shape = (len(self.trained()), side, side)
        pixels = np.random.default_rng(0).integers(0, 256, shape)
        return Images(self.trained(), pixels.astype(np.uint8))


def small_backbone(channels: int = 1) -> network.Backbone:
    """One block, so that a step takes no time and a checkpoint no room."""
    block = (nn.Conv2d(channels, 8, 5, stride=4, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*block), 8, 1


def tiny_config(out: Path, **changes: Any) -> RunConfig:
    """Two steps of the architecture ``tiny``: :func:`small_backbone`, under that name."""
    values: dict[str, Any] = {
        "architecture": "tiny",
        "start": "random",
        "out": str(out),
        "device": "cpu",
        "steps": 2,
        "batch": 4,
        "pixels": SIDE,
        "sides": (SIDE,),
        "until": (1.0,),
        "low_resolution": (0.0,),
    }
    return RunConfig(**(values | changes))
