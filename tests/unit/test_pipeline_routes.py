"""A study goes to every bundle that accepts something of it, and each has a part of the result.

The bundles are made here, of random weights; nothing in the package knows them. To add one more
would be one more call of :func:`invented_bundle`.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_ai_node.analyse.files import analyse_files
from dicom_ai_node.analyse.results import result_key, to_json
from dicom_ai_node.analyse.saliency import build_captures
from dicom_ai_node.answers import (
    Category,
    Concept,
    LabelProbabilities,
    Outcome,
    Quantity,
    StudyResult,
)
from dicom_ai_node.cli import verdict
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.config.bundles import analysed_classes, default_bundle, reporting_bundles
from dicom_ai_node.config.stages import FillSettings, ReportSettings
from dicom_ai_node.decide.proposals import propose
from dicom_ai_node.decide.stored import result_from_json, result_to_json
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.demo.validators import dciodvfy
from dicom_ai_node.dicom.classes import ANALYSABLE
from dicom_ai_node.errors import BundleError, ConfigError, InvalidReport
from dicom_ai_node.inference.bundle import load_manifest, verify_in_use
from dicom_ai_node.inference.heads import GATES, HEADS, CategoryHead, FindingsHead, QuantityHead
from dicom_ai_node.pipeline import Pipeline, Prepared
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from tests.builders.bundles import CT, SIZE, YEARS, invented_bundle
from tests.builders.series import filed, section

TODAY = date(2026, 6, 1)
TUBE = Concept("129006008", "SCT", "Endotracheal tube")
ABDOMEN = Concept("818983003", "SCT", "Abdomen")
OPEN = {
    "max_age_interval": 200,
    "min_sex_certainty": 0.5,
    "certain_age_interval": 200,
    "certain_sex": 0.5,
    "min_body_part_certainty": 0,
    "analyse": "all",
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One bundle for age and sex, one for findings on the same images, one for sections (CT)."""
    folder = tmp_path_factory.mktemp("bundles")
    marks = FindingsHead(name="marks", output=0, labels=("tube", "wire"), codes={"tube": TUBE})
    liver = QuantityHead(
        name="liver_density", output=41, unit="[hnsf'U]", support=(0, 80), bounds=(-50, 150),
        concept=Concept("112031", "DCM", "Attenuation Coefficient"),
    )  # fmt: skip
    return {
        "chest": invented_bundle(folder / "chest", HEADS, gates=GATES),
        "marks": invented_bundle(folder / "marks", [marks], seed=2),
        "abdomen": invented_bundle(
            folder / "abdomen",
            [YEARS, liver],
            seed=3,
            accepts=CT,
            finding_site={"code": ABDOMEN.code, "scheme": "SCT", "meaning": ABDOMEN.meaning},
        ),
    }


def configured(bundles: dict[str, Path], *names: str, **policy: Any) -> Config:
    first, *further = [str(bundles[name]) for name in names]
    return parse_config(
        {"model": {"bundle": first, "further": further, "device": "cpu"}, "policy": OPEN | policy}
    )


@pytest.fixture(scope="module")
def pipeline(bundles: dict[str, Path]) -> Pipeline:
    config = configured(bundles, "chest", "marks", "abdomen")
    return Pipeline.of(config, reporting_bundles(config.model))


def film(number: int, **values: Any) -> Dataset:
    pixels = np.random.default_rng(number).integers(0, 4000, (200, 200), dtype=np.uint16)
    return radiograph(pixels, study="mixed", number=number, **values)


def prepared(pipeline: Pipeline, folder: Path, *images: Dataset) -> Prepared:
    return pipeline.prepare("1.2.3", filed(folder, images), priors=lambda _: (), today=TODAY)


def concluded(pipeline: Pipeline, folder: Path, *images: Dataset) -> tuple[Prepared, StudyResult]:
    ready = prepared(pipeline, folder, *images)
    pipeline.predict([ready])
    return ready, pipeline.conclude(ready)


def names(result: StudyResult) -> list[str]:
    return [part.model.name if part.model else "" for part in result.parts]


def seen(result: StudyResult) -> list[list[str]]:
    return [[one.image.sop_instance_uid for one in part.images] for part in result.parts]


