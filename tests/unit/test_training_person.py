"""Embeddings of people: fitted, measured, ranked and packed, on people that are made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.answers import Prediction
from dicom_ai_node.decide.images import Gates
from dicom_ai_node.inference.bundle import EmbeddingPart, load_manifest
from dicom_ai_node.inference.embedding import GRID, SIZE
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import HEADS
from dicom_ai_node.likeness import Embedding, Scale
from tests.builders import answers
from tests.builders.bundles import invented_bundle
from training.fit import person as fit
from training.measure import person as measure
from training.measure.person import Person
from training.publish.person import pack

WIDTH = 160
SCALE = Scale(centre=0.9, spread=0.05, intercept=-5.0, slope=10.0, bounds=(-3.0, 3.0))


def people(count: int, images: int = 3) -> list[Person]:
    return [
        Person(f"p{at}", "PA" if image else "AP", "FM"[at % 2], 40.0 + at % 7, "nih")
        for at in range(count)
        for image in range(images)
    ]


def features(count: int, images: int = 3, seed: int = 0) -> np.ndarray:
    """Of each person a place, and noise that is as large in other directions."""
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(count, 40)).repeat(images, axis=0)
    noise = rng.normal(size=(count * images, WIDTH)) * 2
    noise[:, :40] = place + 0.3 * rng.normal(size=place.shape)
    return noise.astype(np.float32)


def rate(layer: fit.Layer | None, hard: bool = False) -> float:
    them, seen = people(100), features(100, seed=1)
    embeddings = layer.embed(seen) if layer else seen / np.linalg.norm(seen, axis=1)[:, None]
    same, other = measure.paired(them, hard=hard)
    found = measure.eer(them, embeddings, same, other)
    assert found.low <= found.value <= found.high
    return found.value


def test_the_layer_finds_what_tells_people_apart_on_people_it_never_saw() -> None:
    names = np.array([one.patient for one in people(300)])
    layer = fit.fit(features(300), names)
    assert layer.weight.shape == (SIZE, WIDTH)
    assert rate(layer) < 0.02
    assert rate(layer, hard=True) < 0.02
    assert rate(None) > 0.15


def test_without_patients_of_two_images_nothing_is_fitted() -> None:
    with pytest.raises(ValueError, match="patients with two or more"):
        fit.fit(features(300, 1), np.arange(300).astype(str))


def test_impostors_share_the_view_and_the_hard_ones_sex_and_age() -> None:
    them = people(40)
    same, other = measure.paired(them, hard=True)
    assert all(them[a].patient == them[b].patient for a, b in same)
    for a, b in other:
        assert them[a].patient != them[b].patient
        assert them[a].sex == them[b].sex
        assert abs(them[a].age - them[b].age) <= measure.YEARS


def test_where_no_age_is_known_no_impostor_is_hard() -> None:
    them = [Person(f"p{at // 2}", "AP", "F", float("nan"), "nih") for at in range(8)]
    same, other = measure.paired(them, hard=True)
    assert same.shape == (4, 2)
    assert other.shape == (0, 2)
    assert len(same[other[:, 0]]) == 0


def test_the_scale_is_a_likelihood_ratio_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    same, other = rng.normal(0.6, 0.1, 4000), rng.normal(0.2, 0.1, 4000)
    scale = fit.scale(same, other, 500)
    assert scale.centre == pytest.approx(0.6, abs=0.01)
    assert scale.spread == pytest.approx(0.1 * 1.2816 / 1.4149, abs=0.01)
    # Of two normal distributions of one variance the log ratio is a line, 0 in the middle.
    assert scale.intercept + scale.slope * 0.4 == pytest.approx(0.0, abs=0.1)
    assert scale.slope == pytest.approx(0.4 / 0.1**2 / np.log(10), rel=0.1)
    assert scale.bounds == (-2.7, 2.7)


def test_the_chest_ranks_mix_ups_that_age_and_sex_do_not_tell() -> None:
    them = people(60)
    said = [
        Prediction(
            {
                "age": answers.age(one.age, 5.0, (one.age - 10, one.age + 10)),
                "sex": answers.sex(0.99 if one.sex == "F" else 0.01),
            },
            {},
            1.0,
        )
        for one in them
    ]
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, SIZE)).repeat(3, axis=0)
    centres += 0.2 * rng.normal(size=centres.shape)
    unit = centres / np.linalg.norm(centres, axis=1)[:, None]
    chests = [Embedding("a", tuple(vector.tolist()), SCALE) for vector in unit]
    gates = Gates({}, {}, 0.0, (10.0, 90.0))
    bare, with_chest = measure.ranked(them, said, chests, gates, share=0.05, alike=True, draws=2)
    assert bare.auc.value < 0.7
    assert with_chest.auc.value > 0.9


def test_a_layer_is_packed_and_loads(tmp_path: Path) -> None:
    bundle = invented_bundle(tmp_path / "plain", HEADS)
    before = load_manifest(bundle)
    width = 64 * GRID * GRID
    layer = fit.Layer(np.eye(SIZE, width, dtype=np.float32), np.ones(SIZE, np.float32))
    for _ in range(2):  # a second one takes the place of the first
        pack(bundle, layer, EmbeddingPart(channels=64, scale=SCALE, patients=500))
    after = load_manifest(bundle)
    assert after.embedding is not None
    assert after.sha256 != before.sha256
    assert json.loads(before.model_dump_json(exclude={"sha256"})) == json.loads(
        after.model_dump_json(exclude={"sha256", "embedding"})
    )
    image = np.zeros((1, after.size, after.size), np.float32)
    (said,) = Estimator(bundle, device="cpu", embeds=True).predict(image)
    assert said.embedding is not None
