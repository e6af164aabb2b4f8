"""Bundles that no release ships: small networks of random weights, which let every image pass."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydicom.uid import CTImageStorage
from safetensors.numpy import save_file

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.dicom.classes import SECTIONS
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.embedding import Branch
from dicom_ai_node.inference.engine import BRANCH, SPACE_TENSORS
from dicom_ai_node.inference.heads import CategoryHead, Gate, Head, QuantityHead
from dicom_ai_node.inference.network import Network
from dicom_ai_node.pixels import CONTRACTS

SIZE = 64
YEARS = QuantityHead(
    name="age", output=0, unit="a", support=(20, 60), bounds=(0, 110), attribute="PatientAge"
)
CT: dict[str, Any] = {"sop_classes": [CTImageStorage], "modalities": ["CT"]}
"""The part of a route that says which images: here those of CT."""
CT_AND_MR: dict[str, Any] = {
    "sop_classes": sorted(map(str, SECTIONS)),
    "modalities": ["CT", "MR"],
    "contract": "windows-1",
}
_QUANTILES = {level: [1.0, 1.0] for level in ("50", "80", "90", "95")}


def invented_bundle(
    folder: Path,
    heads: Sequence[Head],
    *,
    gates: Sequence[Gate] = (),
    seed: int = 1,
    accepts: dict[str, Any] | None = None,
    calibration: dict[str, Any] | None = None,
    embeds: bool = False,
    **manifest: Any,
) -> Path:
    """Make a bundle of the name of ``folder``; ``accepts`` changes the shipped bundle's route.

    With ``embeds``, chests too, by random weights: one picture is like itself alone.

    ``manifest`` are further keys. A head that ``calibration`` does not name answers as its logits
    say; quantities get one group.
    """
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    shipped = json.loads((default_bundle() / bundle.MANIFEST).read_text())
    route = shipped["accepts"] | {"size": SIZE} | (accepts or {})
    channels = CONTRACTS[route["contract"]].channels
    network = Network("mobilenet_v2", rows=(*heads, *gates), channels=channels).eval()
    tensors = {f"network.{name}": t.numpy() for name, t in network.state_dict().items()}
    with torch.no_grad():
        pooled = network.pooled(torch.zeros(1, channels, SIZE, SIZE))
    width = dict(zip(("content", "texture"), (x.shape[1] for x in pooled), strict=True))
    for name in SPACE_TENSORS:
        space, part = name.split(".")
        tensors[name] = {
            "projection": np.eye(width[space], 2, dtype=np.float32),
            "residual": np.ones(1, np.float32),
        }.get(part, np.ones(width[space], np.float32))
    if embeds:
        branch = Branch(width["texture"])
        tensors |= {f"{BRANCH}{name}": t.numpy() for name, t in branch.state_dict().items()}
        manifest["embedding"] = {
            "channels": width["texture"],
            "scale": {
                "centre": 0.999,
                "spread": 0.0001,
                "intercept": -998.0,
                "slope": 1000.0,
                "bounds": [-3.0, 3.0],
            },
            "patients": 1000,
        }
    save_file(tensors, folder / bundle.WEIGHTS)
    whole = shipped | {
        "name": folder.name,
        "version": "1.0",
        "embedding": None,
        "onnx_sha256": "",
        "architecture": "mobilenet_v2",
        "accepts": route,
        "sha256": bundle.sha256(folder / bundle.WEIGHTS),
        "heads": [head.model_dump(mode="json") for head in heads],
        "gates": [gate.model_dump(mode="json") | {"threshold": 0.0} for gate in gates],
        "in_distribution": 0.0,
        "calibration": {head.name: _plain(head) for head in heads} | (calibration or {}),
    }
    (folder / bundle.MANIFEST).write_text(json.dumps(whole | manifest))
    return folder


def regions(*values: str, name: str = "region") -> CategoryHead:
    """Parts of the body, told as a span."""
    return CategoryHead(
        name=name, output=0, values=values, attribute="BodyPartExamined", spans=True
    )


def _plain(head: Head) -> dict[str, Any]:
    if isinstance(head, QuantityHead):
        group = {"images": 100, "quantiles": _QUANTILES}
        return {"groups": [group], "smallest_group": 80, "sd_scale": 1.0}
    if head.kind == "category":
        return {"temperature": 1.0}
    return {"temperatures": dict.fromkeys(head.labels, 1.0)}
