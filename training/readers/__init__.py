"""Readers of public layouts: each makes the rows of the index from a data set as it is published.

A reader is a module with ``read(root, tally)``, which yields rows whose images are relative to
``root`` and counts in ``tally`` what it dropped and why. It reads tables and headers, no pixels.

    python -m training index nih ROOT --out index.csv
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from training.data.index import IndexRow, relative_to_folder, write_index
from training.data.tables import DataError
from training.readers import chexpert, folders, mimic, nih, padchest, rsna, shared, spr, vindr
from training.readers.layout import Tally

READERS: Mapping[str, Callable[[Path, Tally], Iterator[IndexRow]]] = {
    "chexpert": chexpert.read,
    "dicom": folders.read_dicom,
    "mimic": mimic.read,
    "nih": nih.read,
    "padchest": padchest.read,
    "pictures": folders.read_pictures,
    "rsna": rsna.read,
    "shared": shared.read,
    "spr": spr.read,
    "vindr": vindr.read,
}


def read(layout: str, root: Path, tally: Tally | None = None) -> Iterator[IndexRow]:
    """The rows of the data set below ``root``, in a fixed order.

    Raises DataError: there is no such folder or layout, or a table is not what the layout says.
    """
    if layout not in READERS:
        raise DataError(f"{layout}: expected a layout, one of {', '.join(sorted(READERS))}")
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of a data set")
    return READERS[layout](root, Counter() if tally is None else tally)


def summary(rows: Sequence[IndexRow]) -> list[tuple[str, int]]:
    """What an index holds: names and numbers for a table."""
    counts = [
        ("images", len(rows)),
        ("patients with an id", len({row.patient for row in rows if row.patient})),
        ("images with an age", sum(row.age is not None for row in rows)),
    ]
    for column in ("sex", "view", "split"):
        found = Counter(getattr(row, column) or "unknown" for row in rows)
        counts += [(f"{column} {value}", number) for value, number in sorted(found.items())]
    return counts


def main(
    layout: Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(READERS))}.")],
    root: Annotated[Path, typer.Argument(help="Folder that the data set was unpacked into.")],
    out: Annotated[Path | None, typer.Option(help="Default: index.csv in the root.")] = None,
) -> None:
    """Read a data set in the layout it is published in and write its index."""
    out = out or root / "index.csv"
    tally: Counter[str] = Counter()
    found = track(read(layout, root, tally), "images", console=Console(stderr=True))
    rows = list(relative_to_folder(out.parent, root, found))
    write_index(rows, out)
    table = Table("Read", "Images", box=None)
    for name, number in summary(rows):
        table.add_row(name, f"{number:,}")
    dropped = Table("Dropped", "Times", box=None)
    for reason, number in sorted(tally.items()):
        dropped.add_row(reason, f"{number:,}")
    Console().print(table, "", dropped, "", f"{out}: {len(rows):,} images", highlight=False)
