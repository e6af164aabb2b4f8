"""A bundle's network as an ONNX file, for programs that run no torch.

Input ``images``: (N, C, S, S) float32 in [0, 1] as the input contract makes them
(:mod:`dicom_ai_node.pixels.contracts`), N free. Outputs are what
:class:`dicom_ai_node.inference.engine.Raw` holds, uncalibrated. What a reader needs besides is in
the file's metadata; docs/interoperability.md tells the rest.
"""

import importlib.util
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_ai_node.errors import BundleError, ConfigError
from dicom_ai_node.inference.bundle import WEIGHTS, Manifest, verify
from dicom_ai_node.inference.engine import Raw, read_tensors
from dicom_ai_node.inference.heads import AGE, QuantityHead
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import load_network, run

if TYPE_CHECKING:
    import onnx

INPUT = "images"
POOLED = ("features", "texture")
OPSET = 18
TOLERANCE = 1e-3
"""Largest difference between ONNX and torch, relative to the largest value of an output or 1."""
DISCLAIMER = "not a medical device"


def output_names(network: Network) -> tuple[str, ...]:
    """Return the names of the outputs: of a quantity two, of other heads and gates their own."""
    names: list[str] = []
    for row in network.rows:
        if isinstance(row, QuantityHead):
            before = "" if row.name == AGE.name else f"{row.name}_"
            names += [f"{before}mu", f"{before}sigma"]
        else:
            names.append(row.name)
    return (*names, *POOLED)


class _NetworkWithMoments(nn.Module):
    """The network with the moments of its quantities, as the tuple of its outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features, texture = self.network.pooled(images)
        values = self.network.values(self.network.answer(features))
        outputs: list[Tensor] = []
        for row in self.network.rows:
            value = values[row.name]
            outputs += value.unbind(dim=1) if isinstance(row, QuantityHead) else [value]
        return (*outputs, features, texture)


def export(bundle: Path, file: Path, *, opset: int = OPSET) -> float:
    """Write the network of ``bundle`` to ``file``; return the largest difference to torch.

    ``file`` appears only when the network in it answers like the bundle's own. The difference is
    relative (see TOLERANCE).

    Raises
    ------
    BundleError
        When the bundle cannot be used, or ONNX answers otherwise than torch; no file is left then.
    ConfigError
        When onnx or onnxscript is not installed, there is no such folder, or no such operator set.
    """
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: expected {file.parent} to be a folder")
    for package in ("onnx", "onnxscript"):
        if not _installed(package):
            raise ConfigError(
                f"the export needs the package {package}: pip install 'dicom-ai-node[onnx]'"
            )
    manifest = verify(bundle)
    weights = bundle / WEIGHTS
    tensors = read_tensors(weights)
    network = load_network(
        manifest.architecture, tensors, weights, manifest.rows, manifest.channels
    )
    partial = file.with_name(file.name + ".partial")
    try:
        _write(network, manifest, partial, opset)
        difference = _difference(network, partial, manifest.size)
        refuse_other_answers(file, difference)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return difference


def metadata(manifest: Manifest) -> dict[str, str]:
    """Return what the file says of itself; calibration and thresholds are JSON."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": manifest.sha256,
        "architecture": manifest.architecture,
        "contract": manifest.accepts.contract,
        "size": str(manifest.size),
        "calibration": manifest.calibration.model_dump_json(),
        "thresholds": json.dumps(manifest.thresholds, separators=(",", ":")),
        "intended_use": manifest.intended_use,
        "not_for": manifest.not_for,
        "disclaimer": DISCLAIMER,
    }


def _write(network: Network, manifest: Manifest, file: Path, opset: int) -> None:
    import onnx

    outputs = list(output_names(network))
    model = model_of(_NetworkWithMoments(network), manifest, outputs, opset)
    onnx.helper.set_model_props(model, metadata(manifest))
    onnx.checker.check_model(model)
    onnx.save(model, file)


def model_of(
    module: nn.Module, manifest: Manifest, outputs: Sequence[str], opset: int, *, whole: bool = True
) -> "onnx.ModelProto":
    """Return ``module`` as ONNX; its weights are folded into each other only where it is whole."""
    # Of one image, the exporter would take the number for fixed.
    example = torch.zeros(2, manifest.channels, manifest.size, manifest.size)
    with warnings.catch_warnings():
        # torch 2.13 copies its own tree of arguments in a way that it has deprecated.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=opset,
            optimize=whole,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    written = {each.domain: each.version for each in model.opset_import}
    if written.get("") != opset:  # a conversion that fails is logged, no more
        raise ConfigError(f"operator set {opset} cannot be written, {written.get('')} can")
    if not whole:
        from onnxscript import optimizer

        optimizer.fold_constants(model)
        optimizer.remove_unused_nodes(model)
    # Where the exporter was in its source: paths of this machine, and half of a graph's bytes.
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, graph, model):
        del part.metadata_props[:]
    del graph.value_info[:]
    return model


def _difference(network: Network, file: Path, size: int) -> float:
    """Largest difference between the file's answers and the network's."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 3):
        images = noise(count, size, network.channels)
        own = run(network, images)
        names = output_names(network)
        others = session.run(list(names), {INPUT: images})
        pairs = zip(_outputs(network, own), others, strict=True)
        worst = max(worst, *(apart(*pair) for pair in pairs))
    return worst


def apart(expected: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Largest difference, relative to the largest value expected or 1."""
    if other.shape != expected.shape or not np.isfinite(other).all():
        return float("inf")
    scale = max(float(np.abs(expected).max()), 1.0)
    return float(np.abs(other - expected).max()) / scale


def refuse_other_answers(file: Path, difference: float) -> None:
    """Raise BundleError where ``difference`` is more than rounding."""
    if not difference <= TOLERANCE:
        raise BundleError(
            f"{file}: not written, ONNX differs from torch by {difference:.1e} (relative),"
            f" expected at most {TOLERANCE:g}"
        )


def _outputs(network: Network, raw: Raw) -> list[NDArray[np.float32]]:
    """The values of ``raw`` as :func:`output_names` lists them."""
    found: list[NDArray[np.float32]] = []
    for row in network.rows:
        value = raw[row.name]
        found += list(value.T) if isinstance(row, QuantityHead) else [value]
    return [*found, raw.features, raw.texture]


def noise(count: int, size: int, channels: int) -> NDArray[np.float32]:
    """Noise of several grains between black and white: every filter has something to say."""
    rng = np.random.default_rng(count)
    images = np.zeros((count, channels, size, size), np.float32)
    for grain in (1, 8, 32):
        side = -(-size // grain)
        coarse = rng.random((count, channels, side, side), dtype=np.float32)
        images += coarse.repeat(grain, axis=2).repeat(grain, axis=3)[..., :size, :size]
    images /= 3
    return images


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