def test_each_bundle_sees_what_it_accepts(pipeline: Pipeline, tmp_path: Path) -> None:
    one, two, ct = film(1), film(2), section(3, study="mixed")
    _, result = concluded(pipeline, tmp_path, one, ct, two)
    films = [one.SOPInstanceUID, two.SOPInstanceUID]
    assert names(result) == ["chest", "marks", "abdomen"]
    assert seen(result) == [films, films, [ct.SOPInstanceUID]]
    assert [list(part.answers) for part in result.parts] == [
        ["age", "sex"], ["marks"], ["age", "liver_density"],
    ]  # fmt: skip
    chest, marks, abdomen = result.parts
    assert isinstance(chest.answers["sex"], Category)
    assert isinstance(marks.answers["marks"], LabelProbabilities)
    ages = chest.answers["age"], abdomen.answers["age"]
    assert all(isinstance(age, Quantity) for age in ages)
    assert ages[0] != ages[1], "two bundles have an age each"
    assert result.outcome is Outcome.ESTIMATED


def test_a_bundle_of_whose_kind_there_is_nothing_has_no_part(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    _, result = concluded(pipeline, tmp_path, section(1, study="ct"))
    assert names(result) == ["abdomen"]


def test_a_bundle_answers_as_if_it_were_alone(
    pipeline: Pipeline, bundles: dict[str, Path], tmp_path: Path
) -> None:
    images = film(1), section(3, study="mixed")
    _, result = concluded(pipeline, tmp_path, *images)
    for name, part in zip(("chest", "marks", "abdomen"), result.parts, strict=True):
        config = configured(bundles, name)
        alone = Pipeline.of(config, reporting_bundles(config.model))
        _, single = concluded(alone, tmp_path, images[0 if name != "abdomen" else 1])
        assert single.parts[0].answers == part.answers


def test_what_no_bundle_accepts_is_refused_once(pipeline: Pipeline, tmp_path: Path) -> None:
    mr = section(2, study="mixed", Modality="MR")
    _, result = concluded(pipeline, tmp_path, film(1), mr)
    (refused,) = [one for one in result.images if one.outcome is Outcome.REFUSED]
    assert refused.reason is not None
    assert refused.reason.code == "not_projection_radiograph"
    assert refused in result.parts[0].images
    _, alone = concluded(pipeline, tmp_path, mr)
    assert names(alone) == [""]
    assert (alone.outcome, list(alone.parts[0].answers)) == (Outcome.REFUSED, ["age", "sex"])


def test_a_study_that_policy_passes_over_has_silent_parts(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    config = configured(bundles, "chest", "abdomen", analyse="flagged")
    pipeline = Pipeline.of(config, reporting_bundles(config.model))
    fine = {"PatientSex": "F", "PatientBirthDate": "19640101", "PatientAge": "062Y"}
    _, result = concluded(pipeline, tmp_path, film(1, **fine), section(2, study="mixed", **fine))
    assert [part.outcome for part in result.parts] == [Outcome.HEADER_ONLY] * 2
    assert [list(part.unanswered) for part in result.parts] == [
        ["age", "sex"], ["age", "liver_density"],
    ]  # fmt: skip
    assert not result.check.flagged
    assert "H4" not in result.check.rules


def test_the_study_is_estimated_where_any_part_is(bundles: dict[str, Path], tmp_path: Path) -> None:
    config = configured(bundles, "chest", "marks", min_chest=1.0)
    pipeline = Pipeline.of(config, reporting_bundles(config.model))
    _, result = concluded(pipeline, tmp_path, film(1))
    assert [part.outcome for part in result.parts] == [Outcome.ABSTAINED, Outcome.ESTIMATED]
    assert (result.outcome, result.reason) == (Outcome.ESTIMATED, None)
    assert "H4" not in result.check.rules
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result


def test_a_proposal_comes_from_the_first_part_that_states_the_value(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    fill = FillSettings(max_age_interval=200, min_sex_certainty=0.5)
    for order, name in ((("chest", "abdomen"), "chest"), (("abdomen", "chest"), "abdomen")):
        config = configured(bundles, *order)
        pipeline = Pipeline.of(config, reporting_bundles(config.model))
        _, result = concluded(pipeline, tmp_path, film(1), section(2, study="mixed"))
        part = result.answering("PatientAge")
        assert part is not None
        assert part.model is not None
        assert part.model.name == name
        proposals = {one.keyword: one for one in propose(result, fill)}
        assert f"{name} 1.0" in proposals["PatientAge"].detail
        assert "chest 1.0" in proposals["PatientSex"].detail


def test_each_part_is_held_against_the_header(bundles: dict[str, Path], tmp_path: Path) -> None:
    config = configured(bundles, "marks", "abdomen", age_alert_widening=1)
    pipeline = Pipeline.of(config, reporting_bundles(config.model))
    header = {"PatientAge": "005Y", "PatientBirthDate": ""}
    _, result = concluded(
        pipeline, tmp_path, film(1, **header), section(2, study="mixed", **header)
    )
    contradicted = result.check.rules
    assert "H1" in contradicted
    assert "H3" not in contradicted


def test_a_bundle_for_research_is_held_against_nothing(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(bundles["abdomen"], tmp_path / "research")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"research": True}))
    config = configured({"research": folder}, "research", age_alert_widening=1)
    pipeline = Pipeline.of(config, reporting_bundles(config.model))
    header = {"PatientAge": "005Y", "PatientBirthDate": ""}
    _, result = concluded(pipeline, tmp_path, section(2, study="mixed", **header))
    assert result.parts[0].research
    assert "age" in result.parts[0].given
    assert "H1" not in result.check.rules
    assert result.held_against("PatientAge") is None
    assert [
        one for one in propose(result, FillSettings(max_age_interval=200)) if one.interval90
    ] == []
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result


def test_a_result_is_stored_and_read_back(pipeline: Pipeline, tmp_path: Path) -> None:
    _, result = concluded(pipeline, tmp_path, film(1), section(2, study="mixed"))
    stored = json.loads(json.dumps(result_to_json(result)))
    assert [one["model"]["name"] for one in stored["further"]] == ["marks", "abdomen"]
    assert result_from_json(stored) == result
    assert stored["age"] != stored["further"][1]["age"]
    assert verdict.estimate(stored).count("(") == 3, "two ages and a density"
    _, single = concluded(pipeline, tmp_path, section(2, study="mixed"))
    assert not {"further", "of_first"} & result_to_json(single).keys()
    assert "further" not in to_json(single)


def test_the_key_tells_further_networks_apart(pipeline: Pipeline, tmp_path: Path) -> None:
    _, result = concluded(pipeline, tmp_path, film(1), section(2, study="mixed"))
    first, *_, last = result.parts
    assert last.model is not None
    other = replace(last, model=replace(last.model, sha256="f" * 64))
    keys = {
        result_key(one, ["a"], "s")
        for one in (
            result,
            replace(result, parts=(first,)),
            replace(result, parts=(*result.parts[:-1], other)),
        )
    }
    assert len(keys) == 3


def reports(ready: Prepared, result: StudyResult) -> list[bytes]:
    result = replace(result, study_uid=str(ready.sources[0].StudyInstanceUID))
    made = build_reports(
        result,
        ready.sources,
        settings=ReportSettings(secondary_capture=True),
        rules_version="1",
        digest="0" * 64,
        created=datetime(2026, 6, 1, tzinfo=UTC),
    )
    files = [file.content for report in made for file in report.files]
    for content in files:
        check_report(content, sources=ready.sources, result=result)
    return files


def test_one_report_has_a_part_for_each_bundle(
    pipeline: Pipeline, tmp_path: Path, found_validator: bool
) -> None:
    ready, result = concluded(pipeline, tmp_path, film(1), film(4), section(2, study="mixed"))
    files = reports(ready, result)
    assert len(files) == 4, "three SR classes with one tree, and a capture"
    report = pydicom.dcmread(BytesIO(files[0]))
    groups = measurement_groups(report)
    studies = [group for group in groups if said(group, "SCOPE") == ["STUDY"]]
    assert [text(group, "111001") for group in studies] == ["chest", "marks", "abdomen"]
    assert [said(group, "363698007") for group in studies] == [
        ["816094009"], ["816094009"], [ABDOMEN.code],
    ]  # fmt: skip
    assert TUBE.code in said(studies[1], "MARKS")
    of_quantities = [
        any("interval" in item.TextValue for item in group.ContentSequence
            if item.ValueType == "TEXT" and concept(item) == "111002")
        for group in studies
    ]  # fmt: skip
    assert of_quantities == [True, False, True], "marks have no prediction interval"
    numbers = {concept(item) for item in studies[2].ContentSequence if item.ValueType == "NUM"}
    assert numbers == {"21611-9", "112031"}
    tracking = [item.UID for group in groups for item in group.ContentSequence
                if item.ValueType == "UIDREF"]  # fmt: skip
    assert len(set(tracking)) == len(tracking) == 8, "header; study and two images twice; CT"
    if found_validator:
        for number, content in enumerate(files):
            path = tmp_path / f"report{number}"
            path.write_bytes(content)
            assert dciodvfy(path) == []


def test_one_more_bundle_is_one_more_manifest(
    bundles: dict[str, Path], tmp_path: Path, found_validator: bool
) -> None:
    """The body region of MR, in the codes of its manifest."""
    region = CategoryHead(
        name="region", output=0, values=("BRAIN", "KNEE"), attribute="BodyPartExamined",
        concept=Concept("123014", "DCM", "Target Region"),
        codes={"BRAIN": Concept("12738006", "SCT", "Brain"),
               "KNEE": Concept("72696002", "SCT", "Knee")},
    )  # fmt: skip
    folder = invented_bundle(
        tmp_path / "region",
        [region],
        accepts={"sop_classes": [MRImageStorage], "modalities": ["MR"]},
    )
    config = configured({**bundles, "region": folder}, "chest", "region")
    pipeline = Pipeline.of(config, reporting_bundles(config.model))
    mr = section(2, study="mixed", Modality="MR")
    ready, result = concluded(pipeline, tmp_path, film(1), mr)
    assert names(result) == ["chest", "region"]
    assert MRImageStorage in analysed_classes(config.model)
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result
    content = reports(ready, result)[0]
    (study,) = [
        group
        for group in measurement_groups(pydicom.dcmread(BytesIO(content)))
        if said(group, "123014")
    ]
    assert said(study, "123014")[0] in {"12738006", "72696002"}
    if found_validator:
        (tmp_path / "report").write_bytes(content)
        assert dciodvfy(tmp_path / "report") == []


def test_a_part_that_is_silent_does_not_pass_the_check(pipeline: Pipeline, tmp_path: Path) -> None:
    ready, result = concluded(pipeline, tmp_path, film(1), section(2, study="mixed"))
    content = reports(ready, result)[0]
    *others, last = result.parts
    for parts, fault in (
        (others, "there must be 2 groups of scope STUDY"),
        ((*others, replace(last, answers={**last.answers, "dose": last.answers["age"]})), "dose"),
    ):
        with pytest.raises(InvalidReport, match=fault):
            check_report(content, sources=ready.sources, result=replace(result, parts=tuple(parts)))


def test_maps_of_two_bundles_of_one_image_are_two_captures(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    ready, result = concluded(pipeline, tmp_path, film(1), section(2, study="mixed"))
    result = replace(result, study_uid=str(ready.sources[0].StudyInstanceUID))
    made = build_captures(ready, result, settings=ReportSettings(saliency="grad-cam"), digest="d")
    assert len({one.files[0].sop_instance_uid for one in made}) == len(made) == 3


def test_infer_says_what_each_bundle_says(bundles: dict[str, Path], tmp_path: Path) -> None:
    config = configured(bundles, "chest", "marks", "abdomen")
    files = []
    for name, image in (("a", film(1)), ("b", section(2, study="mixed"))):
        files.append(tmp_path / f"{name}.dcm")
        dcmwrite(files[-1], image, enforce_file_format=True)
    answers = list(analyse_files(files, config, reports=tmp_path / "reports"))
    assert [answer.fault for answer in answers] == ["", ""]
    x_ray, ct = (answer.document for answer in answers)
    assert x_ray["model"]["name"] == "chest"
    (further,) = x_ray["further"]
    assert (further["model"]["name"], set(further["marks"])) == ("marks", {"probabilities"})
    assert (ct["model"]["name"], "further" in ct) == ("abdomen", False)
    assert ct["age"]["estimate"] != x_ray["age"]["estimate"]
    assert len(list((tmp_path / "reports").iterdir())) == 1


def test_images_are_decoded_once_for_bundles_of_one_size(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    ready = prepared(pipeline, tmp_path, film(1))
    chest, marks = ready.parts
    assert chest.tensors[0] is marks.tensors[0]
    assert chest.tensors[0].shape == (SIZE, SIZE)


def test_what_is_analysed_follows_from_the_routes(bundles: dict[str, Path]) -> None:
    assert analysed_classes(parse_config({}).model) == ANALYSABLE, "as long as there is one bundle"
    model = configured(bundles, "chest", "abdomen").model
    assert analysed_classes(model) == ANALYSABLE | {CTImageStorage}


def test_a_route_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"accepts": []}')
    with pytest.raises(BundleError, match=r"accepts\.sop_classes"):
        analysed_classes(parse_config({"model": {"bundle": str(tmp_path)}}).model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"further": ["a", "a"]}, r"model\.further = .*'a' is listed twice"),
        ({"bundle": "a", "further": ["a"]}, r"model\.further = .*'a' is model\.bundle already"),
        ({"shadow": "a", "further": ["a"]}, r"model\.further = .*'a' is model\.shadow already"),
    ],
)
def test_a_bundle_is_named_once(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"model": model})


