import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import project

COLUMNS = ["path", "source", "patient_id", "age_years", "sex", "view", "finding", "split"]
COLUMNS += ["original_width", "original_height", "licence"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [
        ("a.png", "nih", "p1", "40", "F", "PA", "train"),
        ("00017999_000.png", "nih", "p2", "40", "F", "PA", "train"),
        ("b.png", "nih", "p3", "150", "M", "PA", "val"),
        ("c.png", "covid", "p4", "60", "M", "AP", "external_dev"),
        ("d.png", "covid", "p4", "60", "M", "AP", "aux"),
        ("e.png", "covid", "p5", "60", "M", "AP", "aux"),
        ("f.png", "covid", "", "", "", "LATERAL", "gate_lateral"),
    ]
    (tmp_path / "cxr").mkdir()
    (tmp_path / "nonchest").mkdir()
    with (tmp_path / "cxr/index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, source, patient, age, sex, view, split in rows:
            writer.writerow([name, source, patient, age, sex, view, "", split, "8", "8", "free"])
    (tmp_path / "cxr_more").mkdir()
    with (tmp_path / "cxr_more/index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "country", "age_min", "age_max"])
        for name, source, patient, view, split, country in (
            ("g.png", "nih_extra", "p6", "PA", "train", ""),
            ("h.png", "cxnet", "p7", "unknown", "train_other", "Spain"),
            ("i.png", "cxnet", "p8", "AP", "external_dev2", "Italy"),
            ("j.png", "cxnet", "p4", "AP", "external_dev", "Italy"),
        ):
            given = [name, source, patient, "70", "M", view, "", split, "8", "8", "free", country]
            writer.writerow([*given, "", ""])
        for patient in ("p9", "p10", "p11", "p12"):
            given = [f"{patient}.png", "kermany", patient, "", "", "AP", "", "children"]
            writer.writerow([*given, "8", "8", "free", "", "1", "5"])
    with (tmp_path / "nonchest/index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["path", "modality", "body_part", "source", "licence", "note"],
                ["nonchest/mednist_Hand/resized__Hand__000010.png", "DX", "HAND", "s", "free", ""],
                ["nonchest/mednist_CXR/resized__CXR__000010.png", "DX", "CHEST", "s", "free", ""],
            ]
        )
    return tmp_path


def test_roles_and_labels(root: Path) -> None:
    found = {Path(item.path).stem: item for item in project.items(root)}
    assert "00017999_000" not in found  # known to be inverted
    assert "d" not in found  # the patient is measured in external_dev
    assert found["a"].age == 40
    assert np.isnan(found["b"].age)
    assert found["c"].role == "external_dev"
    assert np.isnan(found["e"].age)  # trains the gates only
    assert found["f"].frontal == 0
    assert found["g"].role == "train"
    assert found["h"].role == "train_other"
    assert (found["h"].country, found["h"].age, found["h"].frontal) == ("Spain", 70, 1)
    assert found["i"].role == "external_dev2"
    assert "j" not in found  # another image of somebody who is in external_dev
    assert found["resized__Hand__000010"].chest == 0
    children = [found[name] for name in ("p9", "p10", "p11", "p12")]
    assert {child.role for child in children} == {"children", "children_test"}
    assert {(child.age_from, child.age_to) for child in children} == {(1, 5)}
    assert np.isnan([child.age for child in children]).all()
    assert found["resized__CXR__000010"].role == "gate_test"


def test_pixels_are_cached_as_the_contract_gives_them(root: Path, tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("a.png", "g.png"):
        Image.fromarray(ramp).save(root / name)
    first = project.load(root, tmp_path / "cache", 8, "train")
    (root / "a.png").unlink()
    again = project.load(root, tmp_path / "cache", 8, "train")
    pixels = np.asarray(first.pixels)
    assert pixels.shape == (2, 8, 8)
    assert (pixels.min(), pixels.max()) == (0, 65535)
    np.testing.assert_array_equal(pixels, np.asarray(again.pixels))


def test_what_tests_the_gates_has_no_twin_in_training(root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    control = "nonchest/mednist_CXR/resized__CXR__000010.png"
    trained = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).resize((96, 96))
    (root / control).parent.mkdir()
    for item in project.items(root):
        other = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).resize((96, 96))
        (root / item.path).parent.mkdir(exist_ok=True)
        (trained if item.path == "a.png" else other).save(root / item.path)
    here = project.ProjectData(root, tmp_path / "cache")
    assert control in {item.path for item in here.load(16, "gate_test").items}
    trained.resize((64, 64)).save(root / control)
    again = project.ProjectData(root, tmp_path / "anew").load(16, "gate_test")
    assert control not in {item.path for item in again.items}
    assert len(again) == len(again.pixels)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("knee/model__test__2Mild__MildG2_69.jpg", "knee/Test_samples__Mild__MildG2_69.jpg"),
        ("chest_ct/16630_1_1.jpg", "chest_ct/16630_2_1.jpg"),
        ("mednist_Hand/resized__Hand__000310.jpg", "mednist_Hand/resized__Hand__000340.jpg"),
    ],
)
def test_images_of_one_origin_stay_together(one: str, other: str) -> None:
    assert project.group_of(Path(one)) == project.group_of(Path(other))
