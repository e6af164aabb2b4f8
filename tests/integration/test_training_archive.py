"""From folders of images to a bundle with its card, by the commands that docs/training.md names."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from tests.builders.layouts import dicom, picture, table
from tests.builders.training import run_training as run
from tests.unit.test_training_readers import NIH
from training.data.folds import read_folds, read_predictions
from training.fit import calibrate
from training.fit import config as settings
from training.measure.table import read_csv

SIDE = 64
pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = """
architecture = "mobilenet_v2"
start = "{start}"
out = "runs/site"
steps = 20
batch = 4
pixels = {side}
sides = [{side}]
until = [1.0]
low_resolution = [0.25]

[archive]
index = ["nih/index.csv", "site.csv"]
folds = "folds.csv"
hold_out = 1
others = "knees/index.csv"
duplicates = "duplicates.json"

[archive.external]
spr = "away/index.csv"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NIH's layout, a folder of DICOM files with laterals and junk, knees, and another hospital."""
    rng = np.random.default_rng(0)
    for folder, patients, first in (("nih", 24, 0), ("away", 10, 100)):
        lines = []
        for patient in range(patients):
            for image in range(1 + patient % 2):
                name = f"{patient:08d}_{image:03d}.png"
                seed = 10 * (first + patient) + image
                picture(tmp_path / folder / "images_001/images" / name, seed, side=72)
                age, sex = rng.integers(20, 80), "FM"[patient % 2]
                lines.append([name, "No Finding", image, first + patient, age, sex, "PA", 9, 9])
        table(tmp_path / folder / "Data_Entry_2017.csv", NIH, *lines)
    # A patient of the run's own, and a copy of one of its images under another name.
    (tmp_path / "away/images_001/images/00000000_000.png").write_bytes(
        (tmp_path / "nih/images_001/images/00000004_000.png").read_bytes()
    )
    for patient in range(16):
        for view in ("AP", "LL") if patient % 3 == 0 else ("PA",):
            dicom(
                tmp_path / f"scans/{patient}/{view}.dcm",
                seed=5000 + 10 * patient + len(view) + (view == "LL"),
                side=72,
                PatientID=f"p{patient}",
                PatientAge=f"{rng.integers(20, 80):03d}Y",
                PatientSex="FM"[patient % 2],
                ViewPosition=view,
            )
    spoilt = tmp_path / "scans/1/PA.dcm"
    spoilt.write_bytes(spoilt.read_bytes()[:-200])
    for number in range(9):
        picture(tmp_path / f"knees/{number}.png", 9000 + number, side=72)
    start = default_bundle() / bundle.WEIGHTS
    (tmp_path / "site.toml").write_text(CONFIG.format(start=start, side=SIDE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibrate, "CHANGED_COPIES", 1)
    return tmp_path


def test_an_archive_becomes_a_bundle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("index", "nih", "nih")
    run("index", "nih", "away")
    run("index", "dicom", "scans", "--out", "site.csv")
    run("index", "pictures", "knees")
    run("duplicates", "nih/index.csv", "site.csv", "away/index.csv", "--out", "duplicates.json")
    own = ["nih/index.csv", "site.csv"]
    run("folds", *own, "--duplicates", "duplicates.json", "--out", "folds.csv", "--folds", 2)
    capsys.readouterr()
    run("cross", "--config", "site.toml")
    printed = capsys.readouterr()
    assert "site.csv: 1 of 22 images left out" in printed.err
    assert "all " in printed.out
    said = {one.image: one for one in read_predictions(here / "runs/site/out-of-fold.csv")}
    fold_of = read_folds(here / "folds.csv")
    assert len(said) == 36 + 15  # 36 of nih; of 16 patients in DICOM one cannot be read
    assert all(one.fold == fold_of[image] for image, one in said.items())
    assert {one.fold for one in said.values()} == {0, 1}
    assert "scans/0/AP.dcm" in said
    assert not {"scans/0/LL.dcm", "scans/1/PA.dcm"} & said.keys()
    before = (here / "runs/site/fold-1/ema.safetensors").read_bytes()
    run("train", "--config", "site.toml", "--fold", 1)  # is trained already
    assert (here / "runs/site/fold-1/ema.safetensors").read_bytes() == before

    run("build_bundle", "--config", "site.toml", "--bundle", "models/site", "--version", "1.0")
    manifest = bundle.verify(here / "models/site")
    about = manifest.training
    trained = [image for image in said if fold_of[image] == 0]
    assert about.images == len(trained)
    assert {source.name for source in about.sources} == {"nih", "dicom", "knees"}
    assert "Fold 1 of 2 was held out" in about.summary
    assert "NIH Clinical Center" in next(s.licence for s in about.sources if s.name == "nih")
    assert 20 <= about.age_range[0] < about.age_range[1] < 80
    shipped = load_file(default_bundle() / bundle.WEIGHTS)
    assert not np.array_equal(
        load_file(here / "models/site" / bundle.WEIGHTS)["network.head.weight"],
        shipped["network.head.weight"],
    )

    arguments = ["--bundle", "models/site", "--config", "site.toml", "--out", "report", "--write"]
    with pytest.raises(SystemExit, match=r"images_sha256: expected .*--fold names"):
        run("evaluate", *arguments, "--fold", 0)
    run("evaluate", *arguments)
    measured_ones = read_csv(here / "report/predictions.csv")
    inside, away = measured_ones.of("held_out"), measured_ones.of("spr")
    assert set(inside.image) == {image for image in said if fold_of[image] == 1}
    # 15 images; the twin of one of the run's own is left out
    assert len(away) == 14
    assert "away/images_001/images/00000000_000.png" not in away.image
    figures = bundle.verify(here / "models/site").figures
    assert {"held_out", "spr", "gates"} <= {figure.dataset for figure in figures}
    card = (here / "models/site/CARD.md").read_text()
    assert "### External: `spr`" in card
    assert "external_dev" not in card + (here / "report/report.md").read_text()
    assert json.loads((here / "report/report.json").read_text())["marks"] == []
    held = settings.data_of(settings.read(here / "site.toml"), here).load(SIDE, "held_out")
    assert len(Estimator(here / "models/site").predict(next(held.floats()))) == len(inside)

    # Dealt anew, the folds hold out what these networks have seen.
    lines = [line.rsplit(",", 1) for line in (here / "folds.csv").read_text().splitlines()[1:]]
    swapped = "".join(f"{image},{1 - int(fold)}\n" for image, fold in lines)
    (here / "folds.csv").write_text("image,fold\n" + swapped)
    for command, more in (
        ("cross", ()),
        ("train", ()),
        ("build_bundle", ("--bundle", "models/again", "--version", "1.1")),
        ("evaluate", arguments[:2] + arguments[4:]),
    ):
        with pytest.raises(SystemExit, match=r"(fold-.*last\.pt: images|images_sha256): expected"):
            run(command, "--config", "site.toml", *more)


def test_folds_that_part_a_patient_are_refused(here: Path) -> None:
    run("index", "nih", "nih")
    run("folds", "nih/index.csv", "--out", "folds.csv", "--folds", 2)
    text = CONFIG.split("others")[0].replace(', "site.csv"', "")
    (here / "site.toml").write_text(text.format(start="random", side=SIDE))
    lines = (here / "folds.csv").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "00000001_001" in line)
    image, fold = lines[at].split(",")
    (here / "folds.csv").write_text(
        "\n".join([*lines[:at], f"{image},{1 - int(fold)}", *lines[at + 1 :]])
    )
    with pytest.raises(SystemExit, match=r"folds\.csv: expected .* in one fold: they show one pa"):
        run("train", "--config", "site.toml")
    (here / "folds.csv").write_text("\n".join([*lines[:at], *lines[at + 1 :]]))
    with pytest.raises(SystemExit, match=r"folds\.csv: expected a fold for nih/.*00000001_001"):
        run("train", "--config", "site.toml")
    (here / "folds.csv").write_text("\n".join(lines))
    with pytest.raises(SystemExit, match=r"held out to be one of 0, 1, got 7"):
        run("train", "--config", "site.toml", "--fold", 7)
    (here / "folds.csv").unlink()
    with pytest.raises(SystemExit, match=r"folds\.csv: expected a readable file"):
        run("train", "--config", "site.toml")
