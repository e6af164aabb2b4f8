"""Readers of public layouts: each makes the rows of the index from a data set as it is published.

A reader is a module with ``read(root, tally)``, which yields rows whose images are relative to
``root`` and counts in ``tally`` what it dropped and why. It reads tables and headers, no pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from training.data.index import Row
from training.data.tables import DataError
from training.readers import (
    chexpert,
    dicom,
    mimic,
    nih,
    padchest,
    pictures,
    rsna,
    shared,
    spr,
    vindr,
)
from training.readers.layout import Tally

READERS: Mapping[str, Callable[[Path, Tally], Iterator[Row]]] = {
    "chexpert": chexpert.read,
    "dicom": dicom.read,
    "mimic": mimic.read,
    "nih": nih.read,
    "padchest": padchest.read,
    "pictures": pictures.read,
    "rsna": rsna.read,
    "shared": shared.read,
    "spr": spr.read,
    "vindr": vindr.read,
}


def read(layout: str, root: Path, tally: Tally | None = None) -> Iterator[Row]:
    """The rows of the data set below ``root``, in a fixed order.

    Raises
    ------
    DataError
        There is no such folder or layout, or a table is not what the layout says.
    """
    if layout not in READERS:
        raise DataError(f"{layout}: expected a layout, one of {', '.join(sorted(READERS))}")
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of a data set")
    return READERS[layout](root, Counter() if tally is None else tally)
