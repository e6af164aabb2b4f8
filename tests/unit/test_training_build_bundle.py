from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from typer import BadParameter

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.network import Network
from tests.builders.training import run_training
from training.data import images as data
from training.data import project
from training.data.tables import DataError
from training.fit import calibrate, checkpoint, prior
from training.fit.batches import Batches, frequencies
from training.fit.config import WEIGHTS, RunConfig
from training.fit.run import Run
from training.publish import build_bundle, evaluate

SIDE = 32
ROLES = {"train": 90, "train_128": 10, "val": 90, "val_128": 12, "gate": 2}


def items() -> list[data.LabelledImage]:
    rng = np.random.default_rng(0)
    return [
        data.LabelledImage(f"{role}{n}", role, f"{role}{n // 2}", role, float(rng.integers(20, 80)),
                  float(n % 2), 1.0, 1.0, "PA", "free")
        for role, count in ROLES.items()
        for n in range(count)
    ]  # fmt: skip


def load(_: Path, __: Path, side: int, *roles: str, bits: int = 16) -> data.Images:
    chosen = [item for item in items() if item.role in roles]
    rng = np.random.default_rng(len(chosen))
    shape = (len(chosen), side, side)
    return data.Images(chosen, rng.integers(0, 256, shape).astype(np.uint8))


def config(folder: Path) -> RunConfig:
    return RunConfig(out=str(folder), cache=str(folder), sides=(SIDE,), until=(1.0,),
                  low_resolution=(0.25,))  # fmt: skip


def images_of(folder: Path) -> data.Data:
    return project.ProjectData(folder, folder)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(calibrate, "CHANGED_COPIES", 2)
    monkeypatch.setattr(project, "load", load)
    monkeypatch.setattr(project, "items", lambda _: items())
    torch.manual_seed(0)
    network = Network("mobilenet_v2")
    torch.nn.init.constant_(network.head.bias[101:], 1.0)  # everything passes the gates
    return left_by_a_run(tmp_path, network)


def left_by_a_run(
    folder: Path, network: Network, trained: Sequence[data.LabelledImage] = ()
) -> Path:
    """The files of a run that was trained with ``trained``: the own training images if none."""
    settings, own_images, cpu = config(folder), images_of(folder), torch.device("cpu")
    folder.mkdir(exist_ok=True)
    run, material = Run(settings, network, cpu), Batches(settings, own_images, cpu)
    trained_with = checkpoint.record(settings, trained or own_images.trained())
    checkpoint.save(folder, run, material, trained_with)
    return folder / WEIGHTS


def test_the_mean_of_two_runs_is_half_way(tmp_path: Path) -> None:
    counts = {"norm.num_batches_tracked": torch.tensor(3)}
    save_file({"a": torch.tensor([1.0, 2.0]), **counts}, tmp_path / "one.safetensors")
    save_file({"a": torch.tensor([3.0, 2.0]), **counts}, tmp_path / "two.safetensors")
    save_file({"a": torch.tensor([3.0])}, tmp_path / "other.safetensors")
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    mean = build_bundle.averaged([one, two])
    assert mean["a"].tolist() == [2.0, 2.0]
    assert mean["norm.num_batches_tracked"] == 3
    assert mean["norm.num_batches_tracked"].dtype == np.int64
    assert build_bundle.averaged([one])["a"].tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match=r"other\.safetensors"):
        build_bundle.averaged([one, tmp_path / "other.safetensors"])


