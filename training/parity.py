"""The command that asks whether one image gets one answer, whichever way it comes.

    python -m training.parity --bundle models/chest-age-sex --out runs/report

Exit code 1 when a limit of :mod:`training.measure.criteria` is broken.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from dicom_ai_node.inference.engine import Estimator
from training.data import images as data
from training.data import project as own
from training.measure import criteria as marks
from training.measure.parity import compare, training_side, write


def main() -> None:
    """Read the command line, compare, print."""
    parser = argparse.ArgumentParser(description="one image, one answer")
    parser.add_argument("--bundle", type=Path, default=Path("models/chest-age-sex"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--out", type=Path, default=Path("runs/report"))
    parser.add_argument("--images", type=int, default=6)
    given = parser.parse_args()
    estimator = Estimator(given.bundle, device="cpu")
    images = own.load(given.data, given.cache, estimator.size, "val")
    at = np.linspace(0, len(images.items) - 1, given.images).astype(int)
    chosen = data.Images([images.items[i] for i in at], images.pixels[at])
    greys = [own.read(given.data / item.path) for item in chosen.items]
    figures = compare(estimator, greys, training_side(given.data, chosen, estimator.size))
    write(given.out, figures, estimator.identity.sha256)
    for years, probability in zip(figures[::2], figures[1::2], strict=True):
        print(f"{years.group:60} {years.value:9.4f} years {probability.value:9.5f} P(female)")
    broken = [one for one in marks.held(figures) if one.met is False]
    for one in broken:
        print(f"{one.mark.name}: {one.mark.limit} expected", file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
