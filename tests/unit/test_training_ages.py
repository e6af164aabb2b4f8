"""Ages from CT: tables and series are read, crops and figures are made, one command does it all."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread

from dicom_ai_node.answers import Quantity
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.pixels.windows import windows
from training.data import ages, bodies
from training.data.ages import Aged
from training.data.bodies import Planted
from training.data.regions import Slice
from training.data.slices import Values
from training.data.tables import DataError
from training.fit.ages import AGE, Batches, Projections, Sections, cropped
from training.fit.config import RunConfig
from training.measure import ages as measure
from training.measure.ages import OutOfFold
from training.measure.bodies import blurred, brightest, elsewhere, points_to, share_on, shown
from training.measure.figures import MAE, coverage
from training.publish import ct_age, ct_age_card
from training.readers import bodies as writer
from training.readers import series

SMALL: dict[str, Any] = {"pixels": 48, "sections": 40}
HEAD = "series,patient,age,sex"


def table(folder: Path, *lines: str, head: str = HEAD) -> Path:
    file = folder / "ages.csv"
    file.write_text("\n".join([head, *lines]) + "\n")
    return file


def test_a_table_names_series_patients_and_ages(tmp_path: Path) -> None:
    tally = Counter[str]()
    file = table(tmp_path, "a,p1,63,F", "b.nii.gz,p2,412,M", "c,p3,,", "d,p4,64,")

    rows = ages.read(file, tally)

    assert [(row.name, row.age, row.sex) for row in rows] == [("a", 63, "F"), ("d", 64, "")]
    assert rows[0].file == tmp_path / "a"
    assert tally["age: unknown"] == 2
    assert any("412" not in reason and reason.startswith("age: ") for reason in tally)


@pytest.mark.parametrize(
    ("lines", "head", "says"),
    [
        (["a,p1,63"], "series,patient,age", "the columns sex"),
        (["a,,63,F"], HEAD, "patient: expected a value"),
        (["a,p1,63,F", "a,p2,64,F"], HEAD, "each series once"),
    ],
)
def test_a_table_that_is_wrong_is_named(
    tmp_path: Path, lines: list[str], head: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        ages.read(table(tmp_path, *lines, head=head), Counter())


def test_sections_are_axial_ct_of_the_trunk_that_may_train() -> None:
    good = Slice("a", Path("a"), frozenset({"CHEST"}), "CT", "x", "1", age="50", plane="axial")
    others = [
        replace(good, name="b", modality="MR"),
        replace(good, name="c", plane="coronal"),
        replace(good, name="d", terms=frozenset({"CHEST", "NECK"})),
        replace(good, name="e", terms=frozenset()),
        replace(good, name="f", use="test"),
        replace(good, name="g", age=""),
    ]
    tally = Counter[str]()

    found = ages.sections([good, *others], tally)

    assert [one.name for _, one in found] == ["a"]
    assert tally["section: no axial CT that may train"] == 3
    assert tally["section: not of the trunk"] == 2


def test_no_patient_is_in_two_folds() -> None:
    rows = [Aged(f"{n}", Path(), f"p{n % 20}", 20.0 + n, source="ab"[n % 2]) for n in range(60)]

    fold = ages.dealt(rows)

    people = ages.patients(rows)
    assert set(fold.tolist()) == set(range(5))
    assert all(len(set(fold[people == one].tolist())) == 1 for one in set(people.tolist()))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of twelve small synthetic series, three of them folders of DICOM files."""
    return writer.write(tmp_path_factory.mktemp("bodies"), 12, **SMALL)


def test_dicom_and_nifti_of_one_series_look_the_same(tmp_path: Path) -> None:
    body = bodies.series(3, **SMALL)
    writer.write_nifti(tmp_path / "body.nii.gz", body)
    writer.write_dicom(tmp_path / "body", body)

    nifti, dicom = (series.projection(tmp_path / name, 64, 0) for name in ("body.nii.gz", "body"))

    assert nifti.shape == (2, 64, 64)
    # DICOM states places in 16 characters.
    assert np.abs(nifti - dicom).max() < 0.05
    assert np.abs(nifti - dicom).mean() < 1e-3


def test_what_is_no_series_of_ct_is_refused_with_its_name(tmp_path: Path) -> None:
    body = bodies.series(3, **SMALL)
    for folder in ("two", "none"):
        (tmp_path / folder).mkdir()
    for name in ("first", "second"):
        writer.write_dicom(tmp_path / "two" / name, body)
    (tmp_path / "none" / "note.txt").write_text("no image")
    (tmp_path / "bad.nii.gz").write_bytes(b"no NIfTI")

    for name, says in (
        ("two", "one series of CT, got 2"),
        ("none", "one series of CT, got 0"),
        ("bad.nii.gz", "expected a NIfTI file"),
        ("missing", "expected a folder of DICOM files"),
    ):
        with pytest.raises(DataError, match=says):
            series.projection(tmp_path / name, 64, 0)


