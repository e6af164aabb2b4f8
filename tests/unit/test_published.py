"""Weight files of others: what is read, what is refused, and that nothing in them runs."""

import pickle
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.published import read_published


class Touch:
    """Unpickled by the rules of pickle, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout()))


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.fixture
def lightning() -> Iterator[type]:
    """A class of PyTorch Lightning, which is not installed, for the time of a test."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    modules = {part: types.ModuleType(part) for part in ("pytorch_lightning", name)}

    class ModelCheckpoint:
        def __init__(self, best: str = "") -> None:
            self.best = best

        def __setstate__(self, state: dict[str, Any]) -> None:
            raise AssertionError("was run")

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = name, "ModelCheckpoint"
    modules[name].ModelCheckpoint = ModelCheckpoint  # type: ignore[attr-defined]
    sys.modules |= modules
    yield ModelCheckpoint
    for part in modules:
        del sys.modules[part]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict(tmp_path: Path, zipped: bool) -> None:
    state = network().state_dict()
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert same(read_published(tmp_path / "w.pth"), state)


def test_safetensors(tmp_path: Path) -> None:
    state = network().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    assert same(read_published(tmp_path / "w.safetensors"), state)


def test_a_lightning_checkpoint_with_its_callbacks(tmp_path: Path, lightning: type) -> None:
    state = network().state_dict()
    checkpoint = {
        "epoch": 13,
        "state_dict": state,
        "callbacks": {lightning: {"best_model_path": "x"}},
        "hyper": lightning("y"),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    }
    torch.save(checkpoint, tmp_path / "w.ckpt")
    assert same(read_published(tmp_path / "w.ckpt"), state)


def test_a_torchscript_archive(tmp_path: Path) -> None:
    module = network().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the published file is of that time
        traced = torch.jit.trace(module, torch.zeros(1, 3, 8, 8))
        torch.jit.save(traced, tmp_path / "w.pt")
    assert same(read_published(tmp_path / "w.pt"), module.state_dict())


def test_what_a_pickle_wants_to_run_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "w.pth"
    torch.save({"state_dict": network().state_dict(), "more": Touch(marker)}, file)
    with pytest.raises(BundleError, match=r"nothing but weights, found an object of builtins\."):
        read_published(file)
    file.write_bytes(pickle.dumps(Touch(marker), protocol=2))  # not zipped
    with pytest.raises(BundleError, match=r"w\.pth: expected weights that torch can load"):
        read_published(file)
    assert not marker.exists()
    pickle.loads(file.read_bytes())
    assert marker.exists(), "the file would have done it"


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pth")
    with pytest.raises(BundleError, match=r"found an object of torch\.nn\.modules"):
        read_published(tmp_path / "w.pth")


def test_placeholders_are_gone_afterwards(tmp_path: Path, lightning: type) -> None:
    torch.save({"state_dict": {}, "hyper": lightning()}, tmp_path / "w.ckpt")
    before = torch.serialization.get_safe_globals()
    with pytest.raises(BundleError, match="found no tensors"):
        read_published(tmp_path / "w.ckpt")
    assert torch.serialization.get_safe_globals() == before


@pytest.mark.parametrize("keep", [0, 1, 100, 1000, -1])
def test_a_file_cut_short(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "w.pth"
    torch.save(network().state_dict(), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BundleError, match=r"w\.pth: expected weights that torch can load"):
        read_published(file)


@pytest.mark.parametrize("content", [b"no weights", b"\x80\x02.", b"\x80\x02cos\nsystem\n."])
@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_what_holds_no_weights(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"w\.\w+: expected weights that torch can load"):
        read_published(file)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(BundleError, match=r"w\.npz: expected weights that torch can load"):
        read_published(tmp_path / "w.npz")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a readable file"):
        read_published(tmp_path / "absent.pt")
