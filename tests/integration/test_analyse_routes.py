"""A node with a further bundle for CT: one study of a film and of sections, one report."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage
from sqlalchemy import select

from dicom_ai_node.config import parse_config
from dicom_ai_node.config.bundles import analysed_classes
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.dicom.classes import REPORTS
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import GATES, HEADS
from dicom_ai_node.receive.acceptor import supported_syntaxes
from dicom_ai_node.store.instances import analyse_classes
from dicom_ai_node.store.queries import show
from dicom_ai_node.store.study_queue import requeue
from dicom_ai_node.store.tables import observation
from tests.builders.analysing import Node
from tests.builders.bundles import CT, YEARS, invented_bundle
from tests.builders.series import section


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return (
        invented_bundle(folder / "chest", HEADS, gates=GATES),
        invented_bundle(folder / "sections", [YEARS], seed=2, accepts=CT),
    )


def settings(chest: Path, *further: Path) -> dict[str, Any]:
    return {
        "model": {"bundle": str(chest), "further": list(map(str, further))},
        "policy": {"max_age_interval": 200, "min_sex_certainty": 0.5},
        "report": {"saliency": "grad-cam"},
    }


@pytest.fixture
def node(tmp_path: Path, bundles: tuple[Path, Path]) -> Iterator[Node]:
    first, *further = (Estimator(folder, device="cpu") for folder in bundles)
    made = Node(tmp_path, first, settings(*bundles), further=further)
    yield made
    made.db.close()


def film(study: str) -> Dataset:
    pixels = np.random.default_rng(1).integers(0, 4000, (200, 200), dtype=np.uint16)
    return radiograph(pixels, study=study)


def made(node: Node) -> list[Dataset]:
    return [dcmread(BytesIO(path.read_bytes())) for path in node.spool.reports.rglob("*.dcm")]


def test_a_film_and_a_ct_in_one_study_make_one_report_of_two_parts(node: Node) -> None:
    uid = node.receive(film("both"))
    assert node.receive(section(2, study="both")) == uid
    assert node.work() == 1
    found = show(node.db, uid)
    assert found is not None
    assert found.study.state == "delivered"
    result = found.result
    assert result is not None
    (further,) = result["further"]
    assert (result["model"]["name"], further["model"]["name"]) == ("chest", "sections")
    assert result["age"] != further["age"]
    reports = [ds for ds in made(node) if ds.Modality == "SR"]
    assert {str(ds.SOPClassUID) for ds in reports} == set(REPORTS)
    text = json.dumps(reports[0].to_json_dict())
    assert all(name in text for name in ("chest", "sections"))
    assert len(node.captures()) == 2, "of the film and of the section"
    seen = {observed["role"]: observed["model_sha256"] for observed in observations(node)}
    models = {"live": result["model"], "further": further["model"]}
    assert seen == {role: model["sha256"] for role, model in models.items()}


def observations(node: Node) -> list[dict[str, Any]]:
    with node.db.read() as connection:
        return [dict(row._mapping) for row in connection.execute(select(observation))]


def test_the_same_again_sends_no_second_report(node: Node) -> None:
    uid = node.receive(film("again"))
    node.receive(section(2, study="again"))
    node.work()
    before = len(made(node))
    requeue(node.db, uid, now=0)
    assert node.work() == 1
    assert len(made(node)) == before


def test_a_further_bundle_that_fails_does_not_fail_in_silence(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the network cannot be computed")

    uid = node.receive(film("broken"))
    node.receive(section(2, study="broken"))
    bundle = node.analyser.pipeline.bundles[1]
    monkeypatch.setattr(bundle.estimator, "predict", broken)
    with pytest.raises(RuntimeError):  # ends the process; the study is claimed again by another
        node.work()
    found = show(node.db, uid)
    assert found is not None
    assert (found.study.state, found.result) == ("analysing", None)


def test_what_was_filed_before_the_bundle_came_is_analysed(
    tmp_path: Path, bundles: tuple[Path, Path]
) -> None:
    chest, sections = (Estimator(folder, device="cpu") for folder in bundles)
    before = Node(tmp_path, chest, settings(bundles[0]))
    uid = before.receive(section(1, study="ct"))
    assert before.work() == 1
    before.db.close()
    after = Node(tmp_path, chest, settings(*bundles), further=[sections])
    skipped = show(after.db, uid)
    assert skipped is not None
    assert (skipped.study.state, skipped.study.reason_code) == ("skipped", "no_image")
    assert analyse_classes(after.db, analysed_classes(after.config.model), now=0) == 1
    assert after.work() == 1
    found = show(after.db, uid)
    assert found is not None
    assert found.result is not None
    assert found.result["model"]["name"] == "sections"
    after.db.close()


def test_the_receiver_takes_what_a_route_names(bundles: tuple[Path, Path]) -> None:
    config = parse_config(settings(*bundles))
    assert CTImageStorage in supported_syntaxes(tuple(analysed_classes(config.model)))
    assert CTImageStorage not in supported_syntaxes()
