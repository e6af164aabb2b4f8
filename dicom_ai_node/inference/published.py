"""Published weight files, read without running anything that stands in them.

What research publishes is a pickle, and a pickle is a program. Only ``torch.load`` with
``weights_only=True`` is used here, which builds tensors and plain containers and refuses the rest.
Two kinds of file hold more than that beside their weights:

- a checkpoint of PyTorch Lightning names the classes of its callbacks;
- a TorchScript archive names its compiled modules. ``torch.load`` refuses it by one of its entries,
  so the tensors and the tree that they hang in are copied to an archive without the code.

Objects of these become inert placeholders: no such class is imported, and no method of one is
called. The tensors are then taken from the tree by name.
"""

import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dicom_ai_node.errors import BundleError

Placeholder = Callable[..., Any] | tuple[Callable[..., Any], str]
INERT = ("__torch__.", "torch.jit._pickle.", "pytorch_lightning.", "lightning.")
"""Beginnings of the names of classes that may stand in a file, as placeholders."""
_AMISS = (
    SafetensorError, UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, ValueError,
    TypeError, AttributeError, LookupError, EOFError, AssertionError,
)  # fmt: skip
"""What the readers raise at a file that is cut short, or that was made to confuse them."""
_WEIGHTS = ("data.pkl", "data", "version", "byteorder", ".data")
"""Entries of a TorchScript archive that are not code."""


def read_published(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a weight file by name, on the CPU.

    ``file`` is safetensors, or a state dict, a Lightning checkpoint or a TorchScript archive as
    torch saves them.

    Raises
    ------
    BundleError
        When it cannot be read, holds objects that are not weights, or no tensors at all.
    """
    try:
        found = load_file(file) if file.suffix == ".safetensors" else _tensors(_load(file))
    except OSError as error:
        raise BundleError(f"{file}: expected a readable file ({error.strerror})") from error
    except _AMISS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{file}: expected weights that torch can load ({reason})") from error
    if not found:
        raise BundleError(f"{file}: expected a state dict, found no tensors")
    return found


class _Inert:
    """Stands for an object of any class that a file names."""

    def __init__(self, *_: object) -> None:
        """Take and forget what the file would have built it from."""


def _load(file: Path) -> Any:
    with ExitStack() as stack:
        readable: IO[bytes] = stack.enter_context(file.open("rb"))
        if zipfile.is_zipfile(file):
            if _is_torchscript(file):
                readable = _without_code(file, stack.enter_context(tempfile.TemporaryFile()))
            names = torch.serialization.get_unsafe_globals_in_checkpoint(readable)
            _refuse_strangers(names, file)
            placeholders: list[Placeholder] = [(_Inert, name) for name in names]
            stack.enter_context(torch.serialization.safe_globals(placeholders))
            readable.seek(0)
        return torch.load(readable, map_location="cpu", weights_only=True)


def _refuse_strangers(names: list[str], file: Path) -> None:
    strangers = sorted(name for name in names if not name.startswith(INERT))
    if strangers:
        raise BundleError(
            f"{file}: expected nothing but weights, found an object of {strangers[0]};"
            " save its state dict alone, as docs/interoperability.md shows"
        )


def _is_torchscript(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _without_code(file: Path, target: IO[bytes]) -> IO[bytes]:
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(target, "w") as out:
        for entry in archive.infolist():
            _, _, inner = entry.filename.partition("/")
            if inner.partition("/")[0] not in _WEIGHTS:
                continue
            copy = zipfile.ZipInfo(entry.filename)
            copy.file_size = entry.file_size
            with archive.open(entry) as source, out.open(copy, "w") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    target.seek(0)
    return target


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of what was loaded, by dotted name."""
    if isinstance(content, _Inert):
        return _attributes(content, "")
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        return {}
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _attributes(module: _Inert, prefix: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif isinstance(value, _Inert):
            found |= _attributes(value, f"{prefix}{name}.")
    return found
