import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.config.paths import shipped_bundles
from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_bundle(), tmp_path / "bundle"))


def rewrite(path: Path, change: Change) -> None:
    file = path / bundle.MANIFEST
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def test_the_shipped_bundles_are_whole() -> None:
    assert default_bundle() in shipped_bundles().values()
    for path in shipped_bundles().values():
        manifest = bundle.verify(path)
        assert manifest.name == path.name
        assert manifest.figures
        assert (path / bundle.CARD).read_text().startswith(f"# {manifest.name} {manifest.version}")


def test_the_manifest_survives_a_round_trip() -> None:
    manifest = bundle.load_manifest(default_bundle())
    assert bundle.Manifest.model_validate(manifest.model_dump(mode="json")) == manifest
    assert manifest.identity.sha256 == manifest.sha256
    low, high = manifest.training_age_range
    assert 0 < low < high < 101


def test_an_altered_byte_is_found(copied: Path) -> None:
    weights = copied / bundle.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"weights\.safetensors: SHA-256 is"):
        bundle.verify(copied)
    with pytest.raises(BundleError):
        Estimator(copied)


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.WEIGHTS])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleError, match=name):
        bundle.verify(copied)


def test_a_manifest_that_is_not_json(copied: Path) -> None:
    (copied / bundle.MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="expected JSON"):
        bundle.load_manifest(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["accepts"].update(contract="square-2"), "'square-2', expected one of square"),
        (lambda m: m["accepts"].update(takes="series"), "'series', expected 'image', as square-1"),
        (lambda m: m["accepts"].update(sample=-1), r"accepts\.sample"),
        (lambda m: m.update(architecture="lenet"), "'lenet', expected one of"),
        (lambda m: m.update(extra=1), "extra"),
        (lambda m: m.pop("version"), "version"),
        (lambda m: m["gates"][0].update(threshold=2), r"gates\.0\.threshold"),
        (lambda m: m.update(schema_version=3), "schema_version: Value error, 3, expected 4"),
        (lambda m: m["gates"][0].update(output=102), "each output of the network once"),
        (lambda m: m["gates"][0].update(name="sex"), "expected different names"),
        (lambda m: m["heads"][0].update(name="reason"), "'reason' is the name of something else"),
        (lambda m: m["heads"][0].update(support=[9, 0]), "the smaller number first"),
        (lambda m: m["heads"][0].update(normal=[50, 20]), "support or normal: expected one"),
        (lambda m: m["heads"][0].pop("support"), "support or normal: expected one"),
        (lambda m: m["heads"][0].update(support=None, normal=[50, 0]), "a scale above 0"),
        (lambda m: m["calibration"].pop("sex"), "calibration of"),
        (
            lambda m: m["calibration"]["age"]["groups"][0]["quantiles"].pop("90"),
            r"calibration\.age\.quantity\.groups\.0",
        ),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(copied: Path, change: Change, message: str) -> None:
    rewrite(copied, change)
    with pytest.raises(BundleError, match=message):
        bundle.load_manifest(copied)


@pytest.mark.parametrize("name", ["network.head.bias", "texture.mean"])
def test_a_missing_tensor_is_named(copied: Path, name: str) -> None:
    tensors = load_file(copied / bundle.WEIGHTS)
    del tensors[name]
    save_file(tensors, copied / bundle.WEIGHTS)
    digest = bundle.sha256(copied / bundle.WEIGHTS)
    rewrite(copied, lambda m: m.update(sha256=digest))
    with pytest.raises(BundleError, match=name.removeprefix("network.")):
        Estimator(copied)


def test_weights_of_another_architecture_are_refused(copied: Path) -> None:
    rewrite(copied, lambda m: m.update(architecture="resnet18"))
    with pytest.raises(BundleError, match="expected the tensors of resnet18"):
        Estimator(copied)


def test_weights_that_are_not_safetensors(copied: Path) -> None:
    np.save(copied / "other.npy", np.zeros(3))
    shutil.move(copied / "other.npy", copied / bundle.WEIGHTS)
    digest = bundle.sha256(copied / bundle.WEIGHTS)
    rewrite(copied, lambda m: m.update(sha256=digest))
    with pytest.raises(BundleError, match="expected safetensors"):
        Estimator(copied)
