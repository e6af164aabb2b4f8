"""The command that finds every image of several indexes that is there twice.

python -m training.duplicates a/index.csv b/index.csv --out duplicates.json
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from training.data.index import files, gathered
from training.data.near_duplicates import DISTANCE, hashed, report
from training.data.tables import DataError


def main() -> None:
    """Hash every image of the indexes and write what is there twice."""
    parser = argparse.ArgumentParser(
        description="find near-duplicates over data sets",
        epilog="example: python -m training.duplicates nih/index.csv site/index.csv"
        " --out duplicates.json",
    )
    parser.add_argument("indexes", type=Path, nargs="+", help="index files")
    parser.add_argument("--out", type=Path, required=True, help="report, JSON")
    parser.add_argument("--distance", type=int, default=DISTANCE, help="bits of 256, at most 31")
    given = parser.parse_args()
    try:
        rows = gathered(given.out.parent, given.indexes)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
    given.out.parent.mkdir(parents=True, exist_ok=True)  # images are named from there
    found = hashed(track(files(given.out, rows), "images", console=Console(stderr=True)))
    written = report(rows, found, given.distance)
    given.out.write_text(json.dumps(written, indent=1) + "\n")
    table = Table("Splits", "Groups in both", box=None)
    for entry in written["crossing"]:
        table.add_row(
            " and ".join(split or "none" for split in entry["splits"]), f"{entry['groups']:,}"
        )
    Console().print(table, "", highlight=False)
    print(f"{given.out}: {written['groups']:,} groups in {len(rows):,} images")


if __name__ == "__main__":
    main()
