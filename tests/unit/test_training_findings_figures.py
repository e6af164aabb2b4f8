"""Figures of findings and of boxes: known answers give known figures."""

from pathlib import Path

import numpy as np
import pytest

from training.data.findings import NAMES
from training.data.images import LabelledImage
from training.data.tables import DataError
from training.measure import boxes, findings
from training.measure.boxes import HITS, OVERLAP, RANDOM, USUAL, Boxed, Pointed
from training.measure.figures import find
from training.measure.findings import AUC, BRIER, ERROR, MEAN_AUC, POSITIVES, FindingsTable

NAN = float("nan")
LABELS = ("Mass", "Nodule", "Hernia")
COUNT = 400


@pytest.fixture(scope="module")
def table() -> FindingsTable:
    """Mass is told apart, Nodule is not and is unknown of some; of Hernia there are three."""
    rng = np.random.default_rng(0)
    known = np.zeros((COUNT, 3))
    known[:, 0], known[:, 1] = rng.random(COUNT) < 0.3, rng.random(COUNT) < 0.3
    known[:3, 2] = 1
    known[::5, 1] = NAN
    said = np.full((COUNT, 3), 0.3)
    said[:, 0] = np.where(known[:, 0] == 1, 0.8, 0.2)
    patients = np.array([str(n // 2) for n in range(COUNT)])
    without = np.full((COUNT, 3), 0.5)
    return FindingsTable("set", patients, known, said, said, without, np.array([0.3, 0.3, 0.0]))


def test_a_label_that_is_told_apart_has_an_auc_of_one(table: FindingsTable) -> None:
    found = findings.measure(table, LABELS)
    mass, nodule = (find(found, "set", AUC, group=label) for label in ("Mass", "Nodule"))
    assert mass is not None
    assert nodule is not None
    assert (mass.value, mass.low, mass.high, mass.baseline) == (1.0, 1.0, 1.0, 0.5)
    assert (nodule.value, nodule.n) == (0.5, COUNT - COUNT // 5)


def test_the_mean_leaves_out_what_has_hardly_a_positive(table: FindingsTable) -> None:
    found = findings.measure(table, LABELS)
    mean = find(found, "set", MEAN_AUC, group="2 labels")
    positives = find(found, "set", POSITIVES, group="Hernia")
    assert mean is not None
    assert positives is not None
    assert (mean.value, mean.baseline, positives.value) == (0.75, 0.5, 3)


def test_a_probability_of_the_share_is_as_good_as_its_baseline(table: FindingsTable) -> None:
    found = findings.measure(table, LABELS)
    nodule = find(found, "set", BRIER, group="Nodule")
    mass = find(found, "set", BRIER, group="Mass")
    error = find(found, "set", ERROR, group="Mass")
    assert nodule is not None
    assert mass is not None
    assert error is not None
    assert nodule.baseline == pytest.approx(nodule.value, abs=0.005)
    assert mass.value == pytest.approx(0.04)
    assert mass.baseline == pytest.approx(0.21, abs=0.03)
    assert error.value == pytest.approx(0.2)


def test_age_sex_and_view_say_what_they_can() -> None:
    """A finding of the old alone is told by the age; one that nobody has by its share."""
    people = [
        LabelledImage("p", "nih", f"{age}", "train", float(age), 1.0, 1.0, 1.0, "PA", "",
                      ("Emphysema" if age > 60 else "No Finding",))
        for age in range(20, 100)
    ]  # fmt: skip
    people[3] = LabelledImage("p", "nih", "x", "train", NAN, NAN, 1.0, 1.0, "", "", ("No Finding",))
    said = findings.without_image(people, people)
    at = NAMES.index("Emphysema")
    old = np.array([item.age > 60 for item in people])
    assert said[old, at].min() > said[~old, at].max() - 0.05
    assert (said[:, NAMES.index("Hernia")] == 0).all()


SIDE = 10


def pointed(name: str, count: int, *, right: bool) -> Pointed:
    """Boxes in the upper left quarter; maps that show just that, or the lower right."""
    boxed = [Boxed(f"{n}", "Mass", ((0.0, 0.0, 0.5, 0.5),)) for n in range(count)]
    maps = np.zeros((count, SIDE, SIDE), np.float32)
    place = slice(0, 5) if right else slice(5, 10)
    maps[:, place, place] = 1.0
    return Pointed(name, boxed, [f"{n}" for n in range(count)], maps)


def test_maps_of_the_box_hit_and_overlap() -> None:
    found = list(boxes.measure(pointed("right", 6, right=True), pointed("other", 4, right=True)))
    values = {figure.quantity: figure.value for figure in found}
    assert values[HITS] == values[OVERLAP] == 1.0
    assert values[f"{HITS}, {RANDOM}"] == 0.25
    assert values[f"{HITS}, {USUAL}"] == values[f"{OVERLAP}, {USUAL}"] == 1.0


def test_maps_of_elsewhere_and_maps_of_nothing_miss() -> None:
    wrong = pointed("wrong", 6, right=False)
    nothing = Pointed("none", wrong.boxed, wrong.patients, np.zeros_like(wrong.maps))
    for part in (wrong, nothing):
        values = {f.quantity: f.value for f in boxes.measure(part, wrong)}
        assert values[HITS] == values[OVERLAP] == 0.0


def test_the_usual_place_is_that_of_other_patients() -> None:
    """One patient's boxes, however many, say nothing of that patient."""
    part = pointed("x", 3, right=True)
    elsewhere = Boxed("2", "Mass", ((0.5, 0.5, 1.0, 1.0),))
    lone = Pointed("x", [*part.boxed[:2], elsewhere], ["a", "a", "b"], part.maps)
    usual = boxes.usual_places(lone)
    assert usual[0, 8, 8] == usual[1, 8, 8] == 1.0
    assert usual[2, 2, 2] == 1.0
    assert usual[2, 8, 8] == 0.0


def test_the_share_of_the_maximum_is_the_best_of_the_other_boxes() -> None:
    ramp = np.tile(np.linspace(1.0, 0.1, SIDE, dtype=np.float32), (2, SIDE, 1))
    left = Boxed("0", "Mass", ((0.0, 0.0, 0.3, 1.0),))
    part = Pointed("ramp", [left, left], ["a", "b"], ramp)
    share = boxes.best_share(part.maps, part.masks)
    assert share == 0.8
    assert boxes.overlaps(part.maps, part.masks, share).tolist() == [1.0, 1.0]


def test_a_box_thinner_than_a_pixel_still_covers_one() -> None:
    assert Boxed("0", "Mass", ((0.5, 0.5, 0.501, 0.501),)).mask(4).sum() == 1


def test_tables_of_boxes_are_read_by_image_and_label(tmp_path: Path) -> None:
    (tmp_path / "nih_boxes.csv").write_text(
        "image,finding,x,y,w,h,have,have_rsna\n"
        "1.png,Infiltrate,0,0,512,512,cxr/nih/1.webp,\n"
        "1.png,Infiltrate,512,0,512,512,cxr/nih/1.webp,\n"
        "1.png,Mass,0,0,256,1024,cxr/nih/1.webp,\n"
        "2.png,Mass,0,0,1,1,,\n"
    )
    infiltration, mass = boxes.boxes_of_nih(tmp_path)
    assert (infiltration.image, infiltration.label) == ("1", "Infiltration")
    assert infiltration.boxes == ((0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5))
    assert mass.boxes == ((0.0, 0.0, 0.25, 1.0),)
    (tmp_path / "rsna_pneumonia_boxes.csv").write_text(
        "image,x,y,width,height,have\na,1024,0,x,1,cxr/rsna/a.webp\n"
    )
    with pytest.raises(DataError, match=r"rsna_pneumonia_boxes\.csv:2: width"):
        boxes.boxes_of_rsna(tmp_path)
