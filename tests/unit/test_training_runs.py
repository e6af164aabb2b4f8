"""What a run keeps in its folder, and when it may go on from there."""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dicom_ai_node.inference import network
from tests.builders.training import SIDE, Tiny, small_backbone, tiny_config
from training.data.tables import DataError
from training.fit import checkpoint, run
from training.fit import config as settings
from training.fit.config import RunConfig
from training.fit.run import Run
from training.fit.train import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setitem(network.BACKBONES, "tiny", small_backbone)
    return tiny_config(tmp_path / "run")


def test_a_run_goes_on_with_the_images_that_it_began_with(
    config: RunConfig, tmp_path: Path
) -> None:
    images = Tiny()
    train(config, tmp_path, images)
    images.items[0] = replace(images.items[0], role="held_out")
    images.items.append(replace(images.items[1], path="new.png"))
    with pytest.raises(DataError, match=r"run.last\.pt: images: expected .* give another out"):
        train(config, tmp_path, images)


def test_labels_may_be_mended_between_two_parts_of_a_run(config: RunConfig, tmp_path: Path) -> None:
    images = Tiny()
    train(config, tmp_path, images)
    images.items[0] = replace(images.items[0], age=33.0)
    train(config, tmp_path, images)


def test_a_run_goes_on_with_the_settings_that_it_began_with(
    config: RunConfig, tmp_path: Path
) -> None:
    train(config, tmp_path, Tiny())
    with pytest.raises(DataError, match=r"batch: .*; rate: expected 0\.5, got 0\.0008") as error:
        train(replace(config, batch=2, rate=0.5), tmp_path, Tiny())
    assert "images" not in str(error.value)


def test_a_run_goes_on_from_the_weights_that_it_started_from(
    config: RunConfig, tmp_path: Path
) -> None:
    train(config, tmp_path, Tiny())
    second = replace(config, start=f"{config.out}/ema.safetensors", out=str(tmp_path / "second"))
    train(second, tmp_path, Tiny())
    train(replace(config, seed=2, out=str(tmp_path / "other")), tmp_path, Tiny())
    (tmp_path / "run").rename(tmp_path / "first")
    (tmp_path / "other").rename(tmp_path / "run")
    with pytest.raises(DataError, match=r"second.last\.pt: start: expected weights with SHA-256"):
        train(second, tmp_path, Tiny())


def test_how_long_and_where_a_run_goes_on_is_free(config: RunConfig, tmp_path: Path) -> None:
    train(config, tmp_path, Tiny())
    (tmp_path / "run").rename(tmp_path / "moved")
    longer = replace(config, steps=3, out=str(tmp_path / "moved"), checkpoint_seconds=9.0)
    train(longer, tmp_path, Tiny())


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x05\x06" + 18 * b"\0", None])
def test_a_checkpoint_of_something_else_is_named(
    config: RunConfig, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "run/last.pt"
    file.parent.mkdir()
    if content is None:
        torch.save({"network": {}, "steps": 1}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"last\.pt: expected .*; remove .*another out"):
        train(config, tmp_path, Tiny())


def plain(state: Any) -> Any:
    """The same with bytes for tensors, so that it can be compared exactly."""
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return state.numpy().tobytes() if isinstance(state, torch.Tensor) else state


def test_a_run_that_was_cut_off_ends_as_one_in_one_go(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: float(next(ticks)))  # a second a step
    monkeypatch.setattr(run, "EVERY", 1)
    whole = replace(
        config,
        clock="processor",
        steps=9,
        checkpoint_seconds=2.5,
        dropout=0.5,
        corrupted=0.3,
        findings=0.3,
        rate=5e-3,
    )
    train(whole, tmp_path, Tiny())
    parts = replace(whole, out=str(tmp_path / "parts"))
    step, left = Run.step, iter(range(7))

    def cut_off(run: Run, *batch: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(run, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", cut_off)
        with pytest.raises(KeyboardInterrupt):  # one step after the second checkpoint
            train(parts, tmp_path, Tiny())
    assert checkpoint.read(tmp_path / "parts")["run"]["steps"] == 6
    assert len((tmp_path / "parts/log.csv").read_text().splitlines()) == 1 + 7
    train(parts, tmp_path, Tiny())
    one, other = (checkpoint.read(tmp_path / name) for name in ("run", "parts"))
    assert plain(one) == plain(other)
    assert other["run"]["steps"] == 9
    logs = [(tmp_path / name / "log.csv").read_text() for name in ("run", "parts")]
    assert logs[0] == logs[1]
    assert [line.split(",")[0] for line in logs[0].splitlines()] == ["step", *"123456789"]
    weights = [(tmp_path / name / settings.WEIGHTS).read_bytes() for name in ("run", "parts")]
    assert weights[0] == weights[1]


def test_the_log_of_an_earlier_run_is_not_gone_on_with(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.csv").write_text("1,9,64,3.1\n")
    train(config, tmp_path, Tiny())
    assert not (tmp_path / "run/log.csv").read_text()


def test_a_budget_of_steps_does_not_ask_the_clock(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: 1e4 * next(slow))
    counted = replace(
        config,
        steps=5,
        clock="processor",
        sides=(SIDE, 72),
        until=(0.4, 1.0),
        low_resolution=(0.0, 0.0),
        warmup=0.4,
    )
    monkeypatch.setattr(run, "EVERY", 1)
    train(counted, tmp_path, Tiny())
    rows = [line.split(",") for line in (tmp_path / "run/log.csv").read_text().splitlines()]
    assert [(row[0], row[2]) for row in rows[1:]] == [
        ("1", "64"), ("2", "64"), ("3", "72"), ("4", "72"), ("5", "72"),
    ]  # fmt: skip
    (group, _) = checkpoint.read(tmp_path / "run")["run"]["optimiser"]["param_groups"]
    assert group["lr"] == counted.learning_rate(0.8)
    train(replace(counted, clock="wall", out=str(tmp_path / "again")), tmp_path, Tiny())
    weights = [(tmp_path / name / settings.WEIGHTS).read_bytes() for name in ("run", "again")]
    assert weights[0] == weights[1]


def test_a_budget_is_of_minutes_or_of_steps(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("steps = 100\n")
    assert settings.read(file).budget == "100 steps"
    with pytest.raises(SystemExit, match=r"x\.toml: minutes and steps: expected one of them"):
        settings.read(file, minutes=3.0)
    file.write_text("steps = -1\n")
    with pytest.raises(SystemExit, match=r"x\.toml: steps is -1, expected"):
        settings.read(file)
    file.write_text("minutes = 0\n")
    with pytest.raises(SystemExit, match=r"x\.toml: minutes is 0, expected"):
        settings.read(file)
