"""Which of this project's images train findings, and which are left out to choose and to look."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.chest_findings import BOXED, CHOICE, FindingsData
from training.data.tables import DataError

COLUMNS = ("path", "source", "patient_id", "age_years", "sex", "view", "finding", "split")
CHOOSING = "nih_14"
"""A patient by whose number the images are for choosing."""
ROWS = [
    ("cxr/nih/1.webp", "nih", "nih_1", "Mass|Edema", "train"),
    ("cxr/nih/2.webp", "nih", "nih_2", "No Finding", "train"),
    ("cxr/nih_128/3.webp", "nih_128", "nih_2", "No Finding", "train_128"),
    ("cxr/nih/4.webp", "nih", CHOOSING, "Hernia", "train"),
    ("cxr/siim/5.webp", "siim", "siim_5", "unlabelled here", "train"),
    ("cxr/rsna/paired.webp", "rsna", "nih_6", "unlabelled here", "train"),
    ("cxr/rsna/boxed.webp", "rsna", "rsna_7", "Lung Opacity", "train"),
    ("cxr/nih/8.webp", "nih", "nih_8", "Nodule", "val"),
    ("cxr/nih/9.webp", "nih", "nih_9", "", "train"),
]


def write(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = io.StringIO()
    csv.writer(lines).writerows([list(header), *map(list, rows)])
    content = lines.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of the layout of this project's images."""
    index = [
        (path, source, patient, "50", "F", "PA", finding, split, "none")
        for path, source, patient, finding, split in ROWS
    ]
    write(tmp_path / "cxr/index.csv", (*COLUMNS, "licence"), index)
    write(tmp_path / "cxr_more/index.csv", (*COLUMNS, "licence"), [])
    write(tmp_path / "nonchest/index.csv", ("path", "licence"), [("nonchest/hand/1.png", "none")])
    labels = tmp_path / "labels"
    entries = [("00000006_000.png", "Cardiomegaly|Effusion")]
    write(labels / "nih_entries.csv.gz", ("Image Index", "Finding Labels"), entries)
    pairs = [("paired", "00000006_000"), ("elsewhere", "00000099_000")]
    write(labels / "rsna_to_nih.csv.gz", ("rsna_id", "nih"), pairs)
    boxes = [("00000002_000.png", "Mass", "1", "1", "9", "9", "cxr/nih/2.webp", "")]
    of_nih = ("image", "finding", "x", "y", "w", "h", "have", "have_rsna")
    write(labels / "nih_boxes.csv", of_nih, boxes)
    of_rsna = ("image", "x", "y", "width", "height", "have")
    boxes_of_rsna = [("boxed", *"1199", "cxr/rsna/boxed.webp"), ("far", *"1199", "")]
    write(labels / "rsna_pneumonia_boxes.csv", of_rsna, boxes_of_rsna)
    for number, (path, *_) in enumerate(ROWS):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40), 20 * number).save(tmp_path / path, lossless=True)
    (tmp_path / "nonchest/hand").mkdir(parents=True)
    Image.new("L", (40, 40), 90).save(tmp_path / "nonchest/hand/1.png")
    return tmp_path


def by_role(data: FindingsData) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in data.items.values():
        found.setdefault(item.role, set()).add(Path(item.path).stem)
    return found


def test_patients_with_a_box_and_those_who_choose_train_nothing(root: Path, tmp_path: Path) -> None:
    roles = by_role(FindingsData(root, tmp_path / "cache"))
    assert roles["train"] == {"1", "paired"}
    assert roles[BOXED] == {"2", "3"}  # 3 shows the same patient as 2
    assert roles[CHOICE] == {"4"}
    assert roles["val"] == {"8"}


def test_images_without_known_findings_are_of_no_use(root: Path, tmp_path: Path) -> None:
    used = {Path(path).stem for path in FindingsData(root, tmp_path / "cache").items}
    assert not used & {"5", "9", "boxed"}


def test_an_image_of_rsna_bears_the_labels_of_its_twin(root: Path, tmp_path: Path) -> None:
    items = FindingsData(root, tmp_path / "cache").items
    paired = items["cxr/rsna/paired.webp"]
    assert (paired.source, paired.findings) == ("nih", ("Cardiomegaly", "Effusion"))


def test_what_trains_and_what_is_measured_have_their_pixels(root: Path, tmp_path: Path) -> None:
    data = FindingsData(root, tmp_path / "cache")
    trains = data.training(32)
    assert [item.path for item in trains.items] == [item.path for item in data.trained()]
    assert [part.shape for part in trains.floats()] == [(len(trains), 32, 32)]
    measured = data.load(32, "val", CHOICE)
    assert {Path(item.path).stem for item in measured.items} == {"8", "4"}
    assert measured.pixels.dtype == np.uint16


def test_a_missing_table_is_named(root: Path, tmp_path: Path) -> None:
    (root / "labels/nih_boxes.csv").unlink()
    with pytest.raises(DataError, match=r"nih_boxes\.csv"):
        FindingsData(root, tmp_path / "cache").trained()
