"""A further head goes all the way from its manifest to the report: nothing in the package knows it.

The bundle is made here, of random weights: a view and marks beside age and sex.
"""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmwrite

from dicom_ai_node.analyse.files import analyse_files
from dicom_ai_node.answers import Category, LabelProbabilities, Reason
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.decide.images import pool
from dicom_ai_node.decide.stored import result_from_json, result_to_json
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.demo.validators import dciodvfy
from dicom_ai_node.errors import BundleError, InvalidReport
from dicom_ai_node.inference import bundle, fitting
from dicom_ai_node.inference.calibration import FindingsCalibration
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import GATES, HEADS, CategoryHead, FindingsHead, Gate, Head
from dicom_ai_node.inference.intervals import Widening
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.saliency import explain
from dicom_ai_node.inference.torch_engine import run
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from tests.builders.answers import with_part
from tests.builders.bundles import SIZE, invented_bundle
from tests.builders.reports import Sample, estimated

VIEW = CategoryHead(name="view", output=104, values=("AP", "LL", "PA"), attribute="ViewPosition")
MARKS = FindingsHead(name="marks", output=107, labels=("tube", "wire"))
UPRIGHT = Gate(name="upright", output=109, threshold=0.0, code="not_upright", text="lies")
ROWS: tuple[Head, ...] = (*HEADS, VIEW, MARKS)


