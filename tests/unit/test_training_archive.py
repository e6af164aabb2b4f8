"""What an archive's images are for, and that drawing them from disk changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import save_file

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.network import Network
from tests.builders.layouts import picture
from training.data import augment, roles
from training.data.folds import read_folds, write_folds
from training.data.images import Data, Images, LabelledImage, MappedImages
from training.data.index import IndexRow, write_index
from training.data.roles import ArchiveConfig
from training.data.tables import DataError
from training.fit import config, start
from training.fit.batches import Batches
from training.fit.config import RunConfig, archived, member

SIDE = 64
CPU = torch.device("cpu")


def row(
    name: str, patient: str, view: str = "PA", age: float | None = 50.0, sex: str = "F"
) -> IndexRow:
    return IndexRow(f"{name}.png", "d", f"d_{patient}" if patient else "", age, sex, view)


ROWS = [
    row(f"{patient}{view}", str(patient), view) for patient in range(6) for view in ("PA", "AP")
]
ROWS += [row(f"lateral{patient}", str(patient), "LATERAL") for patient in range(6)]
ROWS += [
    row("other", "0", "OTHER"),
    row("unknown", "0", ""),
    row("unlabelled", "1", age=None, sex=""),
    row("old", "0", age=104.0),
]


@pytest.fixture
def site(tmp_path: Path) -> RunConfig:
    """Six patients, the odd ones in fold 1; knees; another hospital, which had patient 2 too."""
    for one in ROWS:
        picture(tmp_path / one.image, len(one.image) + ord(one.image[0]), side=SIDE)
    write_index(ROWS, tmp_path / "index.csv")
    write_folds(ROWS, [int(one.patient[2:]) % 2 for one in ROWS], tmp_path / "folds.csv")
    knees = [IndexRow(f"knees/{n}.png", "knees") for n in range(12)]
    away = [row("away/a", "7"), row("away/b", "2"), row("away/c", "8", "LATERAL")]
    away += [row("away/d", "9", age=None, sex=""), row("away/e", "10")]
    for one in (*knees, *away):
        picture(tmp_path / one.image, ord(one.image[-5]), side=SIDE)
    write_index(knees, tmp_path / "knees.csv")
    write_index(away, tmp_path / "away.csv")
    (tmp_path / "twins.json").write_text('{"pairs": [["0PA.png", "away/e.png", 3]]}')
    archive = ArchiveConfig(
        index=(str(tmp_path / "index.csv"),),
        folds=str(tmp_path / "folds.csv"),
        others=str(tmp_path / "knees.csv"),
        external={"away": str(tmp_path / "away.csv")},
        duplicates=str(tmp_path / "twins.json"),
    )
    return RunConfig(
        out=str(tmp_path / "run"), cache=str(tmp_path / "cache"), start="random", pixels=SIDE,
        sides=(SIDE,), until=(1.0,), low_resolution=(0.3,), batch=16, gate=0.5, corrupted=0.3,
        archive=archive,
    )  # fmt: skip


def found(site: RunConfig) -> dict[str, LabelledImage | str]:
    assert site.archive is not None
    parts = roles.parts(site.archive, read_folds(Path(site.archive.folds)))
    return {
        one.image.removesuffix(".png"): item
        for part in parts
        for one, item in zip(part.rows, part.items, strict=True)
    }


def item(one: LabelledImage | str) -> LabelledImage:
    assert isinstance(one, LabelledImage), one
    return one


def test_roles(site: RunConfig) -> None:
    of = found(site)
    assert (item(of["1PA"]).role, item(of["0PA"]).role) == ("train", "held_out")
    assert (item(of["1PA"]).age, item(of["1PA"]).female, item(of["1PA"]).frontal) == (50, 1, 1)
    lateral = item(of["lateral1"])
    assert (lateral.role, lateral.frontal, lateral.chest) == ("gate", 0, 1)
    assert np.isnan(lateral.age)
    assert np.isnan(lateral.female)
    assert item(of["lateral0"]).role == "gate_test"
    assert item(of["other"]).frontal == 0
    assert np.isnan(item(of["other"]).chest)  # may show a knee
    assert of["unknown"] == roles.NO_VIEW
    assert (item(of["unlabelled"]).role, item(of["unlabelled"]).frontal) == ("gate", 1)
    assert np.isnan(item(of["old"]).age)
    assert item(of["old"]).female == 1
    knees = [item(one) for name, one in of.items() if name.startswith("knees")]
    assert {one.role for one in knees} == {"gate", "gate_test"}
    assert {one.chest for one in knees} == {0}
    assert item(of["away/a"]).role == "away"
    assert of["away/b"] == roles.NOT_APART  # its patient
    assert of["away/c"] == roles.NOT_FRONTAL
    assert of["away/d"] == roles.NO_LABELS
    assert of["away/e"] == roles.NOT_APART  # its twin


def test_views_that_are_not_stated_may_be_taken_for_frontal(site: RunConfig) -> None:
    assert site.archive is not None
    site = replace(site, archive=replace(site.archive, unknown_is_frontal=True))
    assert item(found(site)["unknown"]).role == "held_out"


def test_a_twin_outside_does_not_tie_two_patients_inside(site: RunConfig, tmp_path: Path) -> None:
    pairs = '{"pairs": [["0PA.png", "away/e.png", 3], ["1PA.png", "away/e.png", 3]]}'
    (tmp_path / "twins.json").write_text(pairs)
    assert found(site)["away/e"] == roles.NOT_APART
    (tmp_path / "twins.json").write_text('{"pairs": [["0PA.png", "1PA.png", 3]]}')
    with pytest.raises(DataError, match=r"in one fold: .* near-duplicates"):
        found(site)


@pytest.mark.parametrize("fold", [0, 1])
def test_patients_of_the_fold_that_is_held_out_are_never_drawn(site: RunConfig, fold: int) -> None:
    one = member(site, fold)
    data = archived(one)
    material = Batches(one, data, CPU)
    drawn = set[int]()
    for _ in range(30):
        drawn |= set(map(int, material.sampler.draw(16, material.sampler.shares(one, 0))))
    assert drawn == set(range(len(material.images)))
    chests = {x.patient for x in material.images.items if x.source == "d"}
    assert chests == {f"d_{patient}" for patient in range(6) if patient % 2 != fold}
    held_out = {x.patient for x in data.load(SIDE, "held_out").items}
    assert held_out == {f"d_{patient}" for patient in range(6) if patient % 2 == fold}
    assert len(data.sets) == 2
    assert one.out.endswith(f"fold-{fold}")


class InMemory:
    """The same images as an array, for what asks for nothing else."""

    def __init__(self, images: Images) -> None:
        self.images = Images(images.items, images.pixels[:])

    def training(self, side: int) -> Images:
        assert side == SIDE
        return self.images


def test_drawing_from_disk_is_drawing_from_memory(site: RunConfig) -> None:
    images = archived(site)
    on_disk = Batches(site, images, CPU)
    in_memory: Data = InMemory(on_disk.images)  # type: ignore[assignment]
    assert isinstance(on_disk.images.pixels, MappedImages)
    other = Batches(site, in_memory, CPU)
    assert isinstance(other.images.pixels, np.ndarray)
    for _ in range(3):
        x, labels = on_disk.batch(0)
        y, known = other.batch(0)
        assert torch.equal(x, y)
        assert all(torch.equal(labels[n].nan_to_num(-1), known[n].nan_to_num(-1)) for n in known)
    assert torch.equal(on_disk.for_norms(SIDE), other.for_norms(SIDE))


def test_bytes_and_floats_are_changed_alike() -> None:
    pixels = torch.randint(0, 256, (8, SIDE, SIDE), dtype=torch.uint8)
    chosen = torch.arange(8) % 2 == 0
    made = []
    for images in (pixels, pixels.float() / 255):
        rng = torch.Generator().manual_seed(3)
        spoilt = augment.corrupt(images, chosen, rng)
        made.append(augment.batch(spoilt, SIDE, rng, augment.Strength()))
    torch.testing.assert_close(*made)


def test_what_cannot_be_read_is_left_out_and_counted(
    site: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1PA.png").write_bytes(b"junk")
    (tmp_path / "0AP.png").write_bytes(b"junk")
    data = archived(site)
    trained = data.training(SIDE)
    assert "1PA.png" not in {x.path for x in trained.items}
    assert trained.items == data.trained()
    assert len(trained.pixels) == len(trained.items)
    assert all(image.any() for part in trained.floats() for image in part)
    assert "0AP.png" not in {x.path for x in data.load(SIDE, "held_out").items}
    assert f"index.csv: 2 of {len(ROWS)} images left out" in capsys.readouterr().err
    for one in ROWS:
        (tmp_path / one.image).write_bytes(b"junk")
    with pytest.raises(DataError, match="held_out: expected images that can be read, got"):
        archived(replace(site, cache=str(tmp_path / "other"))).load(SIDE, "held_out")


def test_images_stay_on_disk_and_in_the_order_of_the_items(site: RunConfig) -> None:
    data = archived(site)
    images = data.load(SIDE, "train", "held_out", "away")
    assert isinstance(images.pixels, MappedImages)
    some = images.some(4)
    assert 4 <= len(some) < 8
    assert some.items == images.items[:: len(images) // 4]
    whole = np.concatenate([*images.floats()])
    for at, one in enumerate(images.items):
        (alone,) = (x for x in data.load(SIDE, one.role).floats())
        names = [x.path for x in data.load(SIDE, one.role).items]
        np.testing.assert_array_equal(whole[at], alone[names.index(one.path)])


def test_mapped_images_are_indexed_as_an_array_is() -> None:
    stored = [np.arange(4 * n, 4 * n + 20, dtype=np.uint16).reshape(5, 2, 2) for n in (0, 50)]
    at = [np.array([4, 0, 2]), np.array([1, 1])]
    mapped = MappedImages(list(zip(stored, at, strict=True)))
    whole = np.concatenate([one[rows] for one, rows in zip(stored, at, strict=True)])
    assert len(mapped) == 5
    for key in (slice(None, None, 2), [3, 0, 4], np.array([True, False, False, True, True]), 3, -1):
        np.testing.assert_array_equal(mapped[key], whole[key])
    with pytest.raises(IndexError):
        mapped[5]
    assert len(MappedImages([])[:]) == 0


def test_without_labels_there_is_nothing_to_train(site: RunConfig, tmp_path: Path) -> None:
    write_index([replace(one, sex="") for one in ROWS], tmp_path / "index.csv")
    with pytest.raises(DataError, match=r"train: expected frontal images with an age and"):
        archived(site)


def test_a_bundle_says_what_its_gates_have_not_seen(site: RunConfig, tmp_path: Path) -> None:
    about = archived(site).about(start.history(site))
    assert "3 images of other views trained the view gate" in about.summary
    assert "random weights" in about.summary
    frontal = [one for one in ROWS if one.view in ("PA", "AP")]
    write_index(frontal, tmp_path / "index.csv")
    assert site.archive is not None
    with pytest.raises(DataError, match=r"index: expected .* remove the cache"):
        archived(site).about(start.history(site))
    less = replace(site.archive, others="")
    about = archived(replace(site, cache=str(tmp_path / "other"), archive=less)).about(
        start.history(site)
    )
    assert "does not know laterals" in about.summary
    assert "does not know other body parts" in about.summary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[archive]\nindexes = []", "unknown keys .*indexes"),
        ('[archive]\nindex = "a.csv"\nfolds = "f"', "index, a list of files"),
        ('[archive]\nindex = ["a.csv"]', "folds, a file"),
        ('[archive]\nindex = [1]\nfolds = "f"', r"index\[0\] is 1, expected the path"),
        ('[archive]\nindex = ["a"]\nfolds = "f"\nexternal = "x"', "expected names and files"),
        ('[archive]\nindex = ["a"]\nfolds = "f"\nexternal = {train = "x"}', "and none of .*train"),
        ("archive = 3", "archive is 3, expected a table"),
        ("rate = [", "expected a configuration in TOML"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_named(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(SystemExit, match=rf"x\.toml: .*{message}"):
        config.read(tmp_path / "x.toml")


def test_a_fold_needs_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("")
    with pytest.raises(SystemExit, match=r"--fold needs an \[archive\]"):
        config.read(tmp_path / "x.toml", fold=1)


def test_a_run_starts_from_a_bundle_or_an_earlier_run(tmp_path: Path) -> None:
    file = default_bundle() / bundle.WEIGHTS
    settings = RunConfig(start=str(file))
    made = start.network(settings, tmp_path, lambda _: torch.zeros(0))
    stored = load_numpy(file)["network.head.weight"]
    np.testing.assert_array_equal(made.head.weight.detach().numpy(), stored)
    assert bundle.sha256(file) in start.words(settings)
    torch.manual_seed(1)
    save_file(Network("resnet18").state_dict(), tmp_path / "w.safetensors")
    settings = RunConfig(architecture="resnet18", start=str(tmp_path / "w.safetensors"))
    start.network(settings, tmp_path, lambda _: torch.zeros(0))
    with pytest.raises(DataError, match="expected weights to start from"):
        start.network(RunConfig(start=str(tmp_path / "no")), tmp_path, lambda _: torch.zeros(0))
    with pytest.raises(DataError, match="expected ImageNet weights; else name weights"):
        start.network(RunConfig(), tmp_path, lambda _: torch.zeros(0))