def test_scouts_beside_the_sections_are_passed_over(tmp_path: Path) -> None:
    body = bodies.series(3, **SMALL)
    writer.write_dicom(tmp_path / "body", body)
    expected = series.projection(tmp_path / "body", 64, 0)
    scout = dcmread(tmp_path / "body" / "0000.dcm")
    scout.ImageType, scout.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.2.3"
    scout.save_as(tmp_path / "body" / "scout.dcm")

    assert np.array_equal(series.projection(tmp_path / "body", 64, 0), expected)


def test_projections_are_made_once_and_what_is_refused_has_its_reason(
    small: Path, tmp_path: Path
) -> None:
    rows = ages.read(small, Counter())[:4]
    broken = replace(rows[0], name="gone", file=small.parent / "gone")

    pixels, refused = series.projections([*rows, broken], tmp_path, 32, 0)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again, _ = series.projections(rows, tmp_path, 32, 0)

    assert pixels.shape == (4, 2, 32, 32)
    assert list(refused) == ["gone"]
    assert np.array_equal(pixels, again)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == times


def test_a_crop_is_enlarged_and_keeps_what_density_says() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.full((64, 2, 64, 64), 0.5)

    out = cropped(x, 32, rng)

    assert out.shape == (64, 2, 32, 32)
    assert abs(out.mean().item() - 0.5) < 0.01
    assert out.mean(dim=(1, 2, 3)).std().item() < 0.02


def config(folder: Path, **changes: Any) -> RunConfig:
    usual: dict[str, Any] = {
        "architecture": "resnet18", "start": "random", "out": str(folder / "run"),
        "cache": str(folder / "cache"), "steps": 2, "batch": 4, "chunk": 4, "ema": 0.5,
        "sides": (32,), "until": (1.0,), "low_resolution": (0,), "pixels": 40,
    }  # fmt: skip
    return RunConfig(**usual | changes)


def test_every_image_is_drawn_before_one_repeats_and_a_pause_changes_nothing(
    tmp_path: Path,
) -> None:
    rows = [Aged(f"{n}", Path(), f"p{n}", 20.0 + n) for n in range(8)]
    pixels = np.random.default_rng(0).integers(0, 65535, (8, 2, 32, 32)).astype(np.uint16)
    batches = Batches(config(tmp_path), rows, Projections(pixels))

    first, second = (batches.batch(0)[1]["age"].tolist() for _ in range(2))
    state = batches.state_dict()
    expected = batches.batch(0)
    other = Batches(config(tmp_path), rows, Projections(pixels))
    other.load_state_dict(state)
    found = other.batch(0)

    assert sorted(first + second) == [20.0 + n for n in range(8)]
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1]["age"], expected[1]["age"])


def test_sections_are_drawn_as_three_windows() -> None:
    values = Values(np.zeros((3, 40, 40), np.float16), np.array([True, False, True]))
    sections = Sections(values, np.zeros((3, 3, 32, 32), np.float16))

    drawn = sections.at(np.array([0, 1])).drawn(
        np.array([0, 1]), 32, torch.Generator().manual_seed(0)
    )

    assert drawn.shape == (2, 3, 32, 32)
    assert sections.measured().shape == (3, 3, 32, 32)


def said(error: float, n: int = 300) -> OutOfFold:
    """Answers whose errors have this standard deviation, and sigmas that say so."""
    rng = np.random.default_rng(0)
    years = rng.uniform(30, 90, n)
    cases = Cases(
        heads=(AGE,),
        raw={"age": np.stack([years + rng.normal(0, error, n), np.full(n, error)], axis=1)},
        truth={"age": years},
        content=rng.random(n),
        texture=rng.random(n),
        patients=np.array([f"p{i // 2}" for i in range(n)]),
    )
    return OutOfFold(
        cases, np.full(n, 60.0), {"source": np.array(["a", "b", ""])[np.arange(n) % 3]}
    )


def test_figures_stand_beside_the_median_and_intervals_are_cross_fitted() -> None:
    found = {(f.group, f.quantity): f for f in measure.figures(said(5.0))}

    mae, gain = found["", MAE], found["", measure.GAIN]
    assert mae.value == pytest.approx(4.0, abs=0.5)
    assert mae.baseline == pytest.approx(15.0, abs=1.0)
    assert gain.value == pytest.approx((mae.baseline or 0) - mae.value, abs=0.01)
    assert gain.low is not None
    assert gain.low < gain.value
    assert found["", coverage("90")].value == pytest.approx(0.9, abs=0.04)
    assert ("source: a", MAE) in found
    assert ("source: ", MAE) not in found
    assert ("age: 70 to 119", MAE) in found


@pytest.mark.parametrize(("error", "says"), [(5.0, ""), (17.0, "its gain over the median is")])
def test_a_bundle_is_for_research_unless_it_is_better_than_the_median(
    error: float, says: str
) -> None:
    why = measure.unworthy(measure.figures(said(error)))

    assert bool(why) == bool(says)
    assert says in why