@pytest.fixture(scope="module")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of four heads and three gates that lets everything pass."""
    shipped = json.loads((default_bundle() / bundle.MANIFEST).read_text())
    return invented_bundle(
        tmp_path_factory.mktemp("bundles") / "invented",
        ROWS,
        gates=(*GATES, UPRIGHT),
        seed=5,
        calibration=shipped["calibration"]
        | {"view": {"temperature": 2.0}, "marks": {"temperatures": {"tube": 1.0, "wire": 2.0}}},
    )


@pytest.fixture(scope="module")
def estimator(invented: Path) -> Estimator:
    return Estimator(invented, device="cpu")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).random((3, SIZE, SIZE), dtype=np.float32)


def test_each_head_answers_by_its_kind(estimator: Estimator, images: np.ndarray) -> None:
    for one in estimator.predict(images):
        assert list(one.answers) == ["age", "sex", "view", "marks"]
        assert list(one.gates) == ["chest", "frontal", "upright"]
        view, marks = one.answers["view"], one.answers["marks"]
        assert isinstance(view, Category)
        assert isinstance(marks, LabelProbabilities)
        assert view.attribute == "ViewPosition"
        assert sum(view.probabilities.values()) == pytest.approx(1.0)
        assert view.value in VIEW.values
        assert all(0 < share < 1 for share in marks.probabilities.values())


def test_several_images_make_one_answer(estimator: Estimator, images: np.ndarray) -> None:
    predictions = estimator.predict(images)
    pooled = pool(predictions)
    again = pool(predictions[::-1])
    for name, of in (("view", VIEW.values), ("marks", MARKS.labels)):
        one, other = pooled[name], again[name]
        assert isinstance(one, Category | LabelProbabilities)
        assert isinstance(other, Category | LabelProbabilities)
        for value in of:
            answered = [p.answers[name] for p in predictions]
            shares = [
                a.probabilities[value]
                for a in answered
                if isinstance(a, Category | LabelProbabilities)
            ]
            assert len(shares) == len(predictions)
            assert one.probabilities[value] == pytest.approx(other.probabilities[value])
            assert min(shares) - 0.05 <= one.probabilities[value] <= max(shares) + 0.05


def test_a_further_head_is_calibrated_too(estimator: Estimator) -> None:
    """Logits that are three times too sure are cooled by three."""
    rng = np.random.default_rng(6)
    count = 3000
    true = rng.normal(0, 1.5, (count, 3))
    drawn = np.array([rng.choice(3, p=p) for p in np.exp(true) / np.exp(true).sum(1)[:, None]])
    marks = rng.normal(0, 1.5, (count, 2))
    held = rng.random((count, 2)) < 1 / (1 + np.exp(-marks))
    far = np.ones(count)
    cases = fitting.Cases(
        (VIEW, MARKS),
        {"view": 3 * true, "marks": marks * [1, 2]},
        {"view": drawn.astype(np.float64), "marks": held.astype(np.float64)},
        far,
        far,
        np.arange(count).astype(np.str_),
    )
    found = fitting.fit(cases, {"view": Widening(), "marks": Widening()})
    assert found.category("view").temperature == pytest.approx(3.0, rel=0.15)
    temperatures = found.findings("marks").temperatures
    assert temperatures["tube"] == pytest.approx(1.0, rel=0.15)
    assert temperatures["wire"] == pytest.approx(2.0, rel=0.15)


def test_labels_that_are_rarer_than_was_learnt_are_taken_back() -> None:
    """A network that learnt from one in two says too much where one in twelve has the mark."""
    rng = np.random.default_rng(7)
    count = 6000
    true = rng.normal(-3.0, 1.5, (count, 2))
    held = (rng.random((count, 2)) < 1 / (1 + np.exp(-true))).astype(np.float64)
    held[::2, 1] = np.nan  # unknown of half of the images
    said = (true + 3.0) * 2
    far = np.ones(count)
    names = np.arange(count).astype(np.str_)
    cases = fitting.Cases((MARKS,), {"marks": said}, {"marks": held}, far, far, names)
    found = fitting.findings(cases, MARKS, Widening())
    for label in MARKS.labels:
        assert found.temperatures[label] == pytest.approx(2.0, rel=0.2)
        assert found.biases[label] == pytest.approx(-3.0, abs=0.35)
    shares = found.probabilities(said, np.zeros(count)).mean(axis=0)
    assert shares == pytest.approx(np.nanmean(held, axis=0), abs=0.01)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_label_that_is_never_or_always_seen_is_not_held_for_certain(share: float) -> None:
    temperature, bias = fitting.platt(np.linspace(-2, 2, 50), np.full(50, share))
    answers = 1 / (1 + np.exp(-(np.linspace(-2, 2, 50) / temperature + bias)))
    assert answers.mean() == pytest.approx(51 / 52 if share else 1 / 52, abs=1e-3)


def test_a_label_of_which_nothing_is_known_stays_as_it_is() -> None:
    assert fitting.platt(np.array([1.0, 2.0]), np.array([np.nan, np.nan])) == (1.0, 0.0)


def test_a_calibration_without_biases_is_as_it_was_before() -> None:
    plain = FindingsCalibration(temperatures={"tube": 2.0, "wire": 1.0})
    assert "biases" not in plain.model_dump()
    logits = np.array([[1.0, -1.0]])
    expected = 1 / (1 + np.exp(-logits / [2.0, 1.0]))
    assert plain.probabilities(logits, np.zeros(1)) == pytest.approx(expected)


def test_a_map_shows_what_a_further_head_rests_on(estimator: Estimator, images: np.ndarray) -> None:
    found = explain(estimator.network, images[0])
    assert [(one.head, one.kind) for one in found.values()] == [
        ("age", "quantity"), ("sex", "category"), ("view", "category"), ("marks", "findings"),
    ]  # fmt: skip


def test_a_map_shows_the_label_that_is_asked_for(estimator: Estimator, images: np.ndarray) -> None:
    maps = {
        label: explain(estimator.network, images[0], heads=["marks"], labels={"marks": label})
        for label in MARKS.labels
    }
    tube, wire = (maps[label]["marks"].values for label in MARKS.labels)
    assert not np.array_equal(tube, wire)
    raw = run(estimator.network, images[:1])["marks"][0]
    (largest,) = explain(estimator.network, images[0], heads=["marks"]).values()
    assert np.array_equal(largest.values, (tube, wire)[int(raw.argmax())])


@pytest.mark.parametrize(("head", "label"), [("marks", "clip"), ("view", "AP")])
def test_a_map_of_an_unknown_label_is_refused(
    estimator: Estimator, images: np.ndarray, head: str, label: str
) -> None:
    with pytest.raises(ValueError, match=f"{head}: '{label}'"):
        explain(estimator.network, images[0], labels={head: label})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view": {"temperatures": {"AP": 1.0}}}, "calibration of"),
        ({"marks": {"temperatures": {"tube": 1.0}}}, "temperatures of"),
        (
            {"marks": {"temperatures": {"tube": 1.0, "wire": 1.0}, "biases": {"clip": 1.0}}},
            "biases of",
        ),
    ],
)
def test_a_calibration_of_another_head_is_refused(
    invented: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    manifest = json.loads((invented / bundle.MANIFEST).read_text())
    manifest["calibration"] |= change
    (tmp_path / bundle.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        bundle.load_manifest(tmp_path)


def test_the_raw_answers_of_the_shipped_rows_do_not_move(images: np.ndarray) -> None:
    """The same weights under rows in another order give the same answers."""
    torch.manual_seed(1)
    network = Network("resnet18").eval()
    other = Network("resnet18", rows=(*GATES, *HEADS[::-1])).eval()
    other.load_state_dict(network.state_dict())
    one, same = run(network, images), run(other, images)
    for name in ("age", "sex", "frontal", "chest"):
        np.testing.assert_array_equal(one[name], same[name])


def studied(estimator: Estimator, images: np.ndarray) -> Sample:
    """A study whose image has these answers."""
    (prediction, *_) = estimator.predict(images)
    sample = estimated(1)
    (image,) = sample.result.images
    result = with_part(
        sample.result,
        images=(replace(image, prediction=prediction),),
        answers={**pool([prediction]), "sex": Reason("sex_uncertain", "hardly more than a coin")},
    )
    return Sample(result, sample.sources)


def test_a_result_is_stored_and_read_back(estimator: Estimator, images: np.ndarray) -> None:
    result = studied(estimator, images).result
    stored = json.loads(json.dumps(result_to_json(result)))
    assert stored["view"]["attribute"] == "ViewPosition"
    assert stored["marks"]["kind"] == "findings"
    assert stored["sex"] is None
    assert result_from_json(stored) == result


def test_the_report_has_a_further_answer_and_passes_its_check(
    estimator: Estimator, images: np.ndarray, tmp_path: Path
) -> None:
    sample = studied(estimator, images)
    sr, sc = build_reports(
        sample.result,
        sample.sources,
        settings=ReportSettings(secondary_capture=True),
        rules_version="1",
        digest="0" * 64,
        created=datetime(2026, 6, 1, tzinfo=UTC),
    )
    for file in (*sr.files, *sc.files):
        check_report(file.content, sources=sample.sources, result=sample.result)
    text = sr.files[0].content
    view = sample.result.parts[0].answers["view"]
    assert isinstance(view, Category)
    for words in ("View", "Marks", view.value):
        assert words.encode() in text
    if shutil.which("dciodvfy"):
        path = tmp_path / "report.dcm"
        path.write_bytes(text)
        assert dciodvfy(path) == []
    more = {**sample.result.parts[0].answers, "dose": Reason("x", "y")}
    other = with_part(sample.result, answers=more)
    with pytest.raises(InvalidReport, match="dose is neither stated nor is said why"):
        check_report(text, sources=sample.sources, result=other)


def test_infer_prints_a_further_answer(invented: Path, tmp_path: Path) -> None:
    file = tmp_path / "chest.dcm"
    pixels = np.random.default_rng(1).integers(0, 4000, (200, 200), dtype=np.uint16)
    dcmwrite(file, radiograph(pixels, study="s"), enforce_file_format=True)
    config: Config = parse_config(
        {"model": {"bundle": str(invented)}, "policy": {"max_age_interval": 200}}
    )
    reports = tmp_path / "reports"
    (answer,) = analyse_files([file, tmp_path / "chest.dcm"][:1], config, reports=reports)
    assert answer.fault == ""
    document = answer.document
    assert list(document)[6:10] == ["age", "sex", "view", "marks"]
    assert document["view"]["estimate"] in VIEW.values
    assert set(document["marks"]["probabilities"]) == {"tube", "wire"}
    assert list(document["gate"]) == ["chest", "frontal", "upright", "in_distribution"]
    assert len(list(reports.iterdir())) == 1


def test_a_bundle_sees_what_it_accepts(invented: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    manifest = json.loads((invented / bundle.MANIFEST).read_text())
    manifest["accepts"]["modalities"] = ["MG"]
    (other / bundle.MANIFEST).write_text(json.dumps(manifest))
    (other / bundle.WEIGHTS).symlink_to(invented / bundle.WEIGHTS)
    file = tmp_path / "chest.dcm"
    pixels = np.random.default_rng(1).integers(0, 4000, (200, 200), dtype=np.uint16)
    for modality, refused in (("DX", True), ("MG", False)):
        image = radiograph(pixels, study="s", Modality=modality)
        dcmwrite(file, image, enforce_file_format=True)
        config = parse_config({"model": {"bundle": str(other)}})
        (answer,) = analyse_files([file], config)
        assert (answer.document["outcome"] == "refused") == refused
