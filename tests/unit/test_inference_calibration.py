import numpy as np
import pytest
from pydantic import ValidationError

from dicom_ai_node.inference import coverage, fitting, quantiles
from dicom_ai_node.inference.calibration import Calibration, CategoryCalibration, sigmoid, sigmoids
from dicom_ai_node.inference.distances import Far, excess, p_value
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, HEADS, SEX, CategoryHead
from dicom_ai_node.inference.intervals import (
    LEVELS,
    TEXTURE,
    Group,
    Predicted,
    QuantityCalibration,
    Widening,
)
from training.data.tables import DataError
from training.fit import calibrate

NONE = Widening()
WIDE = Widening(knots=((0.0, 1.0), (1.0, 2.0)))


def cases(
    mu: np.ndarray,
    sigma: np.ndarray,
    sex: np.ndarray,
    content: np.ndarray,
    texture: np.ndarray,
    years: np.ndarray,
    female: np.ndarray,
    patients: np.ndarray,
) -> Cases:
    """Cases of an age and the logit of female."""
    raw = {"age": np.stack([mu, sigma], axis=1), "sex": sex}
    truth = {"age": years, "sex": 1.0 - female}
    return Cases(HEADS, raw, truth, content, texture, patients)


def female_of(some: Cases) -> np.ndarray:
    return np.asarray(1.0 - some.truth["sex"])


def predicted(mu: np.ndarray, p_female: np.ndarray, p_value: np.ndarray) -> Predicted:
    return {"age": mu, "sex.F": p_female, TEXTURE: p_value}


