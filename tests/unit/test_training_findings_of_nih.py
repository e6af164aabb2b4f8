"""One command makes a bundle of findings of a folder in the layout of ChestX-ray14."""

from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.answers import LabelProbabilities
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from tests.builders.layouts import picture, table
from tests.builders.training import run_training
from training.data.findings import NAMES

COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender")
SIDE = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle, made of sixty images of thirty patients in three steps."""
    root = tmp_path_factory.mktemp("nih")
    rows = []
    for n in range(60):
        name = f"{n // 2:08}_{n % 2:03}.png"
        picture(root / "images_001/images" / name, n, side=SIDE)
        stated = ("Mass|Edema", "No Finding", "Effusion")[n % 3]
        rows.append((name, stated, n // 2, 20 + n, "FM"[n % 4 // 2], ("PA", "AP")[n % 2]))
    table(root / "Data_Entry_2017_v2020.csv", (*COLUMNS, "View Position"), *rows)
    made = root / "bundles/site-findings"
    out = ("--out", root / "out", "--bundle", made)
    small = ("--architecture", "resnet18", "--side", SIDE, "--steps", 3)
    run_training("findings_of_nih", root, *out, *small)
    return made


@pytest.mark.slow
def test_the_bundle_answers_every_label_as_research(made: Path) -> None:
    manifest = bundle.verify(made)
    assert manifest.research
    assert [head.name for head in manifest.heads] == ["findings"]
    assert [gate.name for gate in manifest.gates] == ["chest", "frontal"]
    image = np.random.default_rng(0).random((1, SIDE, SIDE), dtype=np.float32)
    (found,) = Estimator(made, device="cpu").predict(image)
    answer = found.answers["findings"]
    assert isinstance(answer, LabelProbabilities)
    assert tuple(answer.probabilities) == NAMES
    assert all(0 < share < 1 for share in answer.probabilities.values())


@pytest.mark.slow
def test_what_a_report_needs_stands_in_the_manifest(made: Path) -> None:
    terms = bundle.verify(made).terms.concepts
    assert "findings" not in terms, "as 'Finding' each label would read as if it were there"
    assert terms["findings.Effusion"].code == "60046008"
    assert "findings.Hernia" not in terms


@pytest.mark.slow
def test_the_held_out_fold_gives_the_figures_and_the_card_says_for_what_it_is_not(
    made: Path,
) -> None:
    manifest = bundle.verify(made)
    assert {figure.dataset for figure in manifest.figures} == {"held_out"}
    held_out = {figure.n for figure in manifest.figures}
    assert max(held_out) + manifest.training.images == 60
    card = (made / bundle.CARD).read_text()
    assert "not for diagnosis" in card
    assert "10 to 30 %" in card
    assert "| Effusion |" in card
