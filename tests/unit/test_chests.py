"""Chests of one patient: embedded, kept where the configuration asks for it, compared, forgotten.

The bundle is made here, of random weights: to it a picture is like itself alone.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from sqlalchemy import select

from dicom_ai_node.config import parse_config
from dicom_ai_node.decide.conflicts import held_against_image
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.errors import BundleError, ConfigError
from dicom_ai_node.inference.bundle import MANIFEST, verify_in_use
from dicom_ai_node.inference.embedding import SIZE as NUMBERS
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import HEADS
from dicom_ai_node.likeness import Likeness
from dicom_ai_node.store.patients import forget_chests
from dicom_ai_node.store.queries import StudyDetail
from dicom_ai_node.store.tables import study_chest
from dicom_ai_node.types import Severity
from tests.builders.analysing import Node
from tests.builders.bundles import SIZE, invented_bundle
from tests.builders.checks import header_check
from tests.builders.pixels import quantised, scene


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invented_bundle(tmp_path_factory.mktemp("bundles") / "persons", HEADS, embeds=True)


def node(folder: Path, bundle: Path, *, compares: bool = True) -> Node:
    folder.mkdir()
    estimator = Estimator(bundle, device="cpu", embeds=compares)
    return Node(folder, estimator, {"model": {"compare_chests": compares}})


def study(number: int, picture: int, patient: str = "P1") -> Dataset:
    """The study of that number of a patient, and whose chest it shows."""
    values = quantised(scene(seed=picture), 12)
    return radiograph(values, study=f"chest {number}", PatientID=patient)


def mix_ups(detail: StudyDetail) -> list[dict[str, Any]]:
    """The findings H3 of a study."""
    assert detail.result is not None
    return [one for one in detail.result["audit"]["findings"] if one["rule"] == "H3"]


def test_an_embedding_has_length_one_and_does_not_depend_on_its_neighbours(bundle: Path) -> None:
    images = np.random.default_rng(3).random((3, SIZE, SIZE), dtype=np.float32)
    estimator = Estimator(bundle, device="cpu", embeds=True)
    chests = [one.embedding for one in estimator.predict(images)]
    alone = estimator.predict(images[1:2])[0].embedding
    assert all(chest is not None and len(chest.vector) == NUMBERS for chest in chests)
    assert alone is not None
    assert chests[1] is not None
    assert chests[1].similarity(alone) == pytest.approx(1.0, abs=1e-5)
    assert [one.embedding for one in Estimator(bundle, device="cpu").predict(images)] == [None] * 3


def test_a_chest_that_is_not_the_one_of_the_other_studies_is_found(
    tmp_path: Path, bundle: Path
) -> None:
    own = node(tmp_path / "node", bundle)
    first, same = own.analyse(study(1, 1)), own.analyse(study(2, 1))
    other, elsewhere = own.analyse(study(3, 2)), own.analyse(study(4, 2, "P2"))
    for detail in (first, same, elsewhere):
        assert mix_ups(detail) == []
    (found,) = mix_ups(other)
    assert found["severity"] == "warning"
    assert "does not look like that of 2 other studies of the patient" in found["reason"]
    assert not {"embedding", "vector"} & set(re.findall(r"\w+", json.dumps(other.result)))
    assert len(own.db.rows(select(study_chest))) == 4
    assert forget_chests(own.db) == 4
    assert forget_chests(own.db) == 0


def test_nothing_is_kept_unless_the_configuration_asks_for_it(tmp_path: Path, bundle: Path) -> None:
    own = node(tmp_path / "node", bundle, compares=False)
    own.analyse(study(1, 1))
    other = own.analyse(study(2, 2))
    assert own.db.rows(select(study_chest)) == []
    assert mix_ups(other) == []


def test_a_bundle_that_embeds_nothing_is_refused_where_chests_are_compared(
    tmp_path: Path, bundle: Path
) -> None:
    plain = invented_bundle(tmp_path / "plain", HEADS)
    with pytest.raises(ConfigError, match=r"model\.compare_chests = true: no bundle embeds"):
        verify_in_use(parse_config(_model(plain)).model)
    assert verify_in_use(parse_config(_model(plain, bundle)).model)[1].embedding is not None


def _model(first: Path, *further: Path) -> dict[str, dict[str, object]]:
    names = [str(path) for path in further]
    return {"model": {"bundle": str(first), "further": names, "compare_chests": True}}


def test_a_bundle_whose_tensors_lack_the_layer_is_refused(tmp_path: Path, bundle: Path) -> None:
    plain = invented_bundle(tmp_path / "plain", HEADS)
    part = json.loads((bundle / MANIFEST).read_text())["embedding"]
    whole = json.loads((plain / MANIFEST).read_text()) | {"embedding": part}
    (plain / MANIFEST).write_text(json.dumps(whole))
    with pytest.raises(BundleError, match=r"the embedding: layer\.weight is missing"):
        Estimator(plain, device="cpu", embeds=True)


@pytest.mark.parametrize(
    ("deviation", "ratio", "says"),
    [
        (-9.0, -2.5, "the chest does not look like that of another study of the patient"),
        (0.5, 1.5, ""),
        (-2.0, -0.5, ""),  # a rarity, and alone no reason to look
    ],
)
def test_what_h3_says_of_a_chest_alone(deviation: float, ratio: float, says: str) -> None:
    policy = parse_config({}).policy
    likeness = Likeness(1, deviation, ratio)
    check = held_against_image(header_check(), [], policy, (), likeness)
    assert [one.rule for one in check.findings] == (["H3"] if says else [])
    assert all(says in one.reason for one in check.findings)
    assert all(one.severity is Severity.WARNING for one in check.findings)
    assert held_against_image(header_check(), [], policy, ("H3",), likeness).findings == ()
