"""The command that reads a data set in its own layout and writes its index.

python -m training.index nih ROOT --out index.csv
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from training import readers
from training.data.index import Row, seen_from, write_index
from training.data.tables import DataError


def summary(rows: Sequence[Row]) -> list[tuple[str, int]]:
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


def main() -> None:
    """Read a data set in its own layout and write its index."""
    parser = argparse.ArgumentParser(
        description="write the index of a data set",
        epilog="example: python -m training.index dicom /archive/chest --out site/index.csv",
    )
    parser.add_argument("layout", choices=sorted(readers.READERS))
    parser.add_argument("root", type=Path, help="folder that the data set was unpacked into")
    parser.add_argument("--out", type=Path, help="default: index.csv in the root")
    given = parser.parse_args()
    out = given.out or given.root / "index.csv"
    console = Console(stderr=True)
    tally: Counter[str] = Counter()
    try:
        found = readers.read(given.layout, given.root, tally)
        rows = list(seen_from(out.parent, given.root, track(found, "images", console=console)))
        write_index(rows, out)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
    table = Table("Read", "Images", box=None)
    for name, number in summary(rows):
        table.add_row(name, f"{number:,}")
    dropped = Table("Dropped", "Times", box=None)
    for reason, number in sorted(tally.items()):
        dropped.add_row(reason, f"{number:,}")
    Console().print(table, "", dropped, "", f"{out}: {len(rows):,} images", highlight=False)


if __name__ == "__main__":
    main()
