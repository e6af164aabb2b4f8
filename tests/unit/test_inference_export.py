"""ONNX files, held against the bundle that they come from."""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.errors import BundleError, ConfigError
from dicom_ai_node.inference import bundle, export, network
from dicom_ai_node.inference.engine import SPACE_TENSORS, Estimator
from dicom_ai_node.inference.torch_engine import run
from dicom_ai_node.pixels.normalise import normalise

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "interoperability.md"


SIZE = 48


def small_backbone(channels: int = 1) -> network.Backbone:
    """What the shipped backbone is made of, a layer of each: the exporter takes its time."""
    layers = nn.Sequential(
        network.SameConv2d(channels, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        network.SameConv2d(8, 8, 3, stride=2, groups=8, bias=False),
        nn.Conv2d(8, 16, 1),
    )
    return layers, 16, 3


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle whose network is small, under the name of a known architecture."""
    path = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(network.BACKBONES, "resnet18", small_backbone)
        torch.manual_seed(2)
        state = network.Network("resnet18").state_dict()
        state["head.weight"] = torch.randn_like(state["head.weight"])
        tensors = {"network." + name: tensor.numpy() for name, tensor in state.items()}
        save_file(tensors | {name: np.zeros(1, np.float32) for name in SPACE_TENSORS},
                  path / bundle.WEIGHTS)  # fmt: skip
        manifest = json.loads((default_bundle() / bundle.MANIFEST).read_text())
        manifest |= {
            "name": "small",
            "onnx_sha256": "",
            "architecture": "resnet18",
            "sha256": bundle.sha256(path / bundle.WEIGHTS),
        }
        manifest["accepts"]["size"] = SIZE
        (path / bundle.MANIFEST).write_text(json.dumps(manifest))
        yield path


@pytest.fixture(scope="module")
def exported(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "chest.onnx"
    difference = export.export(small, file)
    assert difference is not None
    assert 0 < difference < 1e-4
    return file


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    """The file without the exporter's seconds."""

    def copy(network: object, manifest: object, file: Path, opset: int) -> None:
        shutil.copyfile(exported, file)

    monkeypatch.setattr(export, "_write", copy)


def test_it_answers_like_the_engine(small: Path, exported: Path) -> None:
    estimator = Estimator(small, device="cpu")
    shown = [phantom.chest(age, "F", age, 300) for age in (25, 50, 75, 80, 85)]
    images = np.stack([normalise(image, estimator.size) for image in shown])
    raw = run(estimator.network, images)
    mu, sigma = raw["age"].T
    own = {"mu": mu, "sigma": sigma} | {name: raw[name] for name in ("sex", "frontal", "chest")}
    own |= {"features": raw.features, "texture": raw.texture}
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == list(own)
    for count in (1, 5):
        answers = session.run(None, {"images": images[:count, None]})
        for expected, answer in zip(own.values(), answers, strict=True):
            np.testing.assert_allclose(answer, expected[:count], rtol=1e-3, atol=1e-3)


def test_the_file_says_what_it_is(small: Path, exported: Path) -> None:
    manifest = bundle.load_manifest(small)
    model = onnx.load(exported)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["name"] == manifest.name
    assert said["version"] == manifest.version
    assert said["sha256"] == manifest.sha256
    assert said["contract"] == "square-1"
    assert said["size"] == str(manifest.size)
    assert [each.version for each in model.opset_import if not each.domain] == [export.OPSET]
    assert said["disclaimer"] == "not a medical device"
    assert json.loads(said["calibration"]) == manifest.calibration.model_dump(mode="json")
    (shape,) = (each.type.tensor_type.shape.dim for each in model.graph.input)
    assert shape[0].dim_param
    assert [each.dim_value for each in shape[1:]] == [1, manifest.size, manifest.size]


@pytest.mark.usefixtures("quick")
def test_a_file_that_answers_otherwise_is_not_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*arguments: object) -> object:
        raw = run(*arguments)  # type: ignore[arg-type]
        sex = raw["sex"] + 0.01 * np.abs(raw["sex"]).max() + 0.01
        return dataclasses.replace(raw, values={**raw.values, "sex": sex})

    monkeypatch.setattr(export, "run", other)
    with pytest.raises(BundleError, match=r"chest\.onnx: not written, ONNX differs"):
        export.export(small, tmp_path / "chest.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_found_before_the_work(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent/chest\.onnx: expected .*absent to be a folder"):
        export.export(small, tmp_path / "absent" / "chest.onnx")


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_installed", lambda package: package != "onnx")
    with pytest.raises(ConfigError, match=r"needs the package onnx: .*dicom-ai-node\[onnx\]"):
        export.export(default_bundle(), tmp_path / "chest.onnx")


@pytest.mark.usefixtures("quick")
def test_the_command_line(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "chest.onnx"
    done = CliRunner().invoke(app, ["model", "export", str(small), "--onnx", str(file), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["difference"] < 1e-4
    assert file.exists()


@pytest.mark.parametrize("shape", [(512, 512), (1100, 900), (301, 1999), (100, 90)])
def test_the_documented_input_is_the_contract(shape: tuple[int, int]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    rng = np.random.default_rng(1)
    image = (rng.random(shape) * 4095).astype(np.uint16)
    image[: shape[0] // 2] //= 3
    np.testing.assert_allclose(names["square_1"](image, 224), normalise(image, 224), atol=1e-5)
