"""Projection and findings as further tasks of a training run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.inference.network import Network
from training.data.findings import NAMES, TASKS, WORDS, targets
from training.data.images import LabelledImage
from training.fit.batches import FURTHER
from training.fit.config import RunConfig
from training.fit.loss import FindingsTask
from training.fit.run import Run
from training.readers.chexpert import FINDINGS

NAN = float("nan")


def item(view: str, *findings: str, source: str = "nih") -> LabelledImage:
    return LabelledImage("p", source, "n", "train", 50.0, 1.0, 1.0, 1.0, view, "", findings)


def known(source: str, *findings: str) -> tuple[set[str], set[str]]:
    """What is there, and what is not, of the 14."""
    (row,) = targets([item("", *findings, source=source)])
    found = dict(zip(NAMES, row[1:].tolist(), strict=True))
    return {n for n, v in found.items() if v == 1}, {n for n, v in found.items() if v == 0}


def test_named_findings_are_there_and_the_others_are_not() -> None:
    there, denied = known("nih", "Edema", "Effusion", "Mass?", "Something else")
    assert there == {"Edema", "Effusion"}
    assert denied == {*NAMES} - there - {"Mass"}


def test_the_projection_is_known_beside_them() -> None:
    views = targets([item(view, "Edema") for view in ("AP", "PA", "")])[:, 0]
    assert views.tolist()[:2] == [1.0, 0.0]
    assert np.isnan(views[2])


def test_no_finding_is_known_of_each() -> None:
    assert targets([item("PA", "No Finding")]).tolist() == [[0.0] * TASKS]


@pytest.mark.parametrize("words", [(), ("Lung Opacity",), ("",)])
def test_other_words_say_nothing(words: tuple[str, ...]) -> None:
    assert np.isnan(targets([item("", *words)])).all()


CHEXPERT = {"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Mass", "Nodule"}
CHEXPERT |= {"Pleural_Thickening", "Pneumonia", "Pneumothorax"}


@pytest.mark.parametrize(
    ("source", "words", "there", "unknown"),
    [
        ("chexpert", "Atelectasis|Pleural Effusion", {"Atelectasis", "Effusion"}, set()),
        ("mimic", "Lung Lesion|Edema", {"Edema"}, {"Mass", "Nodule"}),
        ("chexpert", "Pleural Effusion?", set(), {"Effusion"}),
        ("chexpert", "No Finding", set(), set()),
        ("vindr", "Pleural effusion", {"Effusion"}, {"Hernia"}),
        ("vindr", "Nodule/Mass?|Pneumonia", {"Pneumonia"}, {"Mass", "Nodule", "Hernia"}),
        ("padchest", "pulmonary edema|scoliosis", {"Edema"}, set()),
        ("padchest", "hydropneumothorax", {"Effusion", "Pneumothorax"}, set()),
        ("padchest", "nodule|unchanged", {"Nodule"}, {*NAMES}),
        ("padchest", "mass", set(), {"Mass", "Nodule"}),
        ("rsna", "Lung Opacity", set(), {*NAMES}),
        ("rsna", "No Finding", set(), {*NAMES} - {"Pneumonia"}),
        ("site", "Atelectasis|No Finding", set(), {*NAMES}),
    ],
)
def test_each_data_set_denies_only_what_it_has_words_for(
    source: str, words: str, there: set[str], unknown: set[str]
) -> None:
    unlabelled = {*NAMES} - CHEXPERT if source in ("chexpert", "mimic") else set()
    assert known(source, *words.split("|")) == (there, {*NAMES} - there - unknown - unlabelled)


def test_words_mean_findings_of_chestxray14_and_are_those_of_the_readers() -> None:
    assert all(words.labelled <= {*NAMES} for words in WORDS.values())
    assert not any({*words.sure} & {*words.maybe} for words in WORDS.values())
    assert {*WORDS["chexpert"].sure, *WORDS["chexpert"].maybe} <= {*FINDINGS}


def test_what_is_unknown_costs_nothing() -> None:
    loss = FindingsTask(8).loss(torch.rand(2, 8), torch.full((2, TASKS), NAN))
    assert loss.item() == 0.0


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_findings_teach_the_backbone_by_their_weight(tmp_path: Path, weight: float) -> None:
    torch.manual_seed(0)
    settings = RunConfig(out=str(tmp_path), findings=weight, rate=1e-3, warmup=0.0, decay=0.0)
    run = Run(settings, Network("resnet18", dropout=0.0), torch.device("cpu"))
    before = run.network.backbone[0].weight.detach().clone()
    labels = {name: torch.full((4,), NAN) for name in ("age", "sex", "frontal", "chest")}
    labels[FURTHER] = torch.ones(4, TASKS)
    parts = run.step(torch.rand(4, 1, 32, 32), labels)
    assert (FURTHER in parts) == bool(weight)
    assert torch.equal(run.network.backbone[0].weight, before) == (not weight)


def test_their_layer_is_kept_to_go_on_and_is_not_shipped(tmp_path: Path) -> None:
    run = Run(RunConfig(out=str(tmp_path), findings=0.5), Network("resnet18"), torch.device("cpu"))
    torch.nn.init.ones_(run.further.layer.weight)
    again = Run(run.config, Network("resnet18"), torch.device("cpu"))
    again.load_state_dict(run.state_dict())
    assert torch.equal(again.further.layer.weight, run.further.layer.weight)
    assert not any("further" in name for name in run.ema.state_dict())
