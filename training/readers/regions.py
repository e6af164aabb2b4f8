"""Write the index of slices that a network of body regions is trained with.

    python -m training region_index folders site/slices --out site/regions.csv

``folders`` are a site's own (:mod:`training.readers.region_folders`), ``shared`` this project's
images (:mod:`training.readers.ct_mr`).
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dicom_ai_node.dicom.body_parts import agree
from training.data.regions import write_index
from training.data.tables import DataError
from training.readers import ct_mr, region_folders

LAYOUTS = ("folders", "shared")


def main(
    layout: Annotated[str, typer.Argument(help=f"One of {', '.join(LAYOUTS)}.")],
    root: Annotated[Path, typer.Argument(help="Folder of the images.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
) -> None:
    """Write an index of slices and their regions."""
    if layout not in LAYOUTS:
        raise DataError(f"{layout}: expected a layout, one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of a data set")
    tally: Counter[str] = Counter()
    here = out.resolve().parent
    found = (
        region_folders.read(root.resolve(), here, tally)
        if layout == "folders"
        else ct_mr.read(root.resolve(), here)
    )
    slices = list(found)
    write_index(slices, out)
    for (use, shown), number in sorted(Counter((s.use, s.shown) for s in slices).items()):
        print(f"{number:>8,}  {'slices' if shown else 'no slices'} {use}")
    stated = [one for one in slices if one.stated and one.shown]
    if stated:
        other = sum(not any(agree(one.stated, term) for term in one.terms) for one in stated)
        print(f"{other:>8,}  of {len(stated):,} came with a region elsewhere on the body")
    for reason, number in tally.items():
        print(f"{number:>8,}  left out: {reason}")
    print(f"{out}: {len(slices):,} images")
