"""The graph that a bundle answers by on a CPU: made of its network, packed beside the weights."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.bundle import (
    MANIFEST,
    NETWORK_FILE,
    WEIGHTS,
    Manifest,
    load_manifest,
    sha256,
    verify,
)
from dicom_ai_node.inference.embedding import Branch
from dicom_ai_node.inference.engine import Raw, Tensors, read_tensors
from dicom_ai_node.inference.export import (
    DISCLAIMER,
    OPSET,
    apart,
    model_of,
    noise,
    refuse_other_answers,
)
from dicom_ai_node.inference.network import Network, pool
from dicom_ai_node.inference.onnx_engine import OnnxEngine, in_graph, outputs_of
from dicom_ai_node.inference.torch_engine import TorchEngine, load_branch, load_network


def pack(bundle: Path) -> float:
    """Write the graph of the bundle in folder ``bundle``, and name it in the manifest.

    The tensors stay in the weights file alone, see :mod:`.onnx_engine`. Returns the largest
    difference to torch, relative (see TOLERANCE).

    Raises BundleError: the bundle cannot be used, or the graph answers otherwise than torch.
    """
    manifest = load_manifest(bundle)
    tensors = read_tensors(bundle / WEIGHTS)
    eager = TorchEngine(bundle, manifest, tensors, embeds=True)
    with TemporaryDirectory(dir=bundle, prefix=".onnx-") as work:
        file = Path(work) / NETWORK_FILE
        _write_graph(bundle, manifest, tensors, file)
        graph = OnnxEngine(Path(work), manifest, tensors, embeds=True)
        difference = 0.0
        for count in (1, 3):
            images = noise(count, manifest.size, manifest.channels)
            pairs = zip(_told(eager.run(images)), _told(graph.run(images)), strict=True)
            difference = max(difference, *(apart(*pair) for pair in pairs))
        refuse_other_answers(bundle / NETWORK_FILE, difference)
        file.replace(bundle / NETWORK_FILE)
    document = json.loads((bundle / MANIFEST).read_text())
    document["onnx_sha256"] = sha256(bundle / NETWORK_FILE)
    (bundle / MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
    verify(bundle)
    return difference


def _write_graph(bundle: Path, manifest: Manifest, tensors: Tensors, file: Path) -> None:
    """Write a graph whose tensors are named as those of the weights file, and lie there alone."""
    network = load_network(
        manifest.architecture, tensors, bundle / WEIGHTS, manifest.rows, manifest.channels
    )
    part = manifest.embedding
    branch = load_branch(part.channels, tensors, bundle / WEIGHTS) if part else None
    answers = _RawAnswers(network, branch)
    model = model_of(answers, manifest, outputs_of(manifest), OPSET, whole=False)
    asked = in_graph(tensors)
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    if strangers := asked.keys() - {each.name for each in kept}:
        raise BundleError(f"{file}: the graph lacks {sorted(strangers)[0]}")
    for each in kept:
        if each.name in asked:
            each.ClearField("raw_data")
            each.data_location = onnx.TensorProto.EXTERNAL
            # No file is called so: a reader that does not know finds nothing, never other bytes.
            each.external_data.add(key="location", value=f"{WEIGHTS}#{each.name}")
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    said = {"architecture": manifest.architecture, "disclaimer": DISCLAIMER}
    onnx.helper.set_model_props(model, said)
    file.write_bytes(model.SerializeToString(deterministic=True))
    file.chmod(0o644)


class _RawAnswers(nn.Module):
    """What :class:`Raw` holds of a network and its branch, as the tuple of its outputs."""

    def __init__(self, network: Network, embedding: Branch | None) -> None:
        super().__init__()
        self.network, self.embedding = network, embedding  # so that tensors keep their names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps, middle = self.network.maps(images)
        features = pool(maps)
        values = self.network.values(self.network.answer(features))
        embedded = () if self.embedding is None else (self.embedding(middle),)
        return (*values.values(), features, pool(middle), *embedded)


def _told(raw: Raw) -> list[NDArray[np.float32]]:
    """Everything that ``raw`` holds, by the names of its values in order."""
    values = [raw[name] for name in sorted(raw.values)]
    embedded = [] if raw.embedding is None else [raw.embedding]
    return [*values, raw.features, raw.texture, *embedded]