def test_every_bundle_in_use_is_verified(bundles: dict[str, Path], tmp_path: Path) -> None:
    model = configured(bundles, "chest", "marks").model
    assert [one.name for one in verify_in_use(model)] == ["chest", "marks"]
    copy = shutil.copytree(bundles["marks"], tmp_path / "copy")
    for changes, message in (
        (
            {"further": (str(copy), str(bundles["marks"]))},
            r"model\.further .* model\.further already",
        ),
        ({"shadow": str(copy)}, r"model\.shadow .* model\.further already"),
        ({"further": ("chest-age-sx",)}, r"model\.further: no model bundle .*did you mean"),
    ):
        with pytest.raises((ConfigError, BundleError), match=message):
            verify_in_use(model.model_copy(update=changes))
    with pytest.raises(ConfigError, match=r"model\.further: no model bundle"):
        reporting_bundles(model.model_copy(update={"further": ("nowhere",)}))
    (copy / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"model\.further: .*SHA-256"):
        verify_in_use(model.model_copy(update={"further": (str(copy),)}))


def test_relative_folders_lead_from_the_file(bundles: dict[str, Path], tmp_path: Path) -> None:
    values = {"model": {"further": ["site", "chest-age-sex"], "bundle": "own"}}
    model = parse_config(values, folder=tmp_path).model
    assert model.further == (str(tmp_path / "site"), "chest-age-sex")


def test_a_manifest_says_nothing_of_what_it_leaves_out() -> None:
    assert "finding_site" not in load_manifest(default_bundle()).model_dump()
    head = CategoryHead(name="sex", output=0, values=("F", "M"))
    assert not {"concept", "codes"} & head.model_dump().keys()


def measurement_groups(report: Dataset) -> Sequence[Dataset]:
    (measurements,) = [one for one in report.ContentSequence if concept(one) == "126010"]
    groups: Sequence[Dataset] = measurements.ContentSequence
    return groups


def concept(item: Dataset) -> str:
    code = item.ConceptNameCodeSequence[0]
    return str(code.get("CodeValue") or code.LongCodeValue)


def said(group: Dataset, name: str) -> list[str]:
    return [
        str(item.ConceptCodeSequence[0].CodeValue)
        for item in group.ContentSequence
        if item.ValueType == "CODE" and concept(item) == name
    ]


def text(group: Dataset, name: str) -> str:
    (found,) = [str(item.TextValue) for item in group.ContentSequence if concept(item) == name]
    return found


@pytest.fixture(scope="module")
def found_validator() -> bool:
    beside = Path(sys.executable).with_name("dciodvfy")
    return beside.exists() or shutil.which("dciodvfy") is not None
