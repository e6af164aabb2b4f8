"""The cache gives what serving computes, goes on after an interrupt, and lists what is broken."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from dicom_ai_node.pixels import grey_from_picture, load, normalise
from tests.builders.layouts import picture
from tests.builders.pixels import quantised, scene, write_as
from tests.builders.training import run_training
from training.data import cache
from training.data.cache import build, open_cache
from training.data.index import IndexRow, files, write_index
from training.data.tables import DataError

SIDE = 24
ROUNDING = 0.5 / 65535 + 1e-7


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Six images: DICOM of three kinds, two pictures, and a file that is none."""
    deep = quantised(scene(seed=1), 12)
    write_as(
        tmp_path / "1.dcm", deep, ExplicitVRLittleEndian, 12, WindowCenter=2000, WindowWidth=900
    )
    inverted = (4095 - deep).astype(np.uint16)
    kind = {"PhotometricInterpretation": "MONOCHROME1"}
    write_as(tmp_path / "2.dcm", inverted, JPEG2000Lossless, 12, **kind)
    write_as(tmp_path / "3", quantised(scene(seed=3), 8), JPEGBaseline8Bit, 8)
    picture(tmp_path / "4.png", seed=4, side=90)
    (tmp_path / "5.png").write_bytes(b"not a picture")
    picture(tmp_path / "6.webp", seed=6, side=70)
    write_index([IndexRow(name, "d") for name in NAMES], tmp_path / "index.csv")
    return tmp_path / "index.csv"


NAMES = ("1.dcm", "2.dcm", "3", "4.png", "5.png", "6.webp")
ROWS = [IndexRow(name, "d") for name in NAMES]


@pytest.mark.parametrize("threads", [1, 2])
def test_cached_images_are_what_serving_computes(index: Path, threads: int) -> None:
    out = index.parent / "made/v1.0"
    made = build(ROWS, files(index, ROWS), out, SIDE, threads=threads)
    assert made.stored.dtype == np.uint16
    served = [load(index.parent / name, size=SIDE) for name in NAMES[:3]]
    served += [
        normalise(grey_from_picture(index.parent / name), SIDE) for name in ("4.png", "6.webp")
    ]
    tensors = open_cache(out, ROWS).tensors([0, 1, 2, 3, 5])
    assert tensors.dtype == np.float32
    assert np.abs(tensors - np.stack(served)).max() <= ROUNDING
    # finer than 8 bits: a cache of bytes would be off by a thousandth
    assert np.abs(tensors - np.rint(np.stack(served) * 255) / 255).max() > 1e-3


def test_broken_files_are_listed_and_not_used(index: Path) -> None:
    made = build(ROWS, files(index, ROWS), index.parent / "c", SIDE)
    assert made.usable.tolist() == [True, True, True, True, False, True]
    assert made.faults == {"5.png": "5.png: expected a picture (PNG, JPEG, WEBP, TIFF)"}
    assert not made.tensors([4]).any()


def test_an_interrupted_cache_goes_on(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, asked = index.parent / "c", []
    whole = build(ROWS, files(index, ROWS), index.parent / "whole", SIDE)
    real = cache.encode

    def until_the_third(path: Path, side: int) -> cache.Encoded:
        asked.append(path.name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(path, side)

    monkeypatch.setattr(cache, "encode", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        build(ROWS, files(index, ROWS), out, SIDE)
    with pytest.raises(DataError, match=r"c\.json: done: expected 6, got 2"):
        open_cache(out, ROWS)
    told: list[int] = []
    again = build(ROWS, files(index, ROWS), out, SIDE, tell=told.append)
    assert told == [3, 4, 5, 6]
    assert asked == [*NAMES[:3], *NAMES[2:]]
    np.testing.assert_array_equal(again.stored, whole.stored)
    assert again.faults == whole.faults
    told.clear()
    build(ROWS, files(index, ROWS), out, SIDE, tell=told.append)
    assert told == []  # nothing is decoded twice


def test_a_cache_of_something_else_is_not_used(index: Path) -> None:
    out = index.parent / "c"
    build(ROWS, files(index, ROWS), out, SIDE)
    with pytest.raises(DataError, match=r"c\.json: side: expected 32, got 24"):
        build(ROWS, files(index, ROWS), out, 32)
    with pytest.raises(DataError, match=r"c\.json: index: expected"):
        open_cache(out, ROWS[::-1])
    state = json.loads((index.parent / "c.json").read_text())
    (index.parent / "c.json").write_text(json.dumps(state | {"contract": "square-0"}))
    with pytest.raises(DataError, match=r"contract: expected square-1, got square-0"):
        open_cache(out, ROWS)
    (index.parent / "c.json").write_text("{}")
    with pytest.raises(DataError, match=r"c\.json: expected the fields contract"):
        open_cache(out, ROWS)
    with pytest.raises(DataError, match=r"d\.json: expected a cache"):
        open_cache(index.parent / "d", ROWS)
    with pytest.raises(DataError, match="expected an index with images"):
        build([], [], index.parent / "e", SIDE)


def test_labels_may_change_without_decoding_again(index: Path) -> None:
    build(ROWS, files(index, ROWS), index.parent / "c", SIDE)
    relabelled = [IndexRow(row.image, "d", "p", 50.0, "F") for row in ROWS]
    assert len(open_cache(index.parent / "c", relabelled).stored) == 6


def test_a_blank_image_is_refused_as_in_serving(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (32, 32), 7).save(tmp_path / "blank.png")
    assert cache.encode(tmp_path / "blank.png", SIDE) == (
        "The image has the same brightness everywhere"
    )


def test_command(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = index.parent / "made/c"
    run_training("cache", index, "--side", 16, "--out", out)
    printed = capsys.readouterr().out
    assert "5.png: 5.png: expected a picture" in printed
    assert "5 of 6 images" in printed
    assert open_cache(out, ROWS).stored.shape == (6, 16, 16)
