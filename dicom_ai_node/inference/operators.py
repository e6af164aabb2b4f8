"""Lets torchvision be imported beside a torch that its compiled operators were not built for.

The wheel of torchvision on the public index is built against the CUDA torch. Beside a CPU torch its
operators do not load, and its import fails because it describes ``nms`` without them. The networks
here use none of these operators, so declaring the two schemas is enough.
"""

import importlib.util
from pathlib import Path

import torch


def declare_missing_operators() -> None:
    """Make ``import torchvision`` work; does nothing where its compiled operators load."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    for library in Path(found.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError):
            continue
    for name, schema in (
        ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
        ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)


declare_missing_operators()
