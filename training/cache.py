"""The command that decodes and reduces the images of an index before a run needs them.

python -m training.cache nih/index.csv --side 320 --threads 8
"""

import argparse
from pathlib import Path

from training.data.cache import built, place
from training.data.index import files, read_index
from training.data.tables import DataError


def main() -> None:
    """Build the cache of an index."""
    parser = argparse.ArgumentParser(
        description="decode and reduce the images of an index",
        epilog="example: python -m training.cache nih/index.csv --side 320 --threads 8",
    )
    parser.add_argument("index", type=Path)
    parser.add_argument("--side", type=int, default=320, help="pixels")
    parser.add_argument("--folder", type=Path, default=Path("runs/cache"), help="of all caches")
    parser.add_argument("--out", type=Path, help="no suffix; default: where training.train looks")
    parser.add_argument("--threads", type=int, default=1, help="that decode")
    given = parser.parse_args()
    out = given.out or place(given.folder, given.index, given.side)
    try:
        rows = read_index(given.index)
        cache = built(rows, files(given.index, rows), out, given.side, given.threads)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
    for image, fault in cache.faults.items():
        print(f"{image}: {fault}")
    print(f"{out}: {int(cache.usable.sum()):,} of {len(rows):,} images")


if __name__ == "__main__":
    main()
