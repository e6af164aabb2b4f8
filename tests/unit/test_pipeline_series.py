"""Routes to CT and MR: a sample of a series, a series as one input, parts of the body as a span.

The bundles are of random weights (tests/builders/bundles.py): what is asked here is which images
they see, not what they say.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import JPEGLSLossless

from dicom_ai_node import pixels
from dicom_ai_node.analyse.files import analyse_files
from dicom_ai_node.analyse.saliency import MOST_OF_SAMPLE, build_captures
from dicom_ai_node.answers import Category, ImageRef, Outcome, Prediction, Quantity, StudyResult
from dicom_ai_node.cli.audit import AuditOptions
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.config.bundles import analysed_modalities, reporting_bundles
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.decide.images import Gates, judge_frames, pool
from dicom_ai_node.decide.stored import result_from_json, result_to_json
from dicom_ai_node.errors import BundleError, RecalibrationError
from dicom_ai_node.inference import engine
from dicom_ai_node.inference.bundle import MANIFEST, load_manifest
from dicom_ai_node.inference.heads import CategoryHead
from dicom_ai_node.pipeline import Pipeline, Prepared
from dicom_ai_node.recalibrate.pack import Wanted, recalibrate
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from tests.builders.bundles import CT_AND_MR, SIZE, YEARS, invented_bundle, regions
from tests.builders.series import ct_series, enhanced, filed

TODAY = date(2026, 6, 1)
SAMPLE = 4
REGION = regions("BRAIN", "CHEST", "ABDOMEN", "KNEE")
OPEN = {"max_age_interval": 200, "min_body_part_certainty": 0, "analyse": "all"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One for parts of the body by a sample of a series, one for ages by the series as a whole."""
    folder = tmp_path_factory.mktemp("bundles")
    windows = CT_AND_MR | {"sample": SAMPLE}
    whole = CT_AND_MR | {"contract": "projections-1", "takes": "series", "modalities": ["CT"]}
    return {
        "region": invented_bundle(folder / "region", [REGION], accepts=windows),
        "years": invented_bundle(folder / "years", [YEARS], accepts=whole, research=True),
    }


def configured(bundles: dict[str, Path], *names: str, **policy: Any) -> Config:
    further = [str(bundles[name]) for name in names]
    return parse_config({"model": {"further": further, "device": "cpu"}, "policy": OPEN | policy})


def piped(bundles: dict[str, Path], *names: str, **policy: Any) -> Pipeline:
    config = configured(bundles, *names, **policy)
    return Pipeline.of(config, reporting_bundles(config.model))


def concluded(
    pipeline: Pipeline, folder: Path, images: Sequence[Dataset]
) -> tuple[Prepared, StudyResult]:
    files = filed(folder, images)
    ready = pipeline.prepare("1.2.3", files, priors=lambda _: (), today=TODAY)
    pipeline.predict([ready])
    return ready, pipeline.conclude(ready)


def numbers(images: Sequence[Dataset], refs: Sequence[ImageRef]) -> list[int]:
    place = {str(image.SOPInstanceUID): at for at, image in enumerate(images)}
    return [place[ref.sop_instance_uid] for ref in refs]


