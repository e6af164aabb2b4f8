"""Folds: every patient in one, alike in age and sex, the same whatever the order of the index."""

from pathlib import Path

import numpy as np
import pytest

from tests.builders.training import run_training
from training.data.folds import OutOfFold, assign, read_folds, read_predictions, write_predictions
from training.data.images import LabelledImage
from training.data.index import IndexRow, write_index
from training.data.near_duplicates import groups
from training.data.tables import DataError
from training.measure import cross


def rows_of(patients: int, seed: int = 0) -> list[IndexRow]:
    """One to four images of each of so many patients, most between 30 and 70."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        age = float(np.clip(rng.normal(50, 15), 1, 95).round())
        sex = "F" if rng.random() < 0.4 else "M"
        for image in range(rng.integers(1, 5)):
            rows.append(IndexRow(f"{patient:04d}_{image}.png", "d", f"d_{patient}", age, sex))
    return rows


def test_no_patient_and_no_duplicate_is_in_two_folds() -> None:
    rows = rows_of(150)
    links = [(0, 100), (100, 200), (7, 250)]
    found = assign(rows, links)
    group = np.array(groups(rows, links))
    for number in set(group):
        assert len(set(found[group == number])) == 1
    assert found[0] == found[100] == found[200]
    assert set(found) == {0, 1, 2, 3, 4}


def test_folds_are_alike() -> None:
    rows = rows_of(600)
    found = assign(rows)
    ages = np.array([row.age for row in rows], dtype=np.float64)
    female = np.array([row.sex == "F" for row in rows])
    for fold in range(5):
        at = found == fold
        assert abs(at.mean() - 0.2) < 0.02
        assert abs(female[at].mean() - female.mean()) < 0.03
        for decade in (30, 40, 50, 60):
            inside = (ages >= decade) & (ages < decade + 10)
            assert abs(inside[at].mean() - inside.mean()) < 0.03


def test_folds_depend_on_the_seed_and_not_on_the_order() -> None:
    rows = rows_of(80)
    found = dict(zip((row.image for row in rows), assign(rows), strict=True))
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    again = dict(zip((row.image for row in shuffled), assign(shuffled), strict=True))
    assert again == found
    assert (assign(rows, seed=1) != assign(rows)).any()


def test_unknown_and_rare_labels_are_dealt_out_too() -> None:
    rows = [IndexRow(f"{i}.png", "d", f"p{i}", None if i % 2 else 3.0 * i) for i in range(40)]
    assert np.bincount(assign(rows)).tolist() == [8, 8, 8, 8, 8]


def test_too_few_patients() -> None:
    rows = [IndexRow(f"{i}.png", "d", f"p{i % 4}", 50.0, "F") for i in range(40)]
    with pytest.raises(DataError, match="at least 5 patients for 5 folds, got 4"):
        assign(rows)


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "runs/oof.csv"
    written = [
        OutOfFold("a,b.png", 0, 50.125, 6.5, 0.000001),
        OutOfFold("c.png", 4, -1.0, 9.0, 1.0),
    ]
    write_predictions(written, path)
    assert read_predictions(path) == written
    path.write_text(path.read_text().replace("0.000001", "1.2"))
    expected = r"oof\.csv:2: probability_female: expected a number from 0 to 1, got '1\.2'"
    with pytest.raises(DataError, match=expected):
        read_predictions(path)


def test_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(30)
    write_index(rows, tmp_path / "index.csv")
    (tmp_path / "duplicates.json").write_text(
        f'{{"pairs": [["{rows[0].image}", "{rows[-1].image}", 3]]}}'
    )
    arguments = ["index.csv", "--duplicates", "duplicates.json", "--out", "folds.csv"]
    monkeypatch.chdir(tmp_path)
    run_training("folds", *arguments)
    found = read_folds(tmp_path / "folds.csv")
    assert set(found) == {row.image for row in rows}
    assert found[rows[0].image] == found[rows[-1].image]
    assert "fold 4: " in capsys.readouterr().out


def said(age: float, fold: int, answer: float) -> cross.Predicted:
    """What is known of an image of a patient of its own, and what is said of it."""
    name = f"{fold}-{age}"
    item = LabelledImage(name, "d", name, "held_out", age, float("nan"), 1.0, 1.0)
    return item, OutOfFold(name, fold, answer, 5.0, 0.5)


def test_a_fold_is_held_against_the_median_of_the_others() -> None:
    every = [said(20, 0, 24), said(40, 0, 40), said(60, 1, 50), said(80, 1, 90)]
    every.append(said(float("nan"), 1, 30))
    assert cross.of_the_median(every, every[:2]) == pytest.approx(40)  # 70 is said of 20 and 40
    assert cross.of_the_median(every, every[2:]) == pytest.approx(40)  # 30 of 60 and 80
    assert np.isnan(cross.of_the_median(every[4:], every[4:]))
    lines = list(cross.summary(every))
    assert [line[:3] for line in lines] == [["fold 0", "2", "2"], ["fold 1", "3", "3"],
                                            ["all", "5", "5"]]  # fmt: skip
    assert lines[0][3].startswith("2.000")
    assert [line[4] for line in lines] == ["40.000"] * 3
    assert {line[5] for line in lines} == {"-"}
