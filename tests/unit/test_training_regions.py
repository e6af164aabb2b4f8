"""Body regions of slices: index, folds, labels, batches, loss, and the one command for a site."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom import uid as uids
from pydicom.dataset import FileDataset, FileMetaDataset

from dicom_ai_node.answers import Category
from dicom_ai_node.inference.bundle import load_manifest
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import CategoryHead
from training.__main__ import main as training
from training.data import augment_slices
from training.data.augment_slices import Kinds, Strength
from training.data.regions import (
    Slice,
    dealt,
    merged,
    read_index,
    right,
    values,
    with_stated,
    write_index,
)
from training.data.slices import inputs
from training.data.slices import values as pixels
from training.data.tables import DataError
from training.fit import loss
from training.fit.regions import Regions, chances
from training.measure import regions as measure
from training.measure.regions import RegionTable, nearest_centroid
from training.publish import region_card
from training.readers.ct_mr import SEEN
from training.readers.region_folders import plane


def one(terms: str, patient: str, *, name: str = "", modality: str = "CT", use: str = "") -> Slice:
    """A line of an index."""
    name = name or f"{patient} {terms}"
    found = frozenset(terms.split())
    return Slice(name, Path(name), found, modality=modality, patient=patient, use=use)


def several(terms: str, people: int) -> Iterator[Slice]:
    """An image each of so many patients."""
    return (one(terms, f"{terms} {person}") for person in range(people))


def test_a_rare_region_goes_to_its_parent_and_a_rarer_one_nowhere() -> None:
    """Fifteen patients stand for themselves; without a parent one a fold is enough."""
    slices = [
        *several("CHEST", 15), *several("HEART", 14), *several("KNEE", 15), *several("FOOT", 3),
        *several("THIGH", 3), *several("TSPINE", 5), *several("CSPINE", 4),
    ]  # fmt: skip
    into, lost = merged(slices)
    assert into == {
        "CHEST": "CHEST", "HEART": "CHEST", "KNEE": "KNEE", "FOOT": "LOWERLIMB",
        "THIGH": "LOWERLIMB", "TSPINE": "TSPINE",
    }  # fmt: skip
    assert lost == ["NECK"]
    assert values(into) == ("CHEST", "TSPINE", "LOWERLIMB", "KNEE")


def test_an_image_of_the_head_is_any_region_of_the_head() -> None:
    """Where the head's regions stand for themselves, HEAD is none of the values."""
    slices = [t for name in ("BRAIN", "FACE", "ORBIT", "HEAD", "CHEST") for t in several(name, 15)]
    into, _ = merged(slices)
    found = values(into)
    assert "HEAD" not in found
    assert {found[i] for i in right({"HEAD"}, into, found)} == {"BRAIN", "FACE", "ORBIT"}
    assert {found[i] for i in right({"CHEST", "FACE"}, into, found)} == {"CHEST", "FACE"}
    assert right({"KNEE"}, into, found) == []


