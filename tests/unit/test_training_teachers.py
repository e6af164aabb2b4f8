"""Distillation: what teachers say of the training images becomes a part of their targets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dicom_ai_node.inference.network import BACKBONES, Network
from tests.builders.training import SIDE, Tiny, small_backbone, tiny_config
from training import loss, teachers
from training.config import WEIGHTS, Config
from training.data import Images
from training.tables import DataError
from training.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
NAN = float("nan")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Settings with two teachers, whose runs had one step."""
    monkeypatch.setitem(BACKBONES, "tiny", small_backbone)
    alone = tiny_config(tmp_path / "run", steps=1)
    folders = [str(tmp_path / f"teacher-{seed}") for seed in range(2)]
    for seed, folder in enumerate(folders):
        train(replace(alone, seed=seed, out=folder), tmp_path, Tiny())
    (tmp_path / "run").mkdir()
    return replace(alone, teachers=tuple(folders))


def images(side: int = SIDE) -> Images:
    return Tiny().training(side)


def test_teachers_answer_with_the_mean_of_what_each_says(config: Config) -> None:
    seen = images()
    found = teachers.taught(config, seen, CPU)
    x = torch.from_numpy(next(seen.floats()))[:, None]
    ages, female = [], []
    for folder in config.teachers:
        network = Network("tiny").eval()
        network.load_state_dict(load_file(Path(folder) / WEIGHTS))
        with torch.inference_mode():
            answers = network(x)
        ages.append(answers.ages.softmax(dim=1))
        female.append(answers.sex.sigmoid())
    torch.testing.assert_close(found["ages"], torch.stack(ages).mean(dim=0))
    torch.testing.assert_close(found["female"], torch.stack(female).mean(dim=0))


def test_larger_images_are_reduced_to_the_side_of_the_last_stage(config: Config) -> None:
    small = images()
    large = Images(small.items, np.repeat(np.repeat(small.pixels[:], 2, axis=1), 2, axis=2))
    seen = teachers.taught(config, large, CPU)
    assert seen["ages"].shape == (len(small), 101)
    torch.testing.assert_close(seen["ages"].sum(dim=1), torch.ones(len(small)))


def test_answers_are_kept_until_a_teacher_or_the_side_changes(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, asked = images(), []

    def answers(*given: object) -> teachers.Taught:
        asked.append(given)
        return {"ages": torch.zeros(1, 101), "female": torch.zeros(1)}

    monkeypatch.setattr(teachers, "_answers", answers)
    teachers.taught(config, seen, CPU)
    kept = teachers.taught(config, seen, CPU)
    assert kept["ages"].shape == (1, 101)
    assert len(asked) == 1
    teachers.taught(replace(config, teachers=config.teachers[:1]), seen, CPU)
    assert len(asked) == 2
    teachers.taught(replace(config, sides=(32,)), seen, CPU)
    assert len(asked) == 3


def test_a_share_of_the_targets_is_what_teachers_said() -> None:
    labels = {"age": torch.tensor([40.0, NAN]), "female": torch.tensor([1.0, NAN])}
    said = {"ages": torch.zeros(2, 101), "female": torch.tensor([0.5, 0.5])}
    said["ages"][:, 60] = 1.0
    mixed = teachers.mixed(labels, said, 0.25)
    assert mixed["female"][0] == pytest.approx(0.875)
    assert mixed["female"][1].isnan()
    years = torch.arange(101.0)
    assert (mixed["ages"][0] @ years).item() == pytest.approx(45.0, abs=1e-3)
    assert mixed["ages"][1].isnan().all()
    nothing = teachers.mixed(labels, said, 0.0)
    logits = torch.randn(1, 101)
    own = loss.age(logits, labels["age"][:1], nothing["ages"][:1])
    torch.testing.assert_close(own, loss.age(logits, labels["age"][:1]), rtol=1e-4, atol=1e-4)


def test_a_run_learns_from_its_teachers(config: Config, tmp_path: Path) -> None:
    """With the whole target theirs, and one of them sure of 80 years, so is the student soon."""
    old = Network("tiny")
    torch.nn.init.zeros_(old.head.weight)
    old.head.bias.data[80] = 12.0
    save_file(old.state_dict(), Path(config.teachers[0]) / WEIGHTS)
    sure = replace(config, teachers=config.teachers[:1], taught=1.0, steps=60, rate=0.5, ema=0.5)
    train(sure, tmp_path, Tiny())
    student = Network("tiny").eval()
    student.load_state_dict(load_file(tmp_path / "run" / WEIGHTS))
    with torch.inference_mode():
        mu, _ = student(torch.from_numpy(next(images().floats()))[:, None]).age_moments()
    assert mu.mean() > 60


def test_a_run_does_not_go_on_with_other_teachers(config: Config, tmp_path: Path) -> None:
    train(config, tmp_path, Tiny())
    first, second = (Path(folder) / WEIGHTS for folder in config.teachers)
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match=r"last\.pt: teachers: expected"):
        train(config, tmp_path, Tiny())


def test_a_teacher_that_knows_other_images_is_refused(config: Config, tmp_path: Path) -> None:
    fewer = Tiny()
    fewer.items[0] = replace(fewer.items[0], role="held_out")
    with pytest.raises(DataError, match=r"teacher-0.last\.pt: images: expected"):
        train(config, tmp_path, fewer)


def test_a_teacher_that_is_not_there_is_named(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.last\.pt: expected the checkpoint of a run"):
        train(replace(config, teachers=("none",)), tmp_path, Tiny())


def test_teachers_teach_a_distribution() -> None:
    with pytest.raises(ValueError, match="teachers teach a distribution"):
        Config(teachers=("one",), age_loss="nll")
    with pytest.raises(ValueError, match="taught is 2, expected 0 to 1"):
        Config(taught=2)
