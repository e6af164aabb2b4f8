"""What a site's records move: shrunk, robust, by patient, and told on others than they were."""

import numpy as np
import pytest
from pydantic import ValidationError

from dicom_ai_node.inference import coverage, fitting, intervals, movement
from dicom_ai_node.inference.calibration import Calibration, CategoryCalibration, sigmoids
from dicom_ai_node.inference.distances import Far, Floats
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, HEADS, CategoryHead
from dicom_ai_node.inference.intervals import Movement, QuantityCalibration, Widening
from dicom_ai_node.inference.movement import SHIFT, SIGMA, SLOPE, Moves
from dicom_ai_node.recalibrate.moves import decide, fitted, movable

NONE = Widening()
WIDENINGS = {"age": NONE, "sex": NONE}


def names(count: int) -> np.ndarray:
    return np.arange(count).astype(np.str_)


def people(count: int, seed: int, *, older: float = 0.0, lean: float = 0.0) -> Cases:
    """Patients whose records lie ``older`` years above the estimates, and ``lean`` to female."""
    rng = np.random.default_rng(seed)
    mu, sex, far = rng.uniform(20, 80, count), rng.normal(0, 3, count), rng.gamma(20.0, 1.0, count)
    years = mu + older + rng.normal(0, 7, count)
    female = rng.random(count) < sigmoids(sex + lean)
    raw: dict[str, Floats] = {"age": np.stack([mu, np.full(count, 6.0)], axis=1), "sex": sex}
    truth: dict[str, Floats] = {"age": years, "sex": np.where(female, 0.0, 1.0)}
    return Cases(HEADS, raw, truth, far, far, names(count))


def unmoved(some: Cases) -> Calibration:
    return fitting.fit(some, WIDENINGS)


def fit(some: Cases, heads: frozenset[str]) -> Calibration:
    return fitting.fit(some, WIDENINGS, moves=fitted(some, unmoved(some), heads))


def line(mu: np.ndarray, years: np.ndarray, patients: np.ndarray) -> Movement | None:
    """A movement of estimates that are all alike certain."""
    return movement.of_quantity(mu, np.full(len(mu), 6.0), years, patients)


def middle(found: Movement | None) -> float:
    """What is added in the middle of the estimates."""
    assert found is not None
    return float(np.mean([added for _, added in found.knots]))


@pytest.mark.parametrize("count", [10, 50, 1000])
def test_a_shift_is_taken_by_the_number_of_patients(count: int) -> None:
    mu = np.linspace(20, 80, count)
    found = line(mu, mu + 5.0, names(count))
    assert middle(found) == pytest.approx(5.0 * count / (count + SHIFT), abs=0.002)


def test_a_slope_is_taken_more_slowly_and_ends_where_the_site_ends() -> None:
    mu = np.linspace(20, 80, 100)
    found = line(mu, mu + 0.2 * (mu - 50), names(100))
    assert found is not None
    (low, under), (high, over) = found.knots
    assert (low, high) == pytest.approx((21.5, 78.5))
    assert (over - under) / (high - low) == pytest.approx(0.2 * 100 / (100 + SLOPE), abs=1e-3)
    assert found.added(np.array([-50.0, 300.0]), np.array([1.0, 9.0])).tolist() == [under, over]
    assert found.by_sigma == ()


def test_a_patient_counts_once() -> None:
    mu = np.tile(np.linspace(20, 80, 30), 2)
    off = np.repeat([6.0, 0.0], 30)
    many = np.concatenate([names(30), np.full(30, "the same one")])
    alone = line(mu, mu + off, names(60))
    assert middle(line(mu, mu + off, many)) > 1.5 * middle(alone)


def test_wrong_headers_move_little() -> None:
    some = people(300, 1, older=3.0)
    mu, years = some.raw["age"][:, 0], some.truth["age"].copy()
    right = line(mu, years, some.patients)
    years[:15] += 50.0
    wrong = line(mu, years, some.patients)
    assert abs(middle(wrong) - middle(right)) < 0.8  # the mean would move by 2.4


def test_estimates_are_never_drawn_together_and_nothing_is_said_of_one() -> None:
    mu = np.linspace(20, 80, 3000)
    found = line(mu, 50 + 0.6 * (mu - 50) + 2.0, names(3000))
    assert found is not None
    assert found.knots[0][1] == found.knots[1][1] == pytest.approx(2.0, abs=0.05)
    assert line(np.full(40, 50.0), np.full(40, 60.0), names(40)) is None
    with pytest.raises(ValidationError, match="change an order"):
        Movement(knots=((20.0, 10.0), (30.0, -5.0)))


def test_nothing_moves_beyond_the_bounds() -> None:
    far = Movement(knots=((50.0, 40.0),))
    sigma = np.ones(3)
    said = intervals.moved(np.array([5.0, 60.0, 100.0]), sigma, far, (0.0, 110.0))
    assert said.tolist() == [45.0, 100.0, 110.0]
    assert intervals.moved(sigma, sigma, None, (0.0, 110.0)) is sigma