def test_no_patient_stands_in_two_folds_and_each_fold_has_each_region() -> None:
    """Nor do folds depend on the order of the index."""
    slices = [
        one(terms, f"p{person}", name=f"{terms} {person} {image}")
        for person in range(40)
        for image in range(1 + person % 3)
        for terms in (("CHEST",), ("KNEE",), ("CHEST", "ABDOMEN"))[person % 3]
    ]
    folds = dealt(slices)
    by_person: dict[str, set[int]] = {s.person: set() for s in slices}
    for s, fold in zip(slices, folds, strict=True):
        by_person[s.person].add(fold)
    assert all(len(found) == 1 for found in by_person.values())
    for fold in range(5):
        shown = {t for s, f in zip(slices, folds, strict=True) if f == fold for t in s.terms}
        assert shown == {"CHEST", "KNEE", "ABDOMEN"}
    assert dealt(slices[::-1])[::-1] == folds
    outside = [*slices, one("CHEST", "x", use="train"), one("CHEST", "y", use="test")]
    assert dealt(outside)[-2:] == [-1, -1]
    others = [one("", f"z{number}", modality="") for number in range(9)]
    assert set(dealt([*slices, *others])[len(slices) :]) <= set(range(5))


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And a term that the standard does not define is an error that names the line."""
    written = [one("CHEST ABDOMEN", "a"), one("", "b", use="train", modality="MR")]
    write_index(written, tmp_path / "index.csv")
    assert [s.terms for s in read_index(tmp_path / "index.csv")] == [s.terms for s in written]
    assert read_index(tmp_path / "index.csv")[1].modality == "MR"
    (tmp_path / "bad.csv").write_text("path,terms\na.png,BELLY\n")
    with pytest.raises(DataError, match=r"bad\.csv:2: terms: expected defined terms"):
        read_index(tmp_path / "bad.csv")


def test_what_came_with_an_image_can_stand_for_its_label() -> None:
    """Images without are left out."""
    stated = Slice("a", Path("a"), frozenset({"CHEST"}), stated="HEART")
    assert [s.terms for s in with_stated([stated, one("KNEE", "b")])] == [{"HEART"}]


def test_the_loss_is_of_all_right_values_together() -> None:
    """An image without a right value counts for nothing."""
    head = Regions({}, ("CHEST", "ABDOMEN", "PELVIS")).head
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    p = logits.softmax(dim=1)
    expected = -(torch.log(p[0, 0] + p[0, 1]) + torch.log(p[1, 2])) / 2
    assert loss.part(head, logits, targets) == pytest.approx(expected)
    assert loss.part(head, logits[2:], targets[2:]) == 0


def test_rare_regions_and_patients_with_few_images_are_drawn_more_often() -> None:
    """What is no slice gets a share of its own."""
    slices = [
        *(one("CHEST", "a", name=f"a{i}") for i in range(16)),
        *(one("CHEST", f"b{i}") for i in range(16)), one("KNEE", "c"), one("", "d"),
    ]  # fmt: skip
    regions = Regions({"CHEST": "CHEST", "KNEE": "KNEE"}, ("CHEST", "KNEE"))
    found = chances(slices, regions.targets(slices))
    assert found.sum() == pytest.approx(1)
    assert found[16] == pytest.approx(4 * found[0])
    assert found[-2] == pytest.approx(np.sqrt(32) * found[16])
    assert found[-1] == pytest.approx(0.12)


def test_augmented_slices_are_of_three_channels_and_montages_are_no_slices() -> None:
    """An image in HU has other channels in each window; a picture the same in all three."""
    hu = torch.from_numpy(np.random.default_rng(0).uniform(-1000, 1000, (24, 40, 40))).float()
    kinds = Kinds(torch.ones(24) == 1, torch.ones(24) == 1, torch.zeros(24) == 1)
    rng = torch.Generator().manual_seed(0)
    x, spoilt = augment_slices.batch(hu, kinds, 32, rng, Strength(montage=0, page=0, noise=0))
    assert x.shape == (24, 3, 32, 32)
    assert x.min() >= 0
    assert x.max() <= 1
    assert not spoilt.any()
    alike = torch.isclose(x[:, 0], x[:, 1], atol=1e-4).flatten(1).all(dim=1)
    assert 0 < alike.sum() < 24
    _, spoilt = augment_slices.batch(hu, kinds, 32, rng, Strength(montage=1, page=0))
    assert spoilt.all()


def test_pictures_of_ct_taken_for_hu_have_air_and_bone_where_they_were_clipped() -> None:
    """Black is air in every window, white bone."""
    grey = torch.zeros(4, 40, 40)
    grey[:, :, 20:] = 1
    kinds = Kinds(torch.zeros(4) == 1, torch.ones(4) == 1, torch.zeros(4) == 1)
    still = Strength(
        degrees=0, scale=0, shift=0, gamma=0, noise=0, as_hu=1, hidden=0, written=0, coarse=0,
        montage=0, page=0,
    )  # fmt: skip
    x, _ = augment_slices.batch(grey, kinds, 40, torch.Generator().manual_seed(1), still)
    assert x[:, 1, :, :16].max() < 0.2
    assert x[:, 1, :, 24:].min() > 0.8


def test_figures_count_every_right_region_and_areas_that_meet() -> None:
    """A heart that is called a chest is wrong as a region and right as an area."""
    slices = [one("CHEST", f"p{i}") for i in range(4)]
    table = RegionTable(
        slices, ("CHEST", "HEART", "KNEE"),
        np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.5, 0.4, 0.1]]),
        np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0]], np.float32), np.ones(4, np.bool_),
    )  # fmt: skip
    found = {f.quantity: f.value for f in measure.figures(table, "x") if not f.group}
    assert found[measure.ACCURACY] == 0.5
    assert found[measure.AREA] == 0.75
    assert found[measure.accuracy_at(0.7)] == pytest.approx(1 / 3, abs=1e-4)
    recall = [f for f in measure.figures(table, "x") if f.quantity == measure.RECALL]
    assert [(f.group, f.value, f.n) for f in recall] == [("region: CHEST", 0.3333, 3)]
    assert measure.confusion(table).tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_j6_doubts_a_header_by_the_areas_that_the_image_may_show() -> None:
    """A chest is no heart elsewhere on the body; of a whole body no header is wrong."""
    slices = [one("CHEST", "a"), one("CHEST", "b"), one("KNEE", "c"), one("WHOLEBODY", "d")]
    table = RegionTable(
        slices, ("CHEST", "HEART", "KNEE"),
        np.array([[0.99, 0, 0.01], [0.01, 0, 0.99], [0.03, 0.02, 0.95], [0.5, 0.25, 0.25]]),
        np.zeros((4, 3), np.float32), np.ones(4, np.bool_),
    )  # fmt: skip
    assert table.doubted("CHEST", 0.02).tolist() == [False, True, False, False]
    assert table.doubted("KNEE", 0.02).tolist() == [True, False, False, False]
    assert not table.doubted("KNEE", 0.005)[2:].any()
    right, wrong = table.alerts(0.02)
    assert right.tolist() == [0, 1, 0, 0]
    assert wrong[:3].tolist() == [1, 0, 0]
    assert np.isnan(wrong[3])


def test_the_nearest_centroid_is_of_the_other_folds() -> None:
    """Two clouds that are apart are told from each other."""
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    features = rng.normal(size=(40, 3)) + 6 * truth[:, None]
    targets = np.eye(2, dtype=np.float32)[truth]
    assert nearest_centroid(features, targets, np.arange(40) % 5).tolist() == truth.tolist()


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        ([1, 0, 0, 0, 1, 0], "axial"), ([1, 0, 0, 0, 0, -1], "coronal"),
        ([0, 1, 0, 0, 0, -1], "sagittal"), ([], ""),
    ],
)  # fmt: skip
def test_the_plane_is_that_of_the_normal(orientation: list[float], expected: str) -> None:
    """PS3.3 C.7.6.2.1.1."""
    assert plane(orientation) == expected


def test_what_was_seen_of_the_shared_images_is_a_table_of_defined_terms() -> None:
    """So that it can be merged with anybody's."""
    lines = SEEN.read_text().splitlines()
    names = {line.partition(",")[0] for line in lines[1:]}
    terms = {term for line in lines[1:] for term in line.partition(",")[2].split()}
    assert len(names) == len(lines) - 1
    slices = [one(term, "a") for term in terms - {"NONE", "UNCLEAR"}]
    assert {"CHEST", "KNEE"} <= {t for s in slices for t in s.terms}


