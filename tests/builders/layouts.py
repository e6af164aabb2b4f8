"""Small data sets in the layouts of the public ones: real column names, tiny images."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import UID, generate_uid

from dicom_ai_node.pixels.lenient import quiet
from tests.builders.pixels import quantised, radiograph, scene, write


def table(path: Path, header: Sequence[str], *rows: Sequence[object]) -> Path:
    """A CSV file, compressed where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def picture(path: Path, seed: int = 0, side: int = 8) -> Path:
    """A small grey picture in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(quantised(scene(side, side, seed=seed), 8)).save(path)
    return path


def dicom(path: Path, seed: int = 0, *, side: int = 16, **header: Any) -> Path:
    """A small DX image with ``header``, which may be dirty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds: Dataset = radiograph(quantised(scene(side, side, seed=seed), 12), 12)
    ds.StudyInstanceUID = generate_uid()
    with quiet():  # pydicom warns of '64' for an age
        for keyword, value in header.items():
            setattr(ds, keyword, value)
        return write(path, ds)


def anonymised(path: Path, seed: int = 0, **header: Any) -> Path:
    """The same with sex, age, and what describes pixels: all that VinDr's anonymiser leaves."""
    ds = dcmread(dicom(path, seed, **header))
    for element in list(ds):
        if element.tag.group != 0x0028 and element.keyword not in _LEFT:
            del ds[element.tag]
    with quiet():  # it puts a hash for the instance's UID
        ds.file_meta.MediaStorageSOPInstanceUID = UID("d41d8cd98f00b204e9800998ecf8427e")
        return write(path, ds)


_LEFT = ("PatientSex", "PatientAge", "PixelData")