def test_what_is_less_certain_moves_more() -> None:
    rng = np.random.default_rng(11)
    mu, sigma = rng.uniform(20, 80, 500), np.exp(rng.uniform(1, 2.5, 500))
    years = mu + 4.0 * (np.log(sigma) - 1.75) + rng.normal(0, 5, 500)
    found = movement.of_quantity(mu, sigma, years, names(500))
    assert found is not None
    (sure, under), (unsure, over) = found.by_sigma
    assert (over - under) / (unsure - sure) == pytest.approx(4.0 * 500 / (500 + SIGMA), abs=0.7)
    assert found.added(np.full(2, 50.0), np.exp([sure, unsure])) == pytest.approx(
        [middle(found) + under, middle(found) + over], abs=0.3
    )
    with pytest.raises(ValidationError, match="by sigma do not rise"):
        Movement(knots=((20.0, 1.0),), by_sigma=((2.0, 1.0), (2.0, 2.0)))


def test_a_bias_is_shrunk_and_found() -> None:
    few, many = people(20, 2, lean=1.0), people(5000, 3, lean=1.0)
    small, large = (
        movement.of_category(p.raw["sex"], 1 - p.truth["sex"], p.patients) for p in (few, many)
    )
    assert large == pytest.approx(1.0, abs=0.12)
    assert abs(small) < large


def test_answers_groups_and_intervals_are_of_the_moved_estimate() -> None:
    some, others = people(1200, 4, older=8.0, lean=1.0), people(1200, 5, older=8.0, lean=1.0)
    moved = fit(some, frozenset({"age", "sex"}))
    far = Far.of(others.distances, some.reference)
    predicted = moved.predicted(HEADS, others.raw, far)
    error = predicted["age"] - others.truth["age"]
    assert abs(error.mean()) < 0.8
    assert (predicted["sex.F"] - (1 - others.truth["sex"])).mean() == pytest.approx(0, abs=0.03)
    low, high = coverage.intervals(moved, some.reference, others, AGE)
    assert (low[:, 2] <= predicted["age"]).all()
    assert (predicted["age"] <= high[:, 2]).all()
    covered = (low[:, 2] <= others.truth["age"]) & (others.truth["age"] <= high[:, 2])
    assert covered.mean() == pytest.approx(0.9, abs=0.03)
    still = fit(some, frozenset())
    wide = coverage.intervals(still, some.reference, others, AGE)
    assert (high - low)[:, 2].mean() < (wide[1] - wide[0])[:, 2].mean()


def test_what_moves_nothing_is_not_written() -> None:
    plain = unmoved(people(100, 6)).model_dump(mode="json")
    assert "movement" not in plain["age"]
    assert "bias" not in plain["sex"]
    moved = fit(people(300, 7, older=5.0, lean=1.0), frozenset({"age", "sex"}))
    again = Calibration.model_validate_json(moved.model_dump_json())
    assert again == moved
    assert Moves.of(again) == Moves.of(moved)
    assert again.category("sex").bias > 0.3


def test_a_bias_of_more_than_two_values_is_refused() -> None:
    three = CategoryHead(name="view", output=0, values=("AP", "PA", "LL"))
    biased = Calibration({"view": CategoryCalibration(temperature=1.0, bias=0.5)})
    with pytest.raises(ValueError, match="more than two values"):
        biased.check([three])


def test_it_is_moved_where_the_interval_of_the_gain_holds_no_loss() -> None:
    shifted = decide(people(400, 8, older=6.0, lean=1.5), fit)
    assert shifted.heads == {"age", "sex"}
    age = next(told for told in shifted.told if told.head == "age")
    assert age.packed
    assert 0 < age.of_all.low < age.of_all.gain < age.of_all.high
    assert age.of_all.gain == pytest.approx(age.of_all.before - age.of_all.after, abs=2e-4)
    assert age.of_all.bias_before == pytest.approx(-6, abs=1)
    assert abs(age.of_all.bias_after) < 1
    assert sum(gain.images for gain in age.by_age) == 400
    right = decide(people(400, 9), fit)
    assert right.heads == frozenset()
    assert [told.packed for told in right.told] == [False, False]
    assert all(abs(told.of_all.gain) < 0.2 for told in right.told)


def test_a_gain_is_told_of_patients_that_it_was_not_fitted_to() -> None:
    """Of pure chance nothing is gained, though a line fitted to the same people would gain."""
    gains = [decide(people(40, seed), fit).told[0].of_all.gain for seed in range(40)]
    assert np.mean(gains) < 0.02


def test_an_interval_draws_patients_and_not_images() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 1, 60), 10)
    low, high = movement.interval(values, np.repeat(names(60), 10))
    alone_low, alone_high = movement.interval(values, names(600))
    assert (high - low) > 2.5 * (alone_high - alone_low)


def test_heads_without_a_recorded_value_stay() -> None:
    some = people(200, 10, older=6.0)
    only = Cases(
        HEADS, some.raw, {"age": some.truth["age"]}, some.content, some.texture, some.patients
    )
    assert [head.name for head in movable(only)] == ["age"]
    old = Calibration({**unmoved(some).root, "sex": CategoryCalibration(temperature=1.0, bias=0.4)})
    found = fitted(only, old, frozenset({"age"}))
    assert found.biases == {"sex": 0.4}
    assert isinstance(old.root["age"], QuantityCalibration)
    assert middle(found.movements["age"]) == pytest.approx(6.0 * 200 / 215, abs=1.0)
