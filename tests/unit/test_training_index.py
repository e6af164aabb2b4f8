"""The index, its errors, and the labels that the header rules let pass."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.training import run_training
from training.data.index import (
    COLUMNS,
    IndexRow,
    files,
    read_index,
    read_indexes,
    relative_to_folder,
    write_index,
)
from training.data.labels import labels_of_columns
from training.data.tables import DataError, read_table

FULL = IndexRow(
    image="a/b.png",
    dataset="nih",
    patient="nih_1",
    age=5 / 12,
    sex="F",
    view="PA",
    findings=("Effusion", "Mass?"),
    device="ACME, ONE",
    licence='free "of charge"',
    split="train",
)
BARE = IndexRow(image="c.dcm", dataset="dicom")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "made/index.csv"
    write_index([FULL, BARE], path)
    assert read_index(path) == [FULL, BARE]
    assert files(path, [FULL]) == [tmp_path / "made/a/b.png"]


def test_several_indexes_are_one_with_one_name_for_each_file(tmp_path: Path) -> None:
    write_index([IndexRow("../nih/1.png", "nih")], tmp_path / "lists/nih.csv")
    write_index([IndexRow("1.png", "site")], tmp_path / "site/index.csv")
    indexes = [tmp_path / "lists/nih.csv", tmp_path / "site/index.csv"]
    assert [row.image for row in read_indexes(tmp_path, indexes)] == ["nih/1.png", "site/1.png"]
    write_index([IndexRow("1.png", "nih")], tmp_path / "nih/again.csv")
    with pytest.raises(DataError, match=r"again\.csv: nih/1\.png: .* also in .*nih\.csv"):
        read_indexes(tmp_path, [*indexes, tmp_path / "nih/again.csv"])


def test_an_image_is_found_from_where_the_index_lies(tmp_path: Path) -> None:
    root, folder = tmp_path / "data/nih", tmp_path / "indexes"
    moved = next(relative_to_folder(folder, root, [FULL]))
    assert moved.image == "../data/nih/a/b.png"
    assert (folder / moved.image).resolve() == root / "a/b.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.replace(",F,", ",female,"),
            r":2: sex: expected F, M or nothing, got 'female'",
        ),
        (lambda t: t.replace(",PA,", ",front,"), r":2: view: expected PA, .* got 'front'"),
        (lambda t: t.replace("0.41666", "old"), r":2: age: expected a number from 0 to 120"),
        (lambda t: t.replace("0.41666", "4166"), r":2: age: expected a number from 0 to 120"),
        (lambda t: t.replace("0.4166666666666666", "nan"), r":2: age: expected a number"),
        (lambda t: t.replace(",dicom,", ",,"), r":3: dataset: expected a value, got ''"),
        (lambda t: t.replace("c.dcm", "a/b.png"), r":3: image: .* of line 2, got 'a/b.png'"),
        (lambda t: t.replace(",sex,", ",gender,"), r":1: expected the columns sex"),
        (lambda t: t + "d.png,nih\n", r":4: expected 10 values, got 2"),
    ],
)
def test_errors_name_file_line_and_column(
    tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "index.csv"
    write_index([FULL, BARE], path)
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    with pytest.raises(DataError, match=rf"index\.csv{message}"):
        read_index(path)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a readable file"):
        read_index(tmp_path / "absent.csv")
    (tmp_path / "bad.csv").write_bytes(b"image\n\xff\xfe\n")
    with pytest.raises(DataError, match="expected CSV in UTF-8"):
        list(read_table(tmp_path / "bad.csv", ["image"]))
    (tmp_path / "bad.csv.gz").write_bytes(b"image\n")
    with pytest.raises(DataError, match=r"bad\.csv\.gz: expected"):
        list(read_table(tmp_path / "bad.csv.gz", ["image"]))


def test_a_failed_write_leaves_the_old_index(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    write_index([BARE], path)
    with pytest.raises(DataError, match="findings"):
        write_index([FULL, IndexRow("x", "y", findings=("a|b",))], path)
    assert read_index(path) == [BARE]


@pytest.mark.parametrize(
    ("given", "years"),
    [
        ("58", 58.0),
        ("58.9", 58.0),  # completed years, as PatientAge has them
        ("058Y", 58.0),
        ("58Y", 58.0),  # mended
        ("006M", 0.5),
        ("0", None),  # C1
        ("000Y", None),
        ("148", None),  # C2
        ("414", None),
        ("1200", None),  # A1
        ("-1", None),
        ("nan", None),
        ("old", None),
        ("", None),
    ],
)
def test_ages_pass_the_header_rules(given: str, years: float | None) -> None:
    labels = labels_of_columns(age=given, sex="F")
    assert labels.age == years
    assert labels.sex == "F"
    assert bool(labels.doubts) == (years is None)


def test_the_rule_that_dropped_an_age_is_named() -> None:
    assert labels_of_columns(age="414", sex="M").doubts[0].startswith("age: C2 ")
    assert labels_of_columns(age="0", sex="M").doubts[0].startswith("age: C1 ")
    assert labels_of_columns(age="old", sex="M").doubts[0].startswith("age: A1 ")
    assert labels_of_columns(sex="M").doubts[0].startswith("age: B3 ")


def test_censored_ages_are_bounds_only_where_they_were_put_together() -> None:
    assert labels_of_columns(age="92", sex="F").age == 92
    censored = labels_of_columns(age="92", sex="F", deidentified=True)
    assert censored.age is None
    assert censored.doubts[0].startswith("age: E8 ")
    assert labels_of_columns(age="88", sex="F", deidentified=True).age == 88


def test_ages_from_dates_are_completed_years() -> None:
    assert labels_of_columns(sex="M", birth="19300701", study="20140630").age == 83
    assert labels_of_columns(sex="M", birth="19300701", study="20140701").age == 84
    assert labels_of_columns(sex="M", birth="18300701", study="20140701").age is None  # D3
    assert labels_of_columns(sex="M", birth="20150701", study="20140701").age is None  # D1
    assert labels_of_columns(sex="M", birth="19000101", study="20140701").age is None  # C4
    assert (
        labels_of_columns(age="40", sex="M", birth="19300701", study="20140701").age is None
    )  # E2


@pytest.mark.parametrize(
    ("given", "sex"), [("M", "M"), ("f", "F"), ("Male", "M"), ("Unknown", ""), ("O", ""), ("", "")]
)
def test_sexes(given: str, sex: str) -> None:
    labels = labels_of_columns(age="40", sex=given)
    assert labels.sex == sex
    assert labels.age == 40
    assert bool(labels.doubts) == (sex == "")


def test_the_columns_are_those_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs/training.md").read_text()
    for column in COLUMNS:
        assert f"| `{column}` |" in documented


def test_command(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*expected a file Data_Entry_2017"):
        run_training("index", "nih", tmp_path)
    assert not (tmp_path / "index.csv").exists()
