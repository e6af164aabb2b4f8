"""``infer --saliency``: pictures beside the answers, from the command line."""

import json
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.inference import saliency
from dicom_ai_node.inference.saliency import explain
from dicom_ai_node.report.capture import BAND, PANEL
from dicom_ai_node.terminal import console

ALL_PASS = """
[policy]
min_chest = 0.0
min_frontal = 0.0
min_in_distribution = 0.0
max_age_interval = 200.0
min_sex_certainty = 0.5
"""
NONE_PASSES = "[policy]\nmin_in_distribution = 1.0\n"


def infer(folder: Path, policy: str, *options: str) -> list[dict[str, Any]]:
    """Run the command over the DICOM files of ``folder``; return its lines."""
    config = folder / "node.toml"
    config.write_text(policy)
    files = [str(path) for path in sorted(folder.glob("*.dcm"))]
    arguments = ["infer", *files, "-c", str(config), "--json", *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def chest(tmp_path: Path) -> Dataset:
    return write(tmp_path, phantom.chest(62, "F", 3, 256), study="infer", PatientName="Doe^Jane")


def write(folder: Path, pixels: Any, *, study: str, **values: Any) -> Dataset:
    dataset = radiograph(pixels, study=study, **values)
    dcmwrite(folder / f"{study}.dcm", dataset, enforce_file_format=True)
    return dataset


def test_a_picture_of_each_head_named_by_the_image(tmp_path: Path, chest: Dataset) -> None:
    maps = tmp_path / "maps"
    (line,) = infer(tmp_path, ALL_PASS, "--saliency", str(maps))
    expected = [maps / f"{chest.SOPInstanceUID}-{head}.png" for head in ("age", "sex")]
    assert line["saliency"] == [str(path) for path in expected]
    assert sorted(maps.iterdir()) == sorted(expected)
    age, sex = pictures = [np.asarray(Image.open(path)) for path in expected]
    assert all(one.shape == (PANEL + BAND, PANEL, 3) for one in pictures)
    assert not np.array_equal(age, sex)
    for path in expected:
        assert b"Doe" not in path.read_bytes()
        with Image.open(path) as opened:
            assert not opened.info


def test_people_are_told_which_picture_is_of_which_file(tmp_path: Path, chest: Dataset) -> None:
    (tmp_path / "node.toml").write_text(ALL_PASS)
    file, maps = tmp_path / "infer.dcm", tmp_path / "maps"
    arguments = ["infer", str(file), "-c", str(tmp_path / "node.toml"), "--saliency", str(maps)]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    uid = chest.SOPInstanceUID
    assert f"  {file}: {uid}-age.png {uid}-sex.png\n" in told
    assert "--saliency-method score-cam shows that better" in " ".join(told.split())
    told = CliRunner().invoke(app, [*arguments, "--saliency-head", "age"]).stdout
    assert "shows that better" not in told


def test_pictures_go_into_a_folder(tmp_path: Path, chest: Dataset) -> None:
    file = tmp_path / "infer.dcm"
    done = CliRunner().invoke(app, ["infer", str(file), "--saliency", str(file)])
    assert done.exit_code == 2
    assert "--saliency" in done.output
    assert "is a file" in " ".join(done.output.replace("│", " ").split())


def test_one_head_by_the_other_method(
    tmp_path: Path, chest: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saliency, "explain", partial(explain, channels=8))
    maps = tmp_path / "maps"
    options = ("--saliency", str(maps), "--saliency-method", "score-cam", "--saliency-head", "sex")
    (line,) = infer(tmp_path, ALL_PASS, *options)
    assert line["saliency"] == [str(maps / f"{chest.SOPInstanceUID}-sex.png")]
    assert [path.name for path in maps.iterdir()] == [f"{chest.SOPInstanceUID}-sex.png"]


def test_none_is_written_unless_asked_for(tmp_path: Path, chest: Dataset) -> None:
    (line,) = infer(tmp_path, ALL_PASS)
    assert line["outcome"] == "estimated"
    assert line["saliency"] == []


def test_what_is_not_answered_has_no_picture_but_a_reason(tmp_path: Path, chest: Dataset) -> None:
    write(tmp_path, np.zeros((64, 64), np.uint16), study="blank")
    maps = tmp_path / "maps"
    lines = infer(tmp_path, NONE_PASSES, "--saliency", str(maps))
    assert {line["outcome"] for line in lines} <= {"refused", "abstained"}
    assert all(line["reason"]["text"] for line in lines)
    assert [line["saliency"] for line in lines] == [[], []]
    assert not maps.exists()


def test_an_estimate_that_is_not_stated_is_not_explained(tmp_path: Path) -> None:
    write(tmp_path, phantom.chest(62, "F", 1, 256), study="other", PatientSex="O")
    (line,) = infer(tmp_path, ALL_PASS, "--saliency", str(tmp_path / "maps"))
    assert line["sex"] is None
    assert [Path(path).name.rpartition("-")[2] for path in line["saliency"]] == ["age.png"]


def test_a_uid_that_is_none_leads_nowhere_else(tmp_path: Path) -> None:
    dataset = radiograph(phantom.chest(62, "F", 1, 256), study="dirty")
    dcmwrite(tmp_path / "dirty.dcm", dataset, enforce_file_format=True)
    content = (tmp_path / "dirty.dcm").read_bytes()
    uid = str(dataset.SOPInstanceUID).encode()
    dirty = b"../../escaped".ljust(len(uid), b"\0")
    (tmp_path / "dirty.dcm").write_bytes(content.replace(uid, dirty))
    maps = tmp_path / "some" / "maps"
    (line,) = infer(tmp_path, ALL_PASS, "--saliency", str(maps), "--saliency-head", "age")
    (path,) = map(Path, line["saliency"])
    assert path.parent == maps
    assert path.name.startswith("2.25.")
    assert list(tmp_path.rglob("*.png")) == [path]


def test_reports_on_files_come_with_the_capture_that_is_configured(
    tmp_path: Path, chest: Dataset
) -> None:
    policy = f'{ALL_PASS}\n[report]\nsaliency = "grad-cam"\n'
    reports = tmp_path / "made" / "reports"
    old = os.umask(0o000)  # not even then
    try:
        maps = tmp_path / "made" / "maps"
        infer(tmp_path, policy, "--sr", str(reports), "--saliency", str(maps))
    finally:
        os.umask(old)
    written = list((tmp_path / "made").rglob("*"))
    assert {stat.S_IMODE(one.stat().st_mode) for one in written if one.is_file()} == {0o600}
    assert {stat.S_IMODE(one.stat().st_mode) for one in written if one.is_dir()} == {0o700}
    modalities = [dcmread(path).Modality for path in reports.iterdir()]
    assert sorted(modalities) == ["OT", "SR"]


NARROWEST_ONLY = ALL_PASS.replace("max_age_interval = 200.0", "max_age_interval = 0.5")


def test_half_an_answer_says_why_the_other_half_is_missing(
    tmp_path: Path, chest: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 200)
    (line,) = infer(tmp_path, NARROWEST_ONLY)
    assert (line["outcome"], line["reason"], line["age"]) == ("estimated", None, None)
    (why,) = line["unanswered"]
    assert (why["attribute"], why["code"]) == ("age", "age_interval_too_wide")
    assert "wider than 0.5 years" in why["text"]
    arguments = ["infer", str(tmp_path / "infer.dcm"), "-c", str(tmp_path / "node.toml")]
    table = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert "the 90 % interval of the age" in " ".join(table.split())


def test_a_file_that_is_not_answered_says_why_of_both(tmp_path: Path, chest: Dataset) -> None:
    (line,) = infer(tmp_path, NONE_PASSES)
    assert [one["code"] for one in line["unanswered"]] == [line["reason"]["code"]] * 2
    assert [one["attribute"] for one in line["unanswered"]] == ["age", "sex"]
