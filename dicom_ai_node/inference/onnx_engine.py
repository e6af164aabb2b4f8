"""The network of a bundle in ONNX Runtime: what answers on a CPU, without torch.

The file holds the graph and no weights. Its tensors bear the names that they have in the bundle's
weights file and are handed over from there, so that there is one copy of them, and a bundle whose
other tensors are fitted anew keeps its graph (docs/decisions/0044).
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as raised

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.bundle import NETWORK_FILE, Manifest
from dicom_ai_node.inference.engine import BRANCH, NETWORK, Raw, Tensors, in_parts

INPUT = "images"
FEATURES, TEXTURE, EMBEDDING = "features", "texture", "embedding"
COUNTERS = "num_batches_tracked"
"""What torch counts while it trains, and no graph needs."""
_ERRORS = 3
"""Least severity of what ONNX Runtime logs; what it warns of is how it optimises."""
_UNFIT = (
    *(raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.InvalidProtobuf),
    *(raised.NoSuchFile, raised.NotImplemented, raised.RuntimeException),
)
"""What a graph that is damaged, or of other tensors, ends in; they have no class in common."""


def in_graph(tensors: Tensors) -> dict[str, NDArray[np.float32]]:
    """Return those of a weights file's tensors that its graph is filled with."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith((NETWORK, BRANCH)) and not name.endswith(COUNTERS)
    }


def outputs_of(manifest: Manifest) -> list[str]:
    """Return the outputs of a bundle's graph by name, in their order."""
    named = [row.name for row in sorted(manifest.rows, key=lambda row: row.output)]
    return [*named, FEATURES, TEXTURE, *([EMBEDDING] if manifest.embedding else [])]


class OnnxEngine:
    """A session over the graph in the folder ``bundle``, filled with ``tensors``.

    As many images are computed at a time as there are ``threads``, at most ``batch``: more are no
    faster, and each takes some 15 MB. None: a thread for each core, or OMP_NUM_THREADS. With
    ``embeds``, embeddings are told where the bundle makes some.

    Raises BundleError: the graph cannot be read, or is of another network.
    """

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        tensors: Tensors,
        *,
        batch: int = 16,
        threads: int | None = None,
        embeds: bool = False,
    ) -> None:
        file = bundle / NETWORK_FILE
        threads = threads or cores()
        self._batch = min(batch, threads)
        self._rows = [row.name for row in manifest.rows]
        self._embeds = embeds and manifest.embedding is not None
        self._outputs = [name for name in outputs_of(manifest) if name != EMBEDDING or self._embeds]
        self._session = _session(file, tensors, threads)
        self._check(file, manifest)

    def _check(self, file: Path, manifest: Manifest) -> None:
        found = self._session.get_modelmeta().custom_metadata_map.get("architecture")
        if found != manifest.architecture:
            expected = f"expected the tensors of {manifest.architecture}"
            raise BundleError(f"{file}: {expected}, it is the graph of {found}")
        outputs = [output.name for output in self._session.get_outputs()]
        if outputs != outputs_of(manifest):
            expected = ", ".join(outputs_of(manifest))
            raise BundleError(f"{file}: outputs {', '.join(outputs)}, expected {expected}")
        shape = self._session.get_inputs()[0].shape[1:]
        sides = [manifest.channels, manifest.size, manifest.size]
        if shape != sides:
            raise BundleError(f"{file}: an input of {shape}, expected {sides}")

    def run(self, images: NDArray[np.float32]) -> Raw:
        """Uncalibrated answers for ``images`` of shape (N, S, S) or (N, C, S, S), N > 0."""
        x = images[:, None] if images.ndim == 3 else images
        return Raw.joined([self._answer(part) for part in in_parts(x, self._batch)])

    def _answer(self, images: NDArray[np.float32]) -> Raw:
        found = self._session.run(self._outputs, {INPUT: np.ascontiguousarray(images)})
        said = dict(zip(self._outputs, found, strict=True))
        values = {name: said[name] for name in self._rows}
        return Raw(values, said[FEATURES], said[TEXTURE], said.get(EMBEDDING))


def _session(file: Path, tensors: Tensors, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    options.intra_op_num_threads = threads  # 0 would tie each thread to a core of its own
    options.inter_op_num_threads = 1
    # A plan of the memory for each number of images would keep as much as the largest needs.
    options.enable_mem_pattern = False
    # Within a run threads wait busily, which is worth a quarter of the time; after it they rest.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    filled = in_graph(tensors)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in filled.values()]
    options.add_external_initializers(list(filled), values)
    try:
        graph = file.read_bytes()
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise BundleError(f"{file}: expected the graph ({error.strerror})") from error
    except _UNFIT as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{file}: does not fit the weights beside it ({reason})") from error


def cores() -> int:
    """Return how many threads a network gets that nobody said a number for."""
    if (said := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(said):
        return int(said)
    usable = os.sched_getaffinity(0)
    places = {_siblings(core) for core in usable}
    return len(places)


def _siblings(core: int) -> str:
    """Return which cores share an arithmetic unit with this one: two threads there are as one."""
    file = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        return file.read_text("ascii").strip()
    except OSError:  # a container need not show it
        return str(core)
