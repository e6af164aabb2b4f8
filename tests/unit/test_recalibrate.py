import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_ai_node.analyse.observe import observe
from dicom_ai_node.answers import ImageRef, Prediction
from dicom_ai_node.cli import app
from dicom_ai_node.cli.printing import print_output
from dicom_ai_node.cli.recalibrate import told
from dicom_ai_node.config import load_config
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.errors import ConfigError, RecalibrationError
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import HEADS
from dicom_ai_node.monitor.observation import Role
from dicom_ai_node.pipeline import File, Pipeline
from dicom_ai_node.pixels import load, read_header
from dicom_ai_node.pixels.normalise import normalise
from dicom_ai_node.recalibrate import pack
from dicom_ai_node.recalibrate.cases import read_studies, trust
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.store import Database
from tests.builders.observations import put

PEOPLE = 44
OLDER = 9  # years that the site's records lie above what the phantoms show
SECRET = "Sesame"


def write(folder: Path, name: str, image: np.ndarray, study: str, **values: Any) -> None:
    header: dict[str, Any] = {"PatientName": SECRET, "PatientID": f"{SECRET}{study}"} | values
    radiograph(image, study=study, **header).save_as(
        folder / f"{name}.dcm", enforce_file_format=True
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive whose ages are all recorded nine years too old, and what must not be used."""
    folder = tmp_path_factory.mktemp("site")
    rng = np.random.default_rng(0)
    for n in range(PEOPLE):
        age, sex = int(rng.integers(25, 75)), "FM"[n % 2]
        image = phantom.chest(age, sex, n, 256)
        recorded = {"PatientAge": f"{age + OLDER:03d}Y", "PatientSex": sex}
        write(folder, f"a{n}", image, f"s{n}", **recorded)
        if n < 2:  # another image of the study
            write(folder, f"b{n}", image, f"s{n}", number=2, **recorded)
    image = phantom.chest(50, "F", 99, 256)
    known = {"PatientAge": "050Y", "PatientSex": "F"}
    write(folder, "c0", image, "no-age", PatientSex="F")
    write(folder, "c1", image, "odd-sex", PatientAge="050Y", PatientSex="O")
    write(folder, "c2", image, "ninety", PatientAge="090Y", PatientSex="F",
          PatientIdentityRemoved="YES", DeidentificationMethod="basic")  # fmt: skip
    write(folder, "c3", phantom.hand(2, 256), "hand", **known)
    write(folder, "c4", np.zeros_like(image), "blank", **known)
    (folder / "notes.txt").write_text("not DICOM")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle, with a gate that p-values of few images can fall below."""
    copied = tmp_path_factory.mktemp("base") / "bundle"
    shutil.copytree(default_bundle(), copied)
    manifest = json.loads((copied / bundle.MANIFEST).read_text())
    manifest["in_distribution"] = 0.04
    (copied / bundle.MANIFEST).write_text(json.dumps(manifest))
    return copied


@pytest.fixture(scope="module")
def made(
    site: Path, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("made") / "ours"
    options = ["--from", str(site), "--out", str(out), "--at-least", "30", "--label", "site.1"]
    done = CliRunner().invoke(app, ["model", "recalibrate", str(base), *options, "--json"])
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    answer: dict[str, object] = json.loads(done.stdout)
    return out, answer


def test_every_file_is_counted_once(site: Path, made: tuple[Path, dict[str, object]]) -> None:
    files = made[1]["files"]
    assert isinstance(files, dict)
    assert sum(files.values()) == len(list(site.iterdir()))
    assert files["used"] == made[1]["images"] == made[1]["patients"]
    assert 30 <= files["used"] <= PEOPLE
    assert files["another_of_its_study"] == 2
    expected = ("unreadable", "age_missing", "sex_not_assessed", "age_censored", "blank")
    assert {name: files[name] for name in expected} == dict.fromkeys(expected, 1)
    assert files["not_a_chest"] >= 1


def test_the_bundle_is_whole_and_says_where_it_comes_from(
    made: tuple[Path, dict[str, object]],
) -> None:
    out, answer = made
    base, new = bundle.load_manifest(default_bundle()), bundle.verify(out)
    assert new.name == base.name
    assert new.version == f"{base.version}+site.1" == answer["version"]
    assert new.sha256 == answer["sha256"] != base.sha256
    assert new.onnx_sha256 == base.onnx_sha256 != ""
    assert Estimator(out, device="cpu").engine == "onnxruntime"
    assert new.recalibration is not None
    assert new.recalibration.base_sha256 == base.sha256
    assert new.calibration.quantity("age").widening == base.calibration.quantity("age").widening
    card = (out / bundle.CARD).read_text()
    assert card.startswith(f"# {new.name} {new.version}")
    assert base.sha256 in card
    everything = card + (out / bundle.MANIFEST).read_text()
    assert SECRET not in everything
    assert sorted(one.name for one in out.parent.iterdir()) == [out.name]


def test_the_table_shows_before_and_after(
    made: tuple[Path, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = bundle.load_manifest(made[0])
    assert manifest.recalibration is not None
    print_output(told(manifest, made[0]))
    shown = capsys.readouterr().out
    for covered in (*manifest.recalibration.before, *manifest.recalibration.after):
        assert f"{covered.coverage:.1%}" in shown
    assert f"used: {manifest.recalibration.images} files" in shown
    assert manifest.version in shown


def answers(path: Path) -> list[Prediction]:
    estimator = Estimator(path, device="cpu", batch=8)
    images = [phantom.chest(50, "FM"[s % 2], 500 + s, 256) for s in range(6)]
    return estimator.predict(np.stack([normalise(one, estimator.size) for one in images]))


def test_the_interval_moves_to_the_sites_ages(made: tuple[Path, dict[str, object]]) -> None:
    pairs = zip(answers(default_bundle()), answers(made[0]), strict=True)
    for old, new in pairs:
        after, before = new.quantity("age"), old.quantity("age")
        assert after.mu > before.mu + 2
        (low, high), (least, most) = after.interval90, before.interval90
        assert low < 50 + OLDER < high
        assert high - low < most - least
    found = bundle.load_manifest(made[0]).recalibration
    assert found is not None
    was, now = ({one.level: one for one in part} for part in (found.before, found.after))
    assert now["80"].width < 0.9 * was["80"].width  # it no longer pays for the six years
    assert now["80"].coverage == pytest.approx(0.8, abs=0.12)
    assert found.sex_log_loss is not None
    assert found.sex_log_loss[1] <= found.sex_log_loss[0] + 1e-3


def test_what_is_moved_is_told_with_its_gain(made: tuple[Path, dict[str, object]]) -> None:
    found = bundle.load_manifest(made[0]).recalibration
    assert found is not None
    age, sex = found.moved
    assert (age.head, age.packed, sex.head, sex.packed) == ("age", True, "sex", False)
    assert age.of_all.low > 0
    assert age.of_all.gain > 1  # 44 of 59 parts of the shift are taken
    assert age.of_all.bias_before == pytest.approx(-OLDER, abs=2)
    assert abs(age.of_all.bias_after) < abs(age.of_all.bias_before) / 2
    assert sum(gain.images for gain in age.by_age) == found.images
    assert made[1]["moved"] == [one.model_dump(mode="json") for one in found.moved]
    card = (made[0] / bundle.CARD).read_text()
    assert f"{age.of_all.gain:+.3f} ({age.of_all.low:+.3f} to {age.of_all.high:+.3f})" in card
    assert "Moved, and by how much: age." in card


def test_every_part_of_the_node_states_the_moved_estimate(
    made: tuple[Path, dict[str, object]], site: Path, tmp_path: Path
) -> None:
    """``infer`` of a file and what the monitor would keep of it, beside what the network says."""
    config = tmp_path / "node.toml"
    config.write_text(f'[model]\nbundle = "{made[0]}"\n')
    done = CliRunner().invoke(app, ["infer", str(site / "a0.dcm"), "-c", str(config), "--json"])
    assert done.exit_code == 0, done.output
    estimator = Estimator(made[0], device="cpu")
    (said,) = estimator.predict(load(site / "a0.dcm", size=estimator.size)[None])
    assert said.measured is not None
    network, sigma = said.measured.raw["age"]
    movement = estimator.manifest.calibration.quantity("age").movement
    assert movement is not None
    moved = network + movement.added(np.array([network]), np.array([sigma]))[0]
    assert said.quantity("age").mu == pytest.approx(moved)
    assert json.loads(done.stdout)["age"]["estimate"] == pytest.approx(moved, abs=0.06)


@pytest.mark.parametrize("options", [["--dry-run"], ["--out", "{out}", "--no-move"]])
def test_the_gain_is_told_before_and_without_moving(
    site: Path, base: Path, tmp_path: Path, options: list[str],
    made: tuple[Path, dict[str, object]],
) -> None:  # fmt: skip
    out = tmp_path / "ours"
    given = ["--from", str(site), "--at-least", "30", "--json"]
    given += [option.format(out=out) for option in options]
    done = CliRunner().invoke(app, ["model", "recalibrate", str(base), *given])
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    moved: Any = made[1]["moved"]
    assert [one["of_all"] for one in told["moved"]] == [one["of_all"] for one in moved]
    if "--dry-run" in options:
        assert (told["path"], told["sha256"]) == (None, None)
        assert told["moved"] == moved
        assert list(tmp_path.iterdir()) == []
    else:
        manifest = bundle.load_manifest(out)
        assert manifest.calibration.quantity("age").movement is None
        assert [one["packed"] for one in told["moved"]] == [False, False]


def test_a_recalibrated_bundle_is_recalibrated_from_the_network(
    made: tuple[Path, dict[str, object]], site: Path, tmp_path: Path
) -> None:
    """What is told is held against what it stated; nothing is moved twice."""
    out = tmp_path / "again"
    given = ["--from", str(site), "--at-least", "30", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, ["model", "recalibrate", str(made[0]), *given])
    assert done.exit_code == 0, done.output
    again, first = (bundle.load_manifest(one) for one in (out, made[0]))
    assert again.recalibration is not None
    (age, _) = again.recalibration.moved
    assert not age.packed
    assert abs(age.of_all.bias_before) < 2
    assert again.calibration.quantity("age").movement == (
        first.calibration.quantity("age").movement
    )


@pytest.fixture(scope="module")
def node(site: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a node that has observed the site's studies with the base bundle."""
    folder = tmp_path_factory.mktemp("node")
    config = folder / "node.toml"
    config.write_text(f'[model]\nbundle = "{base}"\n[policy]\nanalyse = "all"\n')
    (folder / "var").mkdir()
    settings = load_config(config)
    pipeline = Pipeline.of(settings, [base])
    studies: dict[str, list[File]] = {}
    for path in sorted(site.glob("*.dcm")):
        header = read_header(path)
        uids = (header.SOPClassUID, header.SOPInstanceUID, header.SeriesInstanceUID)
        studies.setdefault(header.StudyInstanceUID, []).append((ImageRef(*uids), path))
    today = datetime.now(UTC).date()
    ready = [
        pipeline.prepare(uid, files, priors=lambda _: (), today=today)
        for uid, files in studies.items()
    ]
    pipeline.predict(ready)
    seen = [observed for one in ready for observed in observe(one, pipeline, Role.LIVE)]
    db = Database(settings.storage.database)
    db.upgrade()
    put(db, [replace(one, received_at=time.time() - 60) for one in seen])
    return config


def test_the_monitor_knows_enough_for_the_same_bundle(
    node: Path, base: Path, made: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    """No image is read: the archive's files could be gone."""
    out = tmp_path / "ours"
    given = ["--from-monitor", "-c", str(node), "--out", str(out), "--at-least", "30", "--json"]
    done = CliRunner().invoke(app, ["model", "recalibrate", str(base), *given])
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    files: Any = made[1]["files"]
    assert told["observed"] is True
    assert told["images"] == made[1]["images"]
    assert told["files"]["used"] == files["used"]
    assert told["files"]["age_not_trusted"] == 2  # none, and one of 90 or over
    assert told["files"]["sex_not_trusted"] == 1
    assert told["files"]["not_measured"] >= 2  # a gate or the decoder kept them out
    moved: Any = made[1]["moved"]
    for one, other in zip(told["moved"], moved, strict=True):  # folds go by the patients' hashes
        assert one["packed"] == other["packed"]
        for name in ("images", "before", "bias_before"):
            assert one["of_all"][name] == pytest.approx(other["of_all"][name], abs=0.01)
    ours, theirs = (Estimator(one, device="cpu") for one in (out, made[0]))
    for name in ("content", "texture"):
        known = [getattr(one.reference, name) for one in (ours, theirs)]
        assert known[0] == pytest.approx(known[1], rel=1e-3)
    for old, new in zip(answers(made[0]), answers(out), strict=True):
        assert new.quantity("age").mu == pytest.approx(old.quantity("age").mu, abs=0.05)
        assert new.quantity("age").interval90 == pytest.approx(
            old.quantity("age").interval90, abs=0.3
        )


def test_what_the_monitor_would_gain_is_told_and_how_many_studies_are_wanting(
    node: Path, base: Path
) -> None:
    options = ["--from-monitor", "-c", str(node), "--dry-run"]
    given = ["model", "recalibrate", str(base), *options, "--at-least", "30"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    for words in ("nothing is written", "age: moved: the interval of its gain holds no loss"):
        assert words in done.output
    done = CliRunner().invoke(app, ["model", "recalibrate", "chest-age-sex", *options])
    assert isinstance(done.exception, RecalibrationError)
    assert "studies not used" in str(done.exception)


def test_too_few_images_make_no_bundle_and_say_why(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours"
    (tmp_path / "index.csv").write_text(
        "path,note\n" + "".join(f"{site / name}.dcm,x\n" for name in ("a0", "a1", "c0", "gone"))
    )
    options = ["--index", str(tmp_path / "index.csv"), "--out", str(out)]
    done = CliRunner().invoke(app, ["model", "recalibrate", *options])
    assert isinstance(done.exception, RecalibrationError)
    text = str(done.exception)
    assert "at least 200 usable images, found 2 in 4 files" in text
    assert "age_missing 1" in text
    assert "unreadable 1" in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --from or --index"),
        (["--from", "{tmp}", "--from-monitor"], "or else --from-monitor"),
        (["--from", "{tmp}", "--dry-run"], "either --out or --dry-run"),
        (["--from", "{tmp}", "--index", "{tmp}/x.csv"], "either --from or --index"),
        (["--from", "{tmp}/gone"], "expected a file or a folder"),
        (["--index", "{tmp}/gone.csv"], "expected a readable CSV"),
        (["--index", "{tmp}/x.csv"], "expected a column 'path'"),
        (["--from", "{tmp}", "--label", "Site 1"], "label 'Site 1'"),
        (["--from", "{tmp}", "--out", "{tmp}"], "does not exist or is empty"),
    ],
)
def test_a_wrong_command_line_is_explained(
    tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "x.csv").write_text("file\na.dcm\n")
    given = ["model", "recalibrate", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, given + [one.format(tmp=tmp_path) for one in options])
    assert isinstance(done.exception, ConfigError | RecalibrationError)
    assert message in str(done.exception)


def test_so_few_that_the_gate_would_let_everything_pass(site: Path, tmp_path: Path) -> None:
    options = ["--from", str(site / "a0.dcm"), "--out", str(tmp_path / "x"), "--at-least", "20"]
    done = CliRunner().invoke(app, ["model", "recalibrate", *options])
    assert "at least 200 usable images" in str(done.exception)
    assert [pack.fewest(threshold) for threshold in (0.0, 0.01, 0.5)] == [1, 100, 2]


def nobody(_: str, __: int) -> Callable[[], None]:
    return lambda: None


def test_a_header_is_held_against_the_patients_other_studies(tmp_path: Path) -> None:
    image = np.zeros((8, 8), np.uint16)
    for study, sex in (("one", "F"), ("two", "F"), ("three", "M")):
        write(tmp_path, study, image, study, PatientID="same", PatientAge="050Y", PatientSex=sex)
    write(tmp_path, "other", image, "four", PatientAge="050Y", PatientSex="M")
    files: Counter[str] = Counter()
    studies = read_studies(sorted(tmp_path.iterdir()), files, nobody)
    again = read_studies(sorted(tmp_path.iterdir(), reverse=True), files, nobody)
    assert [study.uid for study in again] == [study.uid for study in studies]
    today = date(2026, 6, 1)
    alone = RulesSettings(disabled=("G1",))
    unlinked = trust(studies, HEADS, alone, today=today, files=Counter())
    assert (len(unlinked), len({one.patient for one in unlinked})) == (4, 2)
    trusted = trust(studies, HEADS, RulesSettings(), today=today, files=files)
    assert [path.stem for one in trusted for _, path in one.study.files] == ["other"]
    assert files == {"sex_conflict_header": 3}


def _without_unit(path: Path) -> bool:
    return TextHeader.from_dataset(read_header(path)).clean("PatientAge").isdigit()


def test_ages_without_a_unit_calibrate_too(shared_data: Path) -> None:
    """Of the challenge's own files, which state '64' and no birth date."""
    folder = shared_data / "dicom" / "chest"
    paths = sorted(path for path in folder.glob("*.dcm") if _without_unit(path))
    files: Counter[str] = Counter()
    studies = read_studies(paths, files, lambda *_: lambda: None)
    found = trust(studies, HEADS, RulesSettings(), today=date(2026, 11, 1), files=files)
    assert len(paths) > 50
    assert sum(len(one.study.files) for one in found) == len(paths), files
    assert all(one.truth["age"] == int(one.study.headers[0].clean("PatientAge")) for one in found)
