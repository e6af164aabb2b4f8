"""Projection and findings as further tasks of a training run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.inference.network import Network
from training.config import Config
from training.data import Item
from training.findings import NAMES, TASKS, Further, targets
from training.material import FURTHER
from training.run import Run

NAN = float("nan")


def item(view: str, *findings: str) -> Item:
    return Item("p", "s", "n", "train", 50.0, 1.0, 1.0, 1.0, view, "", findings)


def test_named_findings_are_there_and_the_others_are_not() -> None:
    (known,) = targets([item("AP", "Edema", "Effusion", "Mass?", "Something else")])
    found = dict(zip(NAMES, known[1:], strict=True))
    assert known[0] == 1.0
    assert {name for name, value in found.items() if value == 1.0} == {"Edema", "Effusion"}
    assert {name for name, value in found.items() if np.isnan(value)} == {"Mass"}


def test_no_finding_is_known_of_each() -> None:
    assert targets([item("PA", "No Finding")]).tolist() == [[0.0] * TASKS]


@pytest.mark.parametrize("words", [(), ("Lung Opacity",), ("",)])
def test_other_words_say_nothing(words: tuple[str, ...]) -> None:
    assert np.isnan(targets([item("", *words)])).all()


def test_what_is_unknown_costs_nothing() -> None:
    loss = Further(8).loss(torch.rand(2, 8), torch.full((2, TASKS), NAN))
    assert loss.item() == 0.0


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_findings_teach_the_backbone_by_their_weight(tmp_path: Path, weight: float) -> None:
    torch.manual_seed(0)
    settings = Config(out=str(tmp_path), findings=weight, rate=1e-3, warmup=0.0, decay=0.0)
    run = Run(settings, Network("resnet18", dropout=0.0), torch.device("cpu"))
    before = run.network.backbone[0].weight.detach().clone()
    known = {name: torch.full((4,), NAN) for name in ("age", "female", "frontal", "chest")}
    known[FURTHER] = torch.ones(4, TASKS)
    parts = run.step(torch.rand(4, 1, 32, 32), known)
    assert (FURTHER in parts) == bool(weight)
    assert torch.equal(run.network.backbone[0].weight, before) == (not weight)


def test_their_layer_is_kept_to_go_on_and_is_not_shipped(tmp_path: Path) -> None:
    run = Run(Config(out=str(tmp_path), findings=0.5), Network("resnet18"), torch.device("cpu"))
    torch.nn.init.ones_(run.further.layer.weight)
    again = Run(run.config, Network("resnet18"), torch.device("cpu"))
    again.load_state_dict(run.state_dict())
    assert torch.equal(again.further.layer.weight, run.further.layer.weight)
    assert not any("further" in name for name in run.ema.state_dict())
