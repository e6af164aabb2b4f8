"""The table of what a site's trusted headers gain, on people whose errors are known."""

import numpy as np
import pytest

from dicom_ai_node.inference import fitting
from dicom_ai_node.inference.calibration import sigmoids
from dicom_ai_node.inference.distances import Floats
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import HEADS
from dicom_ai_node.inference.intervals import Widening
from training.measure import recalibration
from training.measure.recalibration import Measured, draws, tables

NAMES = {"age": Widening(), "sex": Widening()}


def people(count: int, seed: int, *, older: float = 0.0) -> Cases:
    """Two images of each patient, whose records lie ``older`` years above the estimates."""
    rng = np.random.default_rng(seed)
    mu, sigma = rng.uniform(20, 85, count), np.exp(rng.normal(1.7, 0.2, count))
    sex, far = rng.normal(0, 3, count), rng.gamma(20.0, 1.0, count)
    raw: dict[str, Floats] = {"age": np.stack([mu, sigma], axis=1), "sex": sex}
    truth: dict[str, Floats] = {
        "age": mu + older + rng.normal(0, 6, count),
        "sex": np.where(rng.random(count) < sigmoids(sex), 0.0, 1.0),
    }
    return Cases(HEADS, raw, truth, far, far, (np.arange(count) // 2).astype(np.str_))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibration, "DRAWS", 3)


def test_patients_are_drawn_whole_and_the_others_measured() -> None:
    some = people(160, 1)
    for drawn in draws(some, fitting.fit(some, NAMES), 51):
        tested = ~np.isnan(drawn.age)
        assert 160 - tested.sum() == 52
        pairs = tested.reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()
        for column in (drawn.ruled, drawn.line, drawn.covered, drawn.sex, drawn.biased):
            assert (~np.isnan(column) == tested).all()


def test_a_shift_is_gained_and_too_few_images_are_said() -> None:
    known = people(400, 2)
    old = fitting.fit(known, NAMES)
    site = Measured("site", people(300, 3, older=8.0), old, known.reference)
    ages, sexes = tables([site]).split("\n\n")
    _, _, fifty, more, most = (line.strip("| ").split(" | ") for line in ages.splitlines())
    assert fifty[:2] == ["site", "50"]
    before = float(fifty[2])
    gains = [float(cell.split()[0]) for cell in fifty[3:6]]
    assert before == pytest.approx(8.5, abs=0.8)
    assert gains[0] == pytest.approx(before - 5, abs=1)
    assert gains[2] == pytest.approx(gains[0])  # the rule moves all three
    assert fifty[6] == "100%"
    bias_before, bias_after = (float(cell) for cell in fifty[8:10])
    assert bias_before < -7
    assert bias_after > bias_before + 3  # of 25 patients 25 of 40 parts are taken
    assert float(fifty[10].strip("%")) == pytest.approx(90, abs=5)
    assert more[:2] == ["site", "200"]
    assert most[:3] == ["site", "1,000", "has 300"]
    assert [line.count("|") for line in sexes.splitlines()] == [6] * 4


def test_where_nothing_is_off_the_rule_moves_nothing() -> None:
    known = people(400, 4)
    (row,) = [
        Measured("site", people(120, 5), fitting.fit(known, NAMES), known.reference).rows(50)[0]
    ]
    assert row[5] == "+0.00 (+0.00 to +0.00)"
    assert row[6] == "0%"