def test_a_sample_of_a_series_is_read_along_the_body(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order the images come in, and numbered from the feet on."""
    images = ct_series(40, study="one", reverse=True)
    shuffled = [images[i] for i in np.random.default_rng(0).permutation(40)]
    opened: list[Path] = []
    decoded = pixels.show_all

    def watched(path: Path, **values: Any) -> list[pixels.Shown]:
        opened.append(path)
        return decoded(path, **values)

    monkeypatch.setattr(pixels, "show_all", watched)
    ready, result = concluded(piped(bundles, "region"), tmp_path, shuffled)
    (part,), (said,) = ready.parts, result.parts
    assert numbers(images, [one.image for one in said.images]) == [5, 15, 24, 34]
    assert len(opened) == SAMPLE, "no pixels of the others are read"
    assert (len(part.unread), said.offered) == (36, 40)
    assert part.tensors[0].shape == (3, SIZE, SIZE)
    assert result.outcome is Outcome.ESTIMATED


def test_each_series_has_a_sample_of_its_own(bundles: dict[str, Path], tmp_path: Path) -> None:
    images = [
        *ct_series(12, study="one", series="thin"),
        *ct_series(3, study="one", series="thick", apart=20.0),
        *ct_series(9, study="one", series="mr", Modality="MR"),
    ]
    _, result = concluded(piped(bundles, "region"), tmp_path, images)
    (said,) = result.parts
    counts = [
        sum(one.image.series_instance_uid == uid for one in said.images)
        for uid in dict.fromkeys(str(image.SeriesInstanceUID) for image in images)
    ]
    assert counts == [SAMPLE, 3, SAMPLE]
    assert said.offered == 24


def test_what_is_unfit_takes_no_place_in_a_sample(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Localisers and reformats are known by their headers; of a hundred alike a few are named."""
    scout, reformat = ["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED", "SECONDARY", "MPR"]
    scouts = ct_series(2, study="one", series="scout", ImageType=scout)
    mixed = ct_series(20, study="one", series="mixed")
    for image in mixed[:5]:
        image.ImageType = scout
    reformats = ct_series(30, study="one", series="mpr", ImageType=reformat)
    ready, result = concluded(piped(bundles, "region"), tmp_path, [*scouts, *mixed, *reformats])
    (part,), (said,) = ready.parts, result.parts
    outcomes = [one.outcome for one in said.images]
    assert outcomes.count(Outcome.ESTIMATED) == SAMPLE
    codes = [one.reason.code for one in said.images if one.reason]
    assert (codes.count("localiser"), codes.count("reformat")) == (7, 8)
    assert (len(part.unread), len(part.more_refused)) == (52 - len(said.images) - 22, 22)
    assert said.offered == 15, "what is refused was never offered"


def test_frames_of_an_enhanced_object_are_one_image(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    image = enhanced(30, study="one", syntax=JPEGLSLossless)
    ready, result = concluded(piped(bundles, "region"), tmp_path, [image])
    (part,), (said,) = ready.parts, result.parts
    assert len(part.tensors) == len(part.predictions) == SAMPLE
    (one,) = said.images
    assert (one.image.sop_instance_uid, said.offered) == (image.SOPInstanceUID, 30)
    assert one.outcome is Outcome.ESTIMATED
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result


def test_a_series_is_one_input(bundles: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    images = ct_series(40, study="one")
    few = ct_series(3, study="one", series="few")
    ready, result = concluded(piped(bundles, "years"), tmp_path, [*images[::-1], *few])
    (part,), (said,) = ready.parts, result.parts
    whole, short = said.images
    assert numbers(images, [whole.image]) == [0]
    assert part.tensors[0].shape == (2, SIZE, SIZE)
    assert isinstance(said.answers["age"], Quantity)
    assert short.reason is not None
    assert short.reason.code == "incomplete_series"
    assert len(part.unread) == 39 + 2
    assert said.research


def damage(images: Sequence[Dataset], *places: int) -> None:
    for at in places:
        images[at].PixelData = images[at].PixelData[:100]


def test_a_section_that_cannot_be_read_is_missing_in_its_series_and_said(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    """5 mm apart: two neighbours that are damaged leave a gap of 15 mm, which is allowed."""
    pytest.importorskip("skimage")
    images = ct_series(40, study="one")
    damage(images, 0, 20, 21)
    ready, result = concluded(piped(bundles, "years"), tmp_path, images)
    (part,), (said,) = ready.parts, result.parts
    assert said.outcome is Outcome.ESTIMATED
    (whole,) = [one for one in said.images if one.outcome is Outcome.ESTIMATED]
    assert numbers(images, [whole.image]) == [1], "the first that could be read"
    lost = [one for one in said.images if one.outcome is Outcome.REFUSED]
    assert numbers(images, [one.image for one in lost]) == [0, 20, 21]
    assert {one.reason.code for one in lost if one.reason} == {"truncated"}
    assert len(part.unread) == 36


def test_a_series_is_refused_where_what_is_left_makes_no_volume(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    images = ct_series(40, study="one")
    damage(images, 20, 21, 22)
    few = ct_series(9, study="one", series="few")
    damage(few, 3, 6)
    none = ct_series(9, study="one", series="none")
    damage(none, *range(9))
    _, result = concluded(piped(bundles, "years"), tmp_path, [*images, *few, *none])
    reasons = [one.reason for one in result.images if one.reason]
    assert [reason.code for reason in reasons] == ["truncated"] * 3
    gap, short, nothing = (reason.text for reason in reasons)
    assert gap.startswith("3 of 40 sections that were to be read are damaged: ")
    assert "a gap of 20 mm between sections, expected at most 15 mm" in gap
    assert "2 of 9 sections" in short
    assert "7 sections, expected 8" in short
    assert nothing.startswith("9 of 9 sections that were to be read are damaged (")


def test_the_nearest_image_stands_for_one_that_cannot_be_read(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ct_series(40, study="one")
    damage(images, 15, 14)
    opened: list[Path] = []
    decoded = pixels.show_all

    def watched(path: Path, **values: Any) -> list[pixels.Shown]:
        opened.append(path)
        return decoded(path, **values)

    monkeypatch.setattr(pixels, "show_all", watched)
    ready, result = concluded(piped(bundles, "region"), tmp_path, images)
    (part,), (said,) = ready.parts, result.parts
    read = [one.image for one in said.images if one.outcome is Outcome.ESTIMATED]
    assert numbers(images, read) == [5, 16, 24, 34]
    lost = [one.image for one in said.images if one.outcome is Outcome.REFUSED]
    assert numbers(images, lost) == [15, 14]
    assert (len(opened), len(part.unread)) == (6, 34)


def test_of_a_series_that_cannot_be_read_a_few_are_tried(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    images = ct_series(40, study="one")
    damage(images, *range(40))
    ready, result = concluded(piped(bundles, "region"), tmp_path, images)
    (part,) = ready.parts
    assert len(result.images) == 2 * SAMPLE
    assert len(part.unread) == 40 - 2 * SAMPLE
    assert result.outcome is Outcome.REFUSED


def test_reports_of_a_large_series_are_valid(bundles: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    ready, result = concluded(
        piped(bundles, "region", "years"), tmp_path, ct_series(50, study="one")
    )
    result = replace(result, study_uid=str(ready.sources[0].StudyInstanceUID))
    settings = ReportSettings(saliency="grad-cam", secondary_capture=True)
    made = build_reports(
        result, ready.sources, settings=settings, rules_version="1", digest="0" * 64,
        created=datetime(2026, 6, 1, tzinfo=UTC),
    )  # fmt: skip
    for report in made:
        for file in report.files:
            check_report(file.content, sources=ready.sources, result=result)
    captures = build_captures(ready, result, settings=settings, digest="d")
    assert len(captures) == MOST_OF_SAMPLE + 1


def test_every_file_of_a_series_has_an_answer_of_infer(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("skimage")
    files = filed(tmp_path / "files", [*ct_series(40, study="one"), enhanced(9, study="two")])
    answers = list(analyse_files([path for _, path in files], configured(bundles, "region")))
    documents = [answer.document for answer in answers]
    assert [answer.fault for answer in answers] == [""] * 41
    outcomes = [document["outcome"] for document in documents]
    assert (outcomes.count("estimated"), outcomes.count("header_only")) == (SAMPLE + 1, 36)
    reasons = {document["reason"]["code"] for document in documents if document["reason"]}
    assert reasons == {"not_sampled"}
    whole = list(analyse_files([path for _, path in files[:40]], configured(bundles, "years")))
    codes = [one.document["reason"] and one.document["reason"]["code"] for one in whole]
    assert (codes.count(None), codes.count("in_series")) == (1, 39)


def test_networks_are_loaded_when_a_study_needs_them(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    read = engine.read_tensors

    def watched(file: Path) -> Any:
        loaded.append(file.parent.name)
        return read(file)

    monkeypatch.setattr(engine, "read_tensors", watched)
    pipeline = piped(bundles, "region", "years")
    assert loaded == []
    concluded(pipeline, tmp_path, ct_series(3, study="one", Modality="MR"))
    concluded(pipeline, tmp_path, ct_series(3, study="one", Modality="MR"))
    assert loaded == ["region"]


def test_a_route_that_fits_no_contract_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    for name, changes, words in (
        ("region", {"takes": "series"}, "accepts.takes: 'series', expected 'image'"),
        ("years", {"takes": "image"}, "accepts.takes: 'image', expected 'series'"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        manifest = json.loads((bundles[name] / MANIFEST).read_text())
        manifest["accepts"] |= changes
        (folder / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match=words):
            load_manifest(folder)


def test_what_no_header_says_of_an_image_is_not_recalibrated(bundles: dict[str, Path]) -> None:
    for name, words in (("region", "no header says .* region"), ("years", "is a series")):
        with pytest.raises(RecalibrationError, match=words):
            recalibrate(
                bundles[name], [], parse_config({}), Wanted("site", 1, TODAY),
                track=lambda *_: lambda: None,
            )  # fmt: skip


def test_audits_list_what_the_routes_look_at(bundles: dict[str, Path]) -> None:
    assert analysed_modalities(parse_config({}).model) == ("CR", "DX")
    model = configured(bundles, "region", "years").model
    assert analysed_modalities(model) == ("CR", "DX", "CT", "MR")
    assert AuditOptions("node").spec(configured(bundles, "region")).modalities[2:] == ("CT", "MR")
    chosen = AuditOptions("node", modality="mg").spec(configured(bundles, "region"))
    assert chosen.modalities == ("MG",)


def test_values_of_a_span_are_defined_terms() -> None:
    with pytest.raises(ValueError, match="'TORSO' is no defined term"):
        CategoryHead(name="region", output=0, values=("CHEST", "TORSO"), spans=True)


def part(**shares: float) -> Category:
    rest = (1 - sum(shares.values())) / (len(REGION.values) - len(shares))
    whole = Category({**dict.fromkeys(REGION.values, rest), **shares}, "BodyPartExamined")
    return replace(whole, covered=(whole.value,))


def pooled(answers: Sequence[Category], series: Sequence[str] = ()) -> Category:
    said = pool([Prediction({"region": one}, {}, 1.0) for one in answers], series)["region"]
    assert isinstance(said, Category)
    assert sum(said.probabilities.values()) == pytest.approx(1)
    return said


def test_a_span_is_the_parts_that_images_show_one_after_the_other() -> None:
    said = pooled([part(CHEST=0.9)] * 4 + [part(ABDOMEN=0.8, CHEST=0.1)] * 4)
    assert (said.value, said.covered) == ("CHESTABDOMEN", ("CHEST", "ABDOMEN"))
    chest = part(CHEST=0.9).probabilities
    one_of_them = (chest["CHEST"] + chest["ABDOMEN"] + 0.9) / 2
    assert said.certainty == pytest.approx(one_of_them)
    assert "CHEST" not in said.probabilities


def test_images_of_one_part_are_that_part() -> None:
    said = pooled([part(BRAIN=0.9)] * 3)
    assert (said.value, said.covered) == ("BRAIN", ("BRAIN",))
    assert said.certainty == pytest.approx(0.9)


def test_one_image_that_is_mistaken_adds_no_part() -> None:
    said = pooled([part(BRAIN=0.9)] * 9 + [part(KNEE=0.9)])
    assert said.covered == ("BRAIN",)
    assert said.certainty == pytest.approx((9 * 0.9 + part(KNEE=0.9).probabilities["BRAIN"]) / 10)


def test_series_that_differ_in_size_count_alike() -> None:
    """The abdomen's two images are a series; were all asked at once, they would be accidents."""
    answers = [part(CHEST=0.9)] * 20 + [part(ABDOMEN=0.9)] * 2
    assert pooled(answers).covered == ("CHEST",)
    by_series = pooled(answers, ["a"] * 20 + ["b"] * 2)
    assert (by_series.value, by_series.covered) == ("CHESTABDOMEN", ("CHEST", "ABDOMEN"))


def test_parts_without_a_common_term_are_the_one_that_most_show() -> None:
    said = pooled([part(BRAIN=0.9)] * 6 + [part(KNEE=0.9)] * 2, ["a"] * 6 + ["b"] * 2)
    assert said.value in ("BRAIN", "KNEE")
    assert said.certainty < 0.9, "so that the policy withholds it"
    assert said.covered == (said.value,)


def test_frames_that_pass_no_gate_have_no_say() -> None:
    gates = Gates({}, {}, 0.5, (0, 100))
    image = ImageRef("1", "2", "3")
    good = [Prediction({"region": part(CHEST=0.9)}, {}, 0.9)] * 3
    bad = [Prediction({"region": part(KNEE=0.99)}, {}, 0.1)] * 3
    one = judge_frames(image, [*bad, *good], gates)
    assert one.prediction is not None
    assert one.prediction.category("region").value == "CHEST"
    none = judge_frames(image, bad, gates)
    assert (none.outcome, none.reason and none.reason.code) == (
        Outcome.ABSTAINED, "out_of_distribution",
    )  # fmt: skip


def test_a_body_part_that_is_uncertain_is_not_stated(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    """The threshold goes by the attribute, whatever the head is called."""
    pipeline = piped(bundles, "region", min_body_part_certainty=0.99)
    _, result = concluded(pipeline, tmp_path, ct_series(5, study="one"))
    (said,) = result.parts
    assert said.outcome is Outcome.ABSTAINED
    assert "region_uncertain" in said.unanswered["region"].code
