"""Near-duplicates: copies are found, different images are not, and groups stay together."""

import io
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom.uid import ExplicitVRLittleEndian

from dicom_ai_node.pixels import normalise
from tests.builders.pixels import quantised, scene, write_as
from tests.builders.training import run_training
from training.data import near_duplicates
from training.data.index import IndexRow, write_index
from training.data.near_duplicates import BITS, SIDE, components, digest, groups, near
from training.data.tables import DataError


def chest(seed: int, side: int = 256) -> Image.Image:
    """Two bright fields with texture all over: alike as chests are, and yet different."""
    texture = np.random.default_rng(seed).random((24, 24)).astype(np.float32)
    picture = scene(side, side, seed=seed)
    picture = picture + np.asarray(Image.fromarray(texture).resize((side, side)))
    y, x = np.mgrid[0 : 1 : 1j * side, 0 : 1 : 1j * side]
    for centre in (0.3, 0.7):
        picture = picture + 2 * np.exp(-(((x - centre) / 0.15) ** 2 + ((y - 0.5) / 0.3) ** 2))
    return Image.fromarray(quantised(picture / picture.max(), 8))


def hash_of(picture: Image.Image) -> NDArray[np.uint64]:
    return digest(normalise(np.asarray(picture), SIDE))


def distance(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(one ^ other).sum())


def recompressed(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    return Image.open(file)


def brightened(picture: Image.Image) -> Image.Image:
    grey = np.asarray(picture) / 255
    return Image.fromarray(np.rint(255 * grey**0.6).astype(np.uint8))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda picture: picture.resize((128, 128)),
    "squeezed": lambda picture: picture.resize((300, 200)),
    "recompressed": recompressed,
    "gamma": brightened,
    "equalised": ImageOps.equalize,
    "all": lambda picture: recompressed(brightened(picture.resize((128, 128)))),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_near(copy: str) -> None:
    for seed in range(12):
        picture = chest(seed)
        bits = distance(hash_of(picture), hash_of(COPIES[copy](picture)))
        assert bits <= near_duplicates.DISTANCE, seed


def test_different_images_are_far() -> None:
    hashes = [hash_of(chest(seed)) for seed in range(30)]
    assert min(distance(a, b) for a, b in combinations(hashes, 2)) > near_duplicates.DISTANCE


def test_a_hash_has_the_shape_of_its_image() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(64, 64\), got \(32, 32\)"):
        digest(np.zeros((32, 32), np.float32))


@pytest.mark.parametrize("limit", [0, 15, 31])
def test_banding_finds_what_comparing_all_finds(limit: int) -> None:
    rng = np.random.default_rng(limit)
    base = rng.integers(0, 1 << 63, (40, 4), dtype=np.uint64)
    bits = np.unpackbits(base.view(np.uint8), axis=1)
    parts = [bits]
    for flips in (0, 1, 14, 16, 30, 31, 32, 60):
        changed = bits.copy()
        for row in changed:
            row[rng.permutation(BITS)[:flips]] ^= 1
        parts.append(changed)
    every = np.packbits(np.concatenate(parts), axis=1).view(np.uint64)
    expected = {
        (i, j, d)
        for i, j in combinations(range(len(every)), 2)
        if (d := distance(every[i], every[j])) <= limit
    }
    assert len(expected) >= 40
    assert {tuple(pair) for pair in near(every, limit).tolist()} == expected


def test_distances_that_cannot_be_promised() -> None:
    with pytest.raises(ValueError, match="expected a distance from 0 to 31 bits, got 32"):
        near(np.empty((0, 4), np.uint64), 32)
    assert near(np.empty((0, 4), np.uint64), 31).shape == (0, 3)


def test_components() -> None:
    assert components(6, [(4, 1), (5, 4), (2, 3)]) == [0, 1, 2, 2, 1, 1]
    assert components(3, []) == [0, 1, 2]


def rows_of(*members: tuple[str, str]) -> list[IndexRow]:
    """Rows with these patients and splits."""
    return [IndexRow(f"{i}.png", "d", p, split=s) for i, (p, s) in enumerate(members)]


def test_a_patient_and_the_twins_of_his_images_are_one_group() -> None:
    rows = rows_of(("a", ""), ("b", ""), ("a", ""), ("", ""), ("", ""), ("c", ""))
    assert groups(rows) == [0, 1, 0, 3, 4, 5]  # rows without a patient stand alone
    assert groups(rows, [(2, 1), (4, 5)]) == [0, 0, 0, 3, 4, 4]


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[Path, Path]:
    """A train set of five images, and a test set with a copy of one, a DICOM file and junk."""
    train, test = tmp_path / "train", tmp_path / "test"
    train.mkdir()
    test.mkdir()
    for seed in range(5):
        chest(seed).save(train / f"{seed}.png")
    COPIES["all"](chest(3)).save(test / "copy.jpg")
    chest(7).save(test / "other.png")
    write_as(test / "4.dcm", np.asarray(chest(4)), ExplicitVRLittleEndian, 8)
    (test / "junk.png").write_bytes(b"junk")
    rows = [IndexRow(f"{seed}.png", "a", f"a_{seed}", split="train") for seed in range(5)]
    write_index(rows, train / "index.csv")
    names = ("copy.jpg", "other.png", "4.dcm", "junk.png")
    write_index([IndexRow(name, "b", split="test") for name in names], test / "index.csv")
    return train / "index.csv", test / "index.csv"


def test_command(
    two_sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made/duplicates.json"
    run_training("duplicates", *two_sets, "--out", out)
    report = json.loads(out.read_text())
    assert [pair[:2] for pair in report["pairs"]] == [
        ["../train/3.png", "../test/copy.jpg"],
        ["../train/4.png", "../test/4.dcm"],
    ]
    assert report["crossing"] == [{"splits": ["test", "train"], "groups": 2}]
    assert (report["groups"], report["largest_group"], report["images"]) == (2, 2, 9)
    assert list(report["unreadable"]) == ["../test/junk.png"]
    assert report["members"][0][0] == {
        "image": "../train/3.png",
        "dataset": "a",
        "patient": "a_3",
        "split": "train",
    }
    assert "2 groups in 9 images" in capsys.readouterr().out
    images = [tmp_path / "test/copy.jpg", tmp_path / "train/3.png"]
    assert near_duplicates.read_links(out, images) == [(1, 0)]


def test_reports_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "duplicates.json"
    with pytest.raises(DataError, match="expected a readable file"):
        near_duplicates.read_links(path, [])
    path.write_text('{"pairs": [["one"]]}')
    with pytest.raises(DataError, match="pairs: expected the report of"):
        near_duplicates.read_links(path, [])
