"""The analyser observes what it analyses, a sample of the rest, and a second bundle beside it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.config import disable_value_validation
from safetensors.numpy import load_file, save_file

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.decide.study import sampled
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.monitor.measures import covered
from dicom_ai_node.monitor.observation import Observation, Role
from dicom_ai_node.store.monitor import load_observations
from tests.builders.analysing import GATES_OPEN, Node
from tests.builders.observations import AGE_HEAD, SEX_HEAD, age_said

FINE = {"PatientSex": "F", "PatientBirthDate": "19640101", "PatientAge": "062Y"}


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(default_bundle(), device="cpu")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Estimator:
    """The shipped bundle at another size, with weights that are not the same file."""
    folder = tmp_path_factory.mktemp("bundles") / "other"
    shutil.copytree(default_bundle(), folder)
    tensors = load_file(folder / bundle.WEIGHTS)
    tensors["content.reference"] = tensors["content.reference"] * 2
    save_file(tensors, folder / bundle.WEIGHTS)
    manifest = bundle.load_manifest(folder)
    smaller = manifest.accepts.model_copy(update={"size": 224})
    changed = {"sha256": bundle.sha256(folder / bundle.WEIGHTS), "accepts": smaller}
    changed["onnx_sha256"] = ""  # the graph is of the size that is shipped
    (folder / bundle.MANIFEST).write_text(manifest.model_copy(update=changed).model_dump_json())
    return Estimator(folder, device="cpu")


@pytest.fixture
def make(tmp_path: Path, estimator: Estimator) -> Iterator[Any]:
    made: list[Node] = []

    def node(other: Estimator | None = None, **values: Any) -> Node:
        values["policy"] = GATES_OPEN | values.get("policy", {})
        made.append(Node(tmp_path / str(len(made)), estimator, values, other))
        return made[-1]

    yield node
    for one in made:
        one.db.close()


def image(years: int = 62, picture: int = 1, **values: Any) -> Dataset:
    header = FINE | {"StationName": "ROOM1", "ManufacturerModelName": "Plate"} | values
    with disable_value_validation():  # '62' is no value of VR AS
        return radiograph(phantom.chest(years, "F", picture, 512), study="observed", **header)


def test_a_sampled_study_keeps_its_report_and_leaves_an_observation(make: Any) -> None:
    plain, sampling = make(monitor={"sample": 0.0}), make(monitor={"sample": 1.0})
    reports = [node.analyse(image()).result for node in (plain, sampling)]
    assert reports[0] == reports[1]
    assert reports[0]["outcome"] == "header_only"
    assert reports[0]["model"] is None
    assert load_observations(plain.db) == []
    (seen,) = load_observations(sampling.db)
    assert (seen.role, seen.outcome) == (Role.LIVE, "estimated")
    assert seen.recorded == {"PatientAge": 62.0, "PatientSex": "F"}
    assert (seen.station, seen.model_name, seen.view) == ("ROOM1", "Plate", "PA")
    age = age_said(seen)
    assert age["low90"] < age["mu"] < age["high90"]
    assert abs(age["mu"] - 62) < 25


def test_a_flagged_study_is_observed_without_the_label_that_it_lacks(make: Any) -> None:
    node = make(monitor={"sample": 0.0})
    detail = node.analyse(image(PatientAge="", PatientBirthDate=""))
    assert detail.result["outcome"] == "estimated"
    (seen,) = load_observations(node.db)
    assert seen.recorded == {"PatientSex": "F"}
    assert age_said(seen)["mu"] == pytest.approx(detail.result["age"]["mu"], abs=1e-3)


def test_a_gate_that_refuses_is_observed(make: Any) -> None:
    node = make(monitor={"sample": 1.0}, policy={"min_chest": 1.0})
    node.analyse(image())
    (seen,) = load_observations(node.db)
    assert (seen.outcome, seen.reason_code, seen.gate) == ("abstained", "not_a_chest", "chest")
    assert seen.heads == {"age": AGE_HEAD, "sex": SEX_HEAD}
    assert seen.recorded["PatientAge"] == 62.0


def test_the_worst_misses_are_kept(make: Any) -> None:
    """A recorded age that the image contradicts is no conflict of the header: it stays a label."""
    node = make(policy={"analyse": "all"})
    detail = node.analyse(image(PatientAge="020Y", PatientBirthDate="20060101"))
    assert detail.result["audit"]["age"] == "CONFLICT_IMAGE"
    (seen,) = load_observations(node.db)
    assert seen.recorded["PatientAge"] == 20.0
    assert covered(seen, "age") is False


ALONE: dict[str, Any] = {"PatientBirthDate": ""}


@pytest.mark.parametrize("written", ["62", "062", "62Y"])
def test_an_age_in_a_wrong_form_is_a_label(make: Any, written: str) -> None:
    node = make(monitor={"sample": 0.0})
    detail = node.analyse(image(**ALONE, PatientAge=written))
    assert detail.result["audit"]["age"] == "MALFORMED"
    (seen,) = load_observations(node.db)
    assert seen.recorded == {"PatientAge": 62.0, "PatientSex": "F"}


def test_an_age_without_its_unit_that_the_image_contradicts_is_found(make: Any) -> None:
    node = make(monitor={"sample": 0.0})
    detail = node.analyse(image(**ALONE, PatientAge="20"))
    assert detail.result["audit"]["age"] == "CONFLICT_IMAGE"
    rules = [one["rule"] for one in detail.result["audit"]["findings"]]
    assert {"A1", "H1"} <= set(rules)
    assert [one["value"] for one in detail.result["audit"]["proposals"]] == ["020Y"]


@pytest.mark.parametrize(("written", "years"), [("099Y", 30), ("003Y", 62)])
def test_ages_that_the_network_never_learnt_are_found_and_not_observed(
    make: Any, written: str, years: int
) -> None:
    """Observed, only those would count that the image contradicts."""
    node = make(policy={"analyse": "all"})
    detail = node.analyse(image(years, **ALONE, PatientAge=written))
    assert detail.result["audit"]["age"] == "CONFLICT_IMAGE"
    assert detail.result["outcome"] == "estimated"
    (seen,) = load_observations(node.db)
    assert seen.heads == {"age": AGE_HEAD, "sex": SEX_HEAD}


def by_role(node: Node) -> dict[Role, Observation]:
    return {one.role: one for one in load_observations(node.db)}


def test_a_second_bundle_is_observed_and_never_reported(make: Any, other: Estimator) -> None:
    alone, accompanied = make(monitor={"sample": 1.0}), make(other, monitor={"sample": 1.0})
    flagged = image(PatientAge="", PatientBirthDate="")
    reports = [node.analyse(flagged) for node in (alone, accompanied)]
    assert reports[0].result == reports[1].result
    assert other.identity.sha256 not in str(reports[1].result)
    found = by_role(accompanied)
    assert found[Role.SHADOW].model_sha256 == other.identity.sha256
    assert age_said(found[Role.SHADOW])["mu"] != age_said(found[Role.LIVE])["mu"]
    same = age_said(by_role(alone)[Role.LIVE])
    assert same == pytest.approx(age_said(found[Role.LIVE]))


def test_a_second_bundle_that_fails_costs_nothing(
    make: Any, other: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_images: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(other, "predict", fail)
    node = make(other, monitor={"sample": 1.0})
    assert node.analyse(image()).result["outcome"] == "header_only"
    assert set(by_role(node)) == {Role.LIVE}


def test_the_sample_follows_from_the_uid_alone() -> None:
    uids = [f"1.2.{number}" for number in range(4000)]
    tenth = {uid for uid in uids if sampled(uid, 0.1)}
    assert 320 < len(tenth) < 480
    assert tenth == {uid for uid in uids if sampled(uid, 0.1)}
    assert tenth < {uid for uid in uids if sampled(uid, 0.3)}
    assert not any(sampled(uid, 0.0) for uid in uids)
    assert all(sampled(uid, 1.0) for uid in uids)


@pytest.mark.parametrize("disabled", [[], ["H4"]])
def test_a_rule_of_the_image_is_silent_where_the_configuration_disables_it(
    make: Any, disabled: list[str]
) -> None:
    never = {"analyse": "all", "min_in_distribution": 1.0}
    result = make(policy=never, rules={"disabled": disabled}).analyse(image(picture=3)).result
    assert result["outcome"] == "abstained"
    found = [one["rule"] for one in result["audit"]["findings"]]
    assert ("H4" in found) is (not disabled)
