"""Images that were made and show no part of a body."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import run
from training.data import phantoms
from training.data.phantoms import HELD_OUT, KINDS, Kind
from training.data.regions import Slice
from training.data.slices import inputs
from training.fit import gate
from training.fit.regions import Regions


@pytest.mark.parametrize("kind", dict.fromkeys((*KINDS, *HELD_OUT)), ids=lambda kind: kind.__name__)
def test_each_shape_makes_inputs_that_depend_on_the_seed_alone(kind: Kind) -> None:
    """As HU through three windows, or as a picture in all of them."""
    made = phantoms.phantoms([kind], 24, 48, np.random.default_rng(1))
    assert made.shape == (24, 3, 48, 48)
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1
    assert (made == phantoms.phantoms([kind], 24, 48, np.random.default_rng(1))).all()
    alike = (made == made[:, :1]).all(axis=(1, 2, 3))
    assert 0 < alike.sum() < 24


def test_no_shape_that_trains_is_among_those_that_measure() -> None:
    """So that the gate is asked about shapes that it has not seen."""
    assert not set(KINDS) & set(HELD_OUT)


def test_the_gate_is_fitted_and_every_answer_stays(tmp_path: Path) -> None:
    """Slices pass and phantoms do not; the regions' rows are not touched."""
    rng = np.random.default_rng(0)
    slices = []
    for number in range(40):
        file = tmp_path / f"{number}.png"
        grey = rng.uniform(0, 255, (12, 12)) if number < 30 else np.full((12, 12), 9.0)
        grey[4:8, 4:8] = 255
        Image.fromarray(grey.astype(np.uint8)).resize((48, 48)).save(file)
        terms = frozenset({"CHEST"} if number < 30 else ())
        slices.append(Slice(file.name, file, terms, modality="MR", patient=str(number)))
    values = ("CHEST", "ABDOMEN", "KNEE")
    regions = Regions({value: value for value in values}, values)
    torch.manual_seed(0)
    network = Network("mobilenet_v2", 0.2, regions.rows, 3).eval()
    shown = inputs(slices, 48).astype(np.float32)
    before = run(network, shown)
    gate.refit(network, regions.gate, slices, 48)
    after = run(network, shown)
    assert (before["region"] == after["region"]).all()
    assert (after["slice"][:30] >= 0).mean() > 0.9
    made = phantoms.phantoms(KINDS, 60, 48, rng)
    assert (run(network, made)["slice"] >= 0).mean() < 0.2