def _ct(file: Path, region: str, rng: np.random.Generator) -> None:
    """A CT of 48 x 48 pixels that looks a little like the region."""
    rows, columns = np.indices((48, 48)) - 24
    hu = np.full((48, 48), -1000.0)
    if region == "KNEE":
        hu[np.hypot(rows, columns - 12) < 8] = hu[np.hypot(rows, columns + 12) < 8] = 300
    else:
        hu[np.hypot(rows, columns) < 20] = 40
    if region == "CHEST":
        hu[np.hypot(rows, columns - 9) < 8] = hu[np.hypot(rows, columns + 9) < 8] = -850
    if region == "NONE":
        hu[:] = rng.uniform(-1000, 1000)
    hu += rng.normal(0, 20, hu.shape)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uids.CTImageStorage
    meta.MediaStorageSOPInstanceUID = uids.generate_uid()
    image = FileDataset(file, {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = uids.CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.Modality, image.PatientSex, image.PatientAge = "CT", "F", "057Y"
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    image.Rows, image.Columns, image.SamplesPerPixel = 48, 48, 1
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelData = np.clip(hu + 1024, 0, 4000).astype(np.uint16).tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(file)


@pytest.mark.slow
def test_a_site_trains_its_own_from_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands: an index of the folders, and a bundle that answers."""
    rng = np.random.default_rng(0)
    for region in ("BRAIN", "CHEST", "KNEE", "NONE"):
        for person in range(5):
            for number in range(2):
                file = tmp_path / "site" / region / f"p{person}" / "s1" / f"{number}.dcm"
                _ct(file, region, rng)
    config = tmp_path / "run.toml"
    config.write_text(
        f'start = "random"\nsteps = 3\nbatch = 8\nout = "{tmp_path}/runs"\npixels = 40\n'
        "sides = [32]\nuntil = [1.0]\nlow_resolution = [0]\n"
    )
    index, bundle = tmp_path / "site" / "regions.csv", tmp_path / "site-region"

    def run(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["training", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            training()
        assert ended.value.code == 0

    run("region_index", "folders", tmp_path / "site", "--out", index)
    slices = read_index(index)
    assert len(slices) == 40
    assert {(s.age, s.sex, s.plane, s.modality) for s in slices} == {("57", "F", "axial", "CT")}
    run("regions", index, "--config", config, "--bundle", bundle, "--version", "1.0")
    run("region_plots", tmp_path / "runs" / "out-of-fold.csv", "--out", tmp_path / "plots")
    assert (tmp_path / "plots" / "regions-CT.png").stat().st_size > 10_000
    held = [replace(one, use="test") for one in slices if "/p4/" in one.name]
    write_index(held, tmp_path / "site" / "test.csv")
    run("region_test", tmp_path / "site" / "test.csv", "--bundle", bundle, "--write")
    estimator = Estimator(bundle)
    first = estimator.predict(inputs(slices[:3], 32).astype(np.float32))[0]
    answer = first.answers["region"]
    assert isinstance(answer, Category)
    # Five patients are few for a region of its own.
    assert set(answer.probabilities) == {"HEAD", "CHEST", "LOWERLIMB"}
    assert estimator.manifest.spans == {"region"}
    sets = {f.dataset for f in estimator.manifest.figures}
    assert sets == {
        "folds: CT", "folds: no slices", "folds: phantoms of shapes that trained",
        "folds: phantoms of other shapes", "folds, changed: CT", "test, site: CT",
        "test, site: no slices",
    }  # fmt: skip
    card = (bundle / "CARD.md").read_text()
    assert "Not a medical device" in card
    assert "| LOWERLIMB |" in card
    assert pixels(slices[:2], 40).absolute.all()
    header = pydicom.dcmread(slices[0].file)
    assert "BodyPartExamined" not in header


def test_card_and_docs_say_what_the_manifest_of_the_shipped_bundle_says() -> None:
    """Both are written by commands: the regions with their codes, and every data set's figures."""
    root = Path(__file__).resolve().parents[2]
    manifest = load_manifest(root / "models" / "ct-mr-region")
    datasets = list(dict.fromkeys(figure.dataset for figure in manifest.figures))
    page = (root / "docs" / "body-region.md").read_text()
    assert (root / "models" / "ct-mr-region" / "CARD.md").read_text() == region_card.text(manifest)
    assert region_card.terms(manifest) in page
    assert region_card.overall(manifest.figures, datasets) in page
    assert {row.attribute for row in manifest.heads if isinstance(row, CategoryHead)} == {
        "BodyPartExamined"
    }