def test_coverage_beside_the_nominal_makes_a_bundle_one_of_research() -> None:
    figures = [
        f.model_copy(update={"value": 0.8}) if f.quantity == coverage("90") else f
        for f in measure.figures(said(5.0))
    ]

    assert "cover 80.0%" in measure.unworthy(figures)


@pytest.mark.parametrize(("planted", "rises"), [(bodies.LOSS, -40), (bodies.GAIN, 100)])
def test_density_goes_with_age_at_one_place_alone(planted: Planted, rises: float) -> None:
    young, old = (bodies.series(1, planted=planted, age=age, **SMALL) for age in (40.0, 50.0))

    change = old.images.astype(float) - young.images
    assert change[young.planted].mean() == pytest.approx(rises, abs=1)
    assert not change[~young.planted].any()


@pytest.mark.parametrize("planted", [bodies.LOSS, bodies.GAIN])
def test_the_planted_place_is_told_from_the_rest(planted: Planted) -> None:
    one = shown(bodies.series(1, planted=planted, **SMALL), 128)

    assert 0.003 < one.planted.mean() < 0.2
    assert share_on(one.planted.astype(np.float32), one.planted) == pytest.approx(1.0)
    assert points_to(one.planted.astype(np.float32), one.planted)
    corner = np.zeros((128, 128), np.float32)
    corner[0, 0] = 1
    assert not points_to(corner, one.planted)
    other = elsewhere(one, np.random.default_rng(0))
    assert other.sum() == one.planted.sum()
    assert not (other & one.planted).any()
    assert one.body[other].all()


def test_a_place_is_blurred_and_the_rest_stays() -> None:
    pixels = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32)
    where = np.zeros((64, 64), np.bool_)
    where[:8, :8] = True

    out = blurred(pixels, where)

    assert out[0, :8, :8] == pytest.approx(pixels[0, :8, :8].mean(), abs=1e-6)
    assert np.array_equal(out[:, ~where], pixels[:, ~where])


def test_the_brightest_place_is_as_large_as_is_asked() -> None:
    values = np.arange(16, dtype=np.float32).reshape(4, 4)

    assert brightest(values, 3).nonzero()[1].tolist() == [1, 2, 3]
    assert not brightest(values, 0).any()


@pytest.mark.slow
def test_one_command_trains_calibrates_measures_and_packs(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "try.toml"
    file.write_text(
        'architecture = "resnet18"\nstart = "random"\n'
        "ridge = true\nminutes = 0\nbatch = 4\nchunk = 4\n"
        f'out = "{tmp_path / "runs"}"\ncache = "{tmp_path / "cache"}"\n'
        "sides = [32]\nuntil = [1.0]\nlow_resolution = [0]\n"
    )
    out = tmp_path / "models" / "try"

    ct_age.main(small, file, out, "0.1", tmp_path)
    printed = capsys.readouterr().out
    ct_age.main(small, file, out, "0.1", tmp_path)  # nothing is trained again

    manifest = bundle.verify(out)
    assert "for research alone: its gain over the median" in printed
    assert manifest.research
    assert Estimator(out, device="cpu").engine == "onnxruntime"
    assert manifest.accepts.takes == "series"
    assert manifest.accepts.contract == "projections-1"
    assert manifest.training.patients == 12
    assert "**For research alone**" in (out / bundle.CARD).read_text()
    row = ages.read(small, Counter())[0]
    (answer,) = Estimator(out, device="cpu").predict(series.projection(row.file, 32, 0)[None])
    years = answer.answers["age"]
    assert isinstance(years, Quantity)
    low, high = years.interval90
    assert 0 <= low <= years.mu <= high <= 110


def test_too_few_patients_are_an_error_that_names_the_table(tmp_path: Path) -> None:
    file = table(tmp_path, "a.nii.gz,p1,63,F")
    with pytest.raises(DataError, match="expected 10 patients"):
        ct_age.read(file, config(tmp_path))


def test_card_and_docs_say_what_the_manifest_of_the_shipped_bundle_says() -> None:
    root = Path(__file__).resolve().parents[2]
    folder = root / "models" / "ct-age-slice"
    manifest = bundle.verify(folder)
    why = measure.unworthy(manifest.figures)

    assert manifest.research == bool(why)
    assert (folder / bundle.CARD).read_text() == ct_age_card.text(manifest, why)
    assert ct_age_card.table(manifest.figures) in (root / "docs" / "ct-age.md").read_text()


def test_the_shipped_bundle_tells_an_age_of_a_section() -> None:
    estimator = Estimator(Path(__file__).resolve().parents[2] / "models" / "ct-age-slice")
    body = bodies.series(1, sections=8)

    seen = windows(body.images[4].astype(np.float32), "CT", estimator.size)
    (said,) = estimator.predict(seen[np.newaxis])

    low, high = said.quantity("age").interval90
    assert 0 <= low < high <= 110
