"""A run asks what its bundle answers; findings train beside the gates and begin at their shares."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.inference.network import BACKBONES, Network
from tests.builders.training import Tiny, small_backbone, tiny_config
from training.data.findings import NAMES
from training.data.images import Images, LabelledImage
from training.fit.config import WEIGHTS, RunConfig, checked
from training.fit.questions import (
    CHEST_FINDINGS,
    FINDINGS,
    QUESTIONS,
    FindingsBatches,
    begin_at_shares,
)
from training.fit.train import train

CPU = torch.device("cpu")


class Signs(Tiny):
    """Every fourth image shows a mass and is bright; every other one is unlabelled."""

    def __init__(self, count: int = 48) -> None:
        super().__init__(count)
        self.items = [self._labelled(n, item) for n, item in enumerate(self.items)]

    @staticmethod
    def _labelled(n: int, item: LabelledImage) -> LabelledImage:
        if item.role == "gate" or n % 2:
            return item
        stated = "Mass" if n % 4 == 0 else "No Finding"
        return replace(item, source="nih", findings=(stated,))

    def training(self, side: int) -> Images:
        images = super().training(side)
        bright = ["Mass" in item.findings for item in images.items]
        pixels = (images.pixels[:] // 2).astype(np.uint8)
        pixels[bright] += 120
        return Images(images.items, pixels)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", small_backbone)


def settings(out: Path, **changes: object) -> RunConfig:
    return replace(tiny_config(out), bundle=CHEST_FINDINGS, **changes)  # type: ignore[arg-type]


def test_batches_hold_a_label_for_each_row(tmp_path: Path) -> None:
    asked = QUESTIONS[CHEST_FINDINGS]
    batches = FindingsBatches(settings(tmp_path, batch=40), Signs(), CPU)
    x, labels = batches.batch(0)
    assert set(labels) == {row.name for row in asked.rows}
    assert labels["findings"].shape == (len(x), len(NAMES))
    known = ~labels["findings"].isnan().all(dim=1)
    assert 0 < known.sum() < len(x)  # the unlabelled train the gates alone
    of_known = labels["findings"][known]
    assert 0 < of_known[:, NAMES.index("Mass")].sum() < known.sum()
    assert of_known[:, NAMES.index("Hernia")].sum() == 0


@pytest.mark.usefixtures("tiny")
def test_a_new_layer_begins_at_the_shares_and_a_trained_one_stays(tmp_path: Path) -> None:
    batches = FindingsBatches(settings(tmp_path), Signs(), CPU)
    network = Network("tiny", rows=QUESTIONS[CHEST_FINDINGS].rows)
    begin_at_shares(network, batches)
    shares = network.head.bias[FINDINGS.place].sigmoid()
    images = batches.images.items
    known = [item for item in images if item.findings]
    masses = sum("Mass" in item.findings for item in known)
    assert shares[NAMES.index("Mass")].item() == pytest.approx((masses + 1) / (len(known) + 2))
    assert shares[NAMES.index("Hernia")].item() == pytest.approx(1 / (len(known) + 2))
    assert not network.head.bias[len(NAMES) :].any()
    with torch.no_grad():
        network.head.bias[FINDINGS.place] = 0.25
    begin_at_shares(network, batches)
    assert (network.head.bias[FINDINGS.place] == 0.25).all()


@pytest.mark.usefixtures("tiny")
def test_what_is_bright_is_learnt(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    config = settings(tmp_path, steps=60, batch=16, rate=0.02, gate=0.0, corrupted=0.0, ema=0.5)
    data = Signs()
    train(config, tmp_path, data)
    network = Network("tiny", rows=QUESTIONS[CHEST_FINDINGS].rows)
    network.load_state_dict(load_file(tmp_path / WEIGHTS))
    images = data.training(64)
    (pixels,) = images.floats()
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(pixels)[:, None])["findings"]
    shown = torch.tensor(["Mass" in item.findings for item in images.items])
    mass = logits[:, NAMES.index("Mass")]
    assert mass[shown].mean() > mass[~shown].mean() + 0.5


def test_a_bundle_that_nothing_trains_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="bundle is 'knees'"):
        checked(tmp_path / "x.toml", {"bundle": "knees"})