def people(count: int, seed: int) -> Cases:
    """Estimates whose errors are skewed, and differ by predicted age, sex and distance."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(20, 80, count)
    sigma = rng.uniform(2, 6, count)
    sex = rng.normal(0, 4, count)
    far = rng.gamma(20.0, 1.0, count)
    scale = 1 + 0.8 * (mu > 60) + 0.5 * (sex > 0) + 0.02 * far
    years = np.clip(mu + sigma * scale * (rng.gamma(4.0, 0.5, count) - 2.0), 0, 109)
    female = (rng.random(count) < 1 / (1 + np.exp(-sex))).astype(np.float64)
    return cases(mu, sigma, sex, far, far, years, female, np.arange(count).astype(np.str_))


def flat(level: float = 1.0) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(LEVELS, (level, level))


def factor(widening: Widening, x: float) -> float:
    return float(widening.factors(np.array([x]))[0])


def covered(age: QuantityCalibration, some: Cases, others: Cases, level: str) -> np.ndarray:
    """Whether the interval of each of ``others`` covers, calibrated on ``some``."""
    fitted = Calibration({"age": age, "sex": CategoryCalibration(temperature=1.0)})
    low, high = coverage.intervals(fitted, some.reference, others, AGE)
    at = LEVELS.index(level)
    return np.asarray((low[:, at] <= others.truth["age"]) & (others.truth["age"] <= high[:, at]))


def test_coverage_is_exact_in_every_group() -> None:
    """Over many draws of few images, so that an error of one rank would show."""
    groups: list[list[np.ndarray]] = [[] for _ in range(12)]
    for seed in range(60):
        some, others = people(600, seed), people(600, 1000 + seed)
        age = fitting.quantity(some, AGE, NONE, smallest=20)
        assert len(age.groups) == 12
        mu = others.raw["age"][:, 0]
        p = p_value(others.texture, some.reference.texture)
        images = np.array([group.images for group in age.groups])
        promised = 2 * np.ceil((images + 1) * 0.95 - 1e-9) / (images + 1) - 1
        of = age.groups_of(predicted(mu, sigmoids(others.raw["sex"]), p))
        gaps = covered(age, some, others, "90") - promised[of]
        for number, group in enumerate(groups):
            group.append(gaps[of == number])
    everybody = [np.concatenate(group) for group in groups]
    for gap in everybody:  # about 3,000 images and 60 calibrations each: a standard error of .007
        assert abs(np.mean(gap)) < 0.03
    assert abs(np.mean(np.concatenate(everybody))) < 0.008


def test_few_images_keep_the_promise_and_too_few_promise_everything() -> None:
    half, most = [], []
    for seed in range(150):
        some, others = people(19, seed), people(40, 9000 + seed)
        age = fitting.quantity(some, AGE, NONE)
        half.append(covered(age, some, others, "50").mean())
        most.append(covered(age, some, others, "95").mean())
    assert np.mean(half) == pytest.approx(0.5, abs=0.03)  # ranks 15 of 20, both ways
    assert np.mean(most) == 1.0
    assert age.groups[0].quantiles["95"] == (quantiles.UNBOUNDED, quantiles.UNBOUNDED)


def interval(fitted: QuantityCalibration, mu: float, level: str, x: float) -> tuple[float, float]:
    one, other = np.array([mu]), np.array([0.4])
    low, high = fitted.intervals(
        one,
        10 * other,
        level,
        predicted=predicted(one, other, other),
        excess=np.array([x]),
        bounds=AGE.bounds,
    )
    return float(low[0]), float(high[0])


def test_intervals_are_nested_and_contain_the_estimate() -> None:
    fitted = fitting.quantity(people(600, 3), AGE, WIDE, 30)
    for mu in (0.0, 3.0, 39.9, 40.0, 75.0, 100.0):
        widest = (-1.0, 200.0)
        for level in reversed(LEVELS):
            low, high = interval(fitted, mu, level, 0.3)
            assert widest[0] <= low <= mu <= high <= widest[1]
            widest = low, high


def test_a_small_group_shares_with_its_sibling() -> None:
    assert [group.where for group in fitting.quantity(people(100, 4), AGE, NONE).groups] == [{}]
    some = people(2000, 5)
    women = np.flatnonzero(some.raw["sex"] > 0)
    few = np.concatenate([np.flatnonzero(some.raw["sex"] <= 0), women[:100]])
    fitted = fitting.quantity(some.at(few), AGE, NONE, 80)
    assert {tuple(group.where) for group in fitted.groups[:-1]} == {("age", "texture")}
    assert sum(group.images for group in fitted.groups) == len(few)
    assert min(group.images for group in fitted.groups) >= 80
    parted = fitting.quantity(some, AGE, NONE, 80)
    assert len(parted.groups) == 12
    woman, man = parted.groups_of(predicted(*np.array([[70.0, 70.0], [0.9, 0.1], [0.9, 0.9]])))
    assert parted.groups[woman] != parted.groups[man]


def test_bands_are_joined_with_their_neighbour() -> None:
    ages = np.concatenate([np.full(90, 30.0), np.full(90, 50.0), np.full(90, 70.0)])
    assert quantiles.bands(ages, 80, (40.0, 60.0)) == [40.0, 60.0]
    assert quantiles.bands(ages[:240], 80, (40.0, 60.0)) == [40.0]
    assert quantiles.bands(ages[30:], 80, (40.0, 60.0)) == [60.0]
    assert quantiles.bands(ages[:90], 80, (40.0, 60.0)) == []


def test_every_image_has_a_group() -> None:
    with pytest.raises(ValidationError, match="may be in none"):
        QuantityCalibration(
            groups=(Group(where={"age": (None, 40.0)}, images=9, quantiles=flat()),),
            smallest_group=1,
            sd_scale=1.0,
        )
    fitted = fitting.quantity(people(1500, 7), AGE, NONE, 60)
    for mu in (-5.0, 40.0, 200.0):  # a regression head is not bound to 0 to 100
        half = np.array([0.5])
        assert fitted.groups_of(predicted(np.array([mu]), half, half)) < len(fitted.groups)


def test_a_negative_quantile_is_refused() -> None:
    with pytest.raises(ValidationError, match="negative"):
        Group(images=9, quantiles=flat(-0.1))
    with pytest.raises(ValidationError, match="quantiles for"):
        Group(images=9, quantiles={"90": (1.0, 1.0)})


@pytest.mark.parametrize(
    "knots",
    [
        ((0.0, 0.9),),
        ((0.0, 1.0), (1.0, 2.0), (2.0, 1.5)),
        ((0.0, 1.0), (0.0, 2.0)),
        (),
    ],
)
def test_a_widening_that_narrows_is_refused(knots: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValidationError):
        Widening(knots=knots)


def test_the_interval_the_sd_and_the_temperature_widen_with_the_distance() -> None:
    age = fitting.quantity(people(300, 8), AGE, WIDE)
    sex = CategoryCalibration(temperature=1.0, widening=WIDE)
    x = np.array([-1.0, 0.0, 0.5, 1.0, 3.0])
    factors = [1.0, 1.0, 1.5, 2.0, 2.0]
    ends = np.array([interval(age, 50.0, "90", float(one)) for one in x])
    widths, sds = ends[:, 1] - ends[:, 0], age.sds(np.full(5, 3.0), x)
    np.testing.assert_allclose(widths / widths[0], factors)
    np.testing.assert_allclose(sds / sds[0], factors)
    certain = sex.probabilities(np.full(5, 4.0), x)[:, 0]
    np.testing.assert_allclose(certain, [sigmoid(4 / factor) for factor in factors])


def test_the_widening_follows_the_errors_and_nothing_else() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(0.3, 0.5, 6000)
    error = np.abs(rng.normal(0, 1, 6000))
    found = calibrate.widening(x, error * (1 + np.clip(x, 0, None)))
    for at in (-0.5, 0.0, 0.5, 1.0):
        assert factor(found, at) == pytest.approx(1 + max(at, 0), abs=0.15)
    assert factor(calibrate.widening(x, error), 2.0) < 1.15
    assert factor(calibrate.widening(x, error / (1 + np.clip(x, 0, None))), 2.0) == 1.0
    assert factor(calibrate.widening(x, error * np.exp(4 * x)), 9.0) == calibrate.AGE_CAP
    assert calibrate.widening(x[:30], error[:30]) == NONE


def test_temperature_cools_an_overconfident_network() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(0, 2, 4000)
    female = (rng.random(4000) < 1 / (1 + np.exp(-true))).astype(np.float64)
    assert fitting.temperature(2 * true, female) == pytest.approx(2.0, rel=0.15)
    assert fitting.temperature(np.array([5.0]), np.array([1.0])) == pytest.approx(1 / 3)


def test_the_temperature_rises_where_certainty_was_too_great() -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(0.3, 0.5, 20_000)
    true = rng.normal(0, 3, len(x))
    female = (rng.random(len(x)) < 1 / (1 + np.exp(-true))).astype(np.float64)
    found = calibrate.temperature_widening(x, true * (1 + np.clip(x, 0, None)), female)
    assert factor(found, 0.5) == pytest.approx(1.5, abs=0.25)
    assert factor(found, 1.0) > 1.6
    some = people(len(x), 11)
    mu, sigma = some.raw["age"].T
    tempered = cases(
        mu, sigma, true * (1 + np.clip(x, 0, None)), some.content, np.exp(x),
        some.truth["age"], female, some.patients,
    )  # fmt: skip
    widening = Widening(knots=((-0.3, 1.0), (2.7, 4.0)))  # in excess over the median of exp(x)
    assert fitting.category(tempered, SEX, widening).temperature == pytest.approx(1.0, rel=0.1)


def test_the_temperature_of_several_values_rises_with_what_changed_copies_show() -> None:
    """Of images alone that lie near nothing is learnt of those that lie far."""
    rng = np.random.default_rng(12)
    head = CategoryHead(name="part", output=0, values=("A", "B", "C"))

    def seen(far: np.ndarray) -> Cases:
        true = rng.normal(0, 2, (len(far), 3))
        chances = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
        truth = (chances.cumsum(axis=1) < rng.random((len(far), 1))).sum(axis=1).astype(np.float64)
        logits = true * (1 + np.clip(far, 0, None))[:, None]
        names = np.arange(len(far)).astype(np.str_)
        return Cases(
            (head,), {"part": logits}, {"part": truth}, np.exp(far), np.ones(len(far)), names
        )

    plain = seen(rng.normal(0, 0.05, 2000))
    changed = seen(rng.uniform(0, 2, 6000))
    found = calibrate.category_widening(plain, [changed], head)
    assert factor(found, 0.0) == 1
    assert factor(found, 1.0) == pytest.approx(2, abs=0.35)
    assert factor(found, 9.0) > factor(found, 1.0)
    assert factor(calibrate.category_widening(plain, [], head), 1.0) < 1.3
    category = fitting.category(plain, head, found, "content")
    assert category.temperature == pytest.approx(1, abs=0.1)
    far = Far.of(changed.distances, plain.reference)
    assert (category.excess(far) == far.content).all()
    assert (CategoryCalibration(temperature=1.0).excess(far) == far.excess).all()
    assert category.model_dump()["widened_by"] == "content"
    assert "widened_by" not in CategoryCalibration(temperature=1.0).model_dump()


def test_the_widening_carries_coverage_to_shifted_images() -> None:
    rng = np.random.default_rng(12)

    def at(x: np.ndarray) -> Cases:
        sigma, mu = rng.uniform(2, 5, len(x)), rng.uniform(30, 70, len(x))
        years = mu + sigma * (1 + np.clip(x, 0, None)) * rng.normal(0, 1, len(x))
        sex = np.zeros(len(x))
        names = np.arange(len(x)).astype(np.str_)
        return cases(mu, sigma, sex, np.ones(len(x)), np.exp(x), years, sex, names)

    plain, shifted = at(rng.normal(0, 0.2, 500)), at(rng.normal(0.8, 0.4, 3000))
    elsewhere = at(rng.normal(1.0, 0.2, 3000))
    covered = [
        coverage.summary(
            coverage.intervals(fitted, plain.reference, elsewhere, AGE), elsewhere.truth["age"]
        )
        for fitted in (calibrate.calibration(plain), calibrate.calibration(plain, shifted))
    ]
    narrow, wide = (one[LEVELS.index("90")].coverage for one in covered)
    assert narrow < 0.7
    assert 0.86 < wide < 0.95


def test_caution_widens_at_least_so_much_and_keeps_the_calibration_set_covered() -> None:
    found = Widening(knots=((0.0, 1.0), (0.5, 1.2), (1.0, 2.4)))
    assert calibrate.cautious(found, 1.0) == found
    careful = calibrate.cautious(found, 2.0)
    x = np.linspace(-1, 2, 61)
    ramp = np.interp(x, calibrate.RAMP, (1, 2))
    assert (careful.factors(x) >= np.maximum(found.factors(x), ramp) - 1e-3).all()
    assert factor(careful, 2.0) == 2.4
    some = people(900, 16)
    assert factor(calibrate.calibration(some, caution=2.0).category("sex").widening, 2.0) == 2.0
    plain, wide = (
        coverage.summary(calibrate.cross_fitted(some, caution=caution), some.truth["age"])
        for caution in (1.0, 2.0)
    )
    for was, now in zip(plain, wide, strict=True):
        assert now.coverage == pytest.approx(was.coverage, abs=0.03)


def test_cross_fitting_leaves_the_patient_out() -> None:
    some = people(400, 13)
    mu, sigma = some.raw["age"].T
    several = cases(
        mu, sigma, some.raw["sex"], some.content, some.texture,
        some.truth["age"], female_of(some),
        np.repeat(np.arange(40), 10).astype(np.str_),
    )  # fmt: skip
    several.truth["age"][:7] = np.nan  # they get an interval and make none
    seen: list[set[str]] = []

    def fit(chosen: np.ndarray) -> Calibration:
        seen.append(set(several.patients[~chosen]))
        assert not seen[-1] & set(several.patients[chosen])
        return calibrate.calibration(several.at(chosen))

    low, high = coverage.cross_fitted(several, fit, AGE)
    assert len(seen) == coverage.FOLDS
    assert set.union(*seen) == set(several.patients)
    assert not np.isnan(low + high).any()
    some = people(800, 14)
    bounds = calibrate.cross_fitted(some, people(900, 15))
    found = {one.level: one for one in coverage.summary(bounds, some.truth["age"])}
    assert found["90"].coverage == pytest.approx(0.9, abs=0.04)
    assert found["50"].width < found["95"].width


def test_p_values_of_the_calibration_set_are_uniform() -> None:
    reference = np.sort(np.random.default_rng(6).random(199))
    p = p_value(np.array([-1.0, reference[100], 2.0]), reference)
    assert p.tolist() == [1.0, 0.5, 1 / 200]


def test_excess_is_zero_at_the_median() -> None:
    found = excess(np.array([0.0, 3.0, 3 * np.e]), np.array([1.0, 3.0, 50.0]))
    assert found[1:].tolist() == pytest.approx([0.0, 1.0])
    assert np.isfinite(found).all()


def test_distance_grows_within_and_outside_of_the_components() -> None:
    rng = np.random.default_rng(7)
    spread = np.concatenate([np.full(80, 2.0), np.full(20, 0.1)])
    features = (rng.standard_normal((2000, 100)) * spread).astype(np.float32)
    fitted = calibrate.space(features, 64)
    probes = np.zeros((3, 100), np.float32)
    probes[1, 0], probes[2, 99] = 20.0, 20.0
    at_mean, inside, outside = fitted.distance(probes)
    assert at_mean < np.median(fitted.distance(features))
    assert inside > 50
    assert outside > 50


def test_sigmoid_does_not_overflow() -> None:
    assert [sigmoid(x) for x in (-1e6, 0.0, 1e6)] == [0.0, 0.5, 1.0]


def test_a_network_that_sees_no_difference_is_refused() -> None:
    with pytest.raises(DataError, match="features that tell the training images apart"):
        calibrate.space(np.zeros((26, 128), np.float32), 64)


def regressing(count: int, seed: int) -> Cases:
    """Estimates that are drawn to the middle, as those of the old are."""
    rng = np.random.default_rng(seed)
    years = np.clip(rng.normal(50, 16, count), 5, 95)
    sigma = rng.uniform(5, 7, count)
    mu = 50 + 0.6 * (years - 50) + rng.normal(0, 5, count)
    female = (rng.random(count) < 0.5).astype(np.float64)
    sex = np.where(female == 1, 3.0, -3.0)
    far = rng.gamma(20.0, 1.0, count)
    patients = np.array([f"{seed}-{i}" for i in range(count)])
    return cases(mu, sigma, sex, far, far.copy(), years, female, patients)


def covers(fitted: Calibration, known: Cases, some: Cases) -> np.ndarray:
    low, high = coverage.intervals(fitted, known.reference, some, AGE)
    years = some.truth["age"][:, None]
    return np.asarray((low <= years) & (years <= high))


def test_a_tilt_covers_the_old_whom_groups_of_what_is_predicted_leave_out() -> None:
    known, some = regressing(4000, 1), regressing(4000, 2)
    widening = {"age": NONE, "sex": NONE}
    by_groups = covers(fitting.fit(known, widening), known, some)
    tilted = covers(fitting.fit(known, widening, tilted=True), known, some)
    at = LEVELS.index("90")
    old = some.truth["age"] >= 70
    assert by_groups[old, at].mean() < 0.85
    assert tilted[old, at].mean() >= 0.88
    assert 0.88 <= tilted[:, at].mean() <= 0.95
    for low, high in ((20, 40), (40, 60), (60, 70)):
        band = (some.truth["age"] >= low) & (some.truth["age"] < high)
        assert tilted[band, at].mean() >= 0.87


def test_tilted_intervals_are_nested_contain_the_estimate_and_keep_the_bounds() -> None:
    known, some = regressing(600, 3), regressing(3000, 4)
    fitted = fitting.fit(known, {"age": NONE, "sex": NONE}, tilted=True)
    assert fitted.quantity("age").tilt
    low, high = coverage.intervals(fitted, known.reference, some, AGE)
    assert (np.diff(low, axis=1) <= 0).all()
    assert (np.diff(high, axis=1) >= 0).all()
    mu = some.raw["age"][:, 0]
    assert (low[:, 0] <= mu).all()
    assert (high[:, 0] >= mu).all()
    least, most = AGE.bounds
    assert low.min() >= least
    assert high.max() <= most


def test_few_images_make_no_tilt_and_a_small_band_leans_on_the_whole() -> None:
    few = regressing(100, 5)
    assert fitting.fit(few, {"age": NONE, "sex": NONE}, tilted=True).quantity("age").tilt == ()
    many = regressing(3000, 6)
    whole = fitting.quantity(many, AGE, NONE, tilted=True)
    z = (many.truth["age"] - many.raw["age"][:, 0]) / many.raw["age"][:, 1]
    some = np.flatnonzero(many.truth["age"] >= 70)[:60]
    rest = np.flatnonzero(many.truth["age"] < 70)
    at = np.concatenate([rest, some])
    small = quantiles.tilt(z[at], many.truth["age"][at], whole.groups[0], (70.0,))
    large = quantiles.tilt(z, many.truth["age"], whole.groups[0], (70.0,))
    assert [one.images for one in small] == [len(rest), 60]
    assert 1 < small[-1].factors["90"][1] < large[-1].factors["90"][1]


def test_a_tilt_without_a_calibrated_level_or_in_no_order_is_refused() -> None:
    fitted = fitting.quantity(regressing(600, 7), AGE, NONE, tilted=True).model_dump()
    first, *others = fitted["tilt"]
    for rows in ([*others, first], [{**first, "factors": {"90": (1.0, 1.0)}}]):
        with pytest.raises(ValidationError):
            QuantityCalibration.model_validate({**fitted, "tilt": rows})
    again = QuantityCalibration.model_validate(fitted)
    assert again.model_dump() == fitted


def test_images_beside_those_that_calibrate_move_quantiles_and_no_reference() -> None:
    plain, beside = regressing(400, 8), regressing(800, 9)
    alone, both = calibrate.calibration(plain), calibrate.calibration(plain, beside=beside)
    assert [one.quantity("age").groups[0].images for one in (alone, both)] == [400, 1200]
    far = Cases(
        beside.heads, beside.raw, beside.truth, beside.content, beside.texture * 9, beside.patients
    )
    # Were their distances the reference, none of them would be further off than the others.
    low, high = calibrate.cross_fitted(plain, beside=far, caution=2.0)
    width = (high - low)[:, LEVELS.index("90")]
    assert np.median(width[400:]) > 1.5 * np.median(width[:400])
    assert len(low) == 1200