def test_a_run_and_the_bundle_that_it_went_on_from_have_a_mean(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, packed = Network("resnet18"), Network("resnet18")
    save_file(run.state_dict(), tmp_path / "run.safetensors")
    tensors = {f"network.{name}": t.reshape(-1) if not t.ndim else t for name, t in
               packed.state_dict().items()}  # fmt: skip
    save_file(tensors | {"content.mean": torch.zeros(3)}, tmp_path / "bundle.safetensors")
    files = [tmp_path / "run.safetensors"] * 2 + [tmp_path / "bundle.safetensors"]
    mean = build_bundle.averaged(files)
    assert mean.keys() == run.state_dict().keys()
    expected = (2 * run.head.weight + packed.head.weight) / 3
    np.testing.assert_allclose(mean["head.weight"], expected.detach(), atol=1e-6)


def test_weights_become_a_bundle_that_answers(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "some-bundle"
    build_bundle.build(config(tmp_path), images_of(tmp_path), out, "0.1", None)
    manifest = bundle.verify(out)
    chosen = manifest.training.prior_tau
    assert f"{chosen:6.2f}" in next(
        x for x in capsys.readouterr().out.splitlines() if "chosen" in x
    )
    seen = data.Images(items(), np.zeros((len(items()), 1, 1), np.uint8))
    drawn = frequencies(config(tmp_path), seen)
    density = prior.log_prior(seen.column("age")[drawn > 0], drawn[drawn > 0])
    tensors, trained = load_file(out / bundle.WEIGHTS), load_file(weights)
    baked = prior.bake(trained, density, chosen, "head.bias")["head.bias"]
    np.testing.assert_array_equal(tensors[prior.HEAD_BIAS], baked)
    calibrated_on = sum(one.images for one in manifest.calibration.quantity("age").groups)
    assert calibrated_on == ROLES["val"] + ROLES["val_128"]
    assert "with fewer than 200 the in-distribution gate refuses" in manifest.training.summary
    estimator = Estimator(out, device="cpu")
    val = np.concatenate([*load(tmp_path, tmp_path, SIDE, "val").floats()])
    p_values = sorted(one.in_distribution for one in estimator.predict(val))
    np.testing.assert_allclose(p_values, (1 + np.arange(1, 91)) / 91, atol=1 / 91)


def test_changed_copies_come_with_their_labels(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "some-bundle"
    build_bundle.build(config(tmp_path), images_of(tmp_path), out, "0.1", 0.4, 2.0)
    manifest = bundle.verify(out)
    assert (manifest.training.prior_tau, manifest.training.caution) == (0.4, 2.0)
    assert max(manifest.calibration.quantity("age").widening.knots)[1] >= 2.0
    images = load(tmp_path, tmp_path, SIDE, "val_128")
    measure = Estimator(out, device="cpu").measure
    plain = calibrate.calibration_cases(measure, images)
    changed = calibrate.calibration_cases(measure, images, changed=True)
    assert len(changed) == calibrate.CHANGED_COPIES * len(plain)
    np.testing.assert_array_equal(changed.truth["age"][: len(plain)], plain.truth["age"])
    assert (changed.patients[-len(plain) :] == plain.patients).all()
    assert (changed.raw["age"][: len(plain)] != plain.raw["age"]).any()


def test_the_share_of_the_prior_is_read_from_the_command_line() -> None:
    assert build_bundle.share("auto") is None
    assert build_bundle.share("0.25") == 0.25
    for wrong in ("2", "much"):
        with pytest.raises(BadParameter, match="0 to 1"):
            build_bundle.share(wrong)


def test_a_name_that_no_manifest_may_have_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.toml").write_text("")
    arguments = ("--config", tmp_path / "x.toml", "--version", "1", "--bundle", tmp_path / "Site")
    with pytest.raises(SystemExit):
        run_training("build_bundle", *arguments)
    assert "--bundle: Site: expected a name of a-z" in capsys.readouterr().err


def test_without_labels_nothing_can_be_calibrated(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sexless(folder: Path, cache: Path, side: int, *roles: str) -> data.Images:
        found = load(folder, cache, side, *roles)
        return replace(found, items=[replace(one, female=float("nan")) for one in found.items])

    monkeypatch.setattr(project, "load", sexless)
    with pytest.raises(DataError, match="val: expected images with both an age and a sex"):
        build_bundle.build(config(tmp_path), images_of(tmp_path), tmp_path / "b", "0.1", 0.0)


def test_weights_that_saw_what_is_held_out_are_not_packed(weights: Path, tmp_path: Path) -> None:
    apart = [one for one in items() if one.path != "train0"]
    left_by_a_run(tmp_path, Network("mobilenet_v2"), [*apart, replace(apart[-1], path="val0")])
    with pytest.raises(DataError, match=r"last\.pt: images: expected"):
        build_bundle.build(config(tmp_path), images_of(tmp_path), tmp_path / "b", "0.1", 0.0)
    (tmp_path / checkpoint.LAST).unlink()
    with pytest.raises(DataError, match=r"last\.pt: expected the checkpoint of a run"):
        build_bundle.build(config(tmp_path), images_of(tmp_path), tmp_path / "b", "0.1", 0.0)


def test_the_mean_of_runs_can_be_measured_and_states_what_trained_them(
    weights: Path, tmp_path: Path
) -> None:
    other, out = left_by_a_run(tmp_path / "other", Network("mobilenet_v2")), tmp_path / "mean"
    images = images_of(tmp_path)
    build_bundle.build(config(tmp_path), images, out, "0.1", 0.0, others=[other.parent])
    manifest = bundle.verify(out)
    assert manifest.training.runs_sha256 == (bundle.sha256(weights), bundle.sha256(other))
    evaluate.check_images(out, manifest, images)
    left_by_a_run(other.parent, Network("mobilenet_v2"), [one for one in items() if one.age < 50])
    with pytest.raises(DataError, match=r"other.last\.pt: images: expected"):
        build_bundle.build(config(tmp_path), images, out, "0.2", 0.0, others=[other.parent])


@pytest.mark.parametrize("stated", ["", "0" * 64])
def test_a_bundle_of_other_images_is_not_measured(
    stated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "items", lambda _: items())
    manifest = bundle.verify(default_bundle())
    trained = manifest.training.model_copy(update={"images_sha256": stated})
    of_others = manifest.model_copy(update={"training": trained})
    with pytest.raises(DataError, match=r"images_sha256: expected .*, got (nothing|000)"):
        evaluate.check_images(tmp_path, of_others, images_of(tmp_path))
