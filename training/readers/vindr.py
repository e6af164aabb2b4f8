"""VinDr-CXR: ``train/*.dicom``, ``test/*.dicom`` and ``annotations/image_labels_*.csv``.

18,000 PA images of two hospitals. Age and sex come from the DICOM headers, where many are missing,
zero or beyond any life. The anonymiser kept 25 attributes, none of which names class, patient or
view: the class is that of the file meta information, and every image counts as a patient. Columns
relied on: image_id, one column of 0 or 1 for each finding, and for ``train`` rad_id, since three
radiologists read each image: what one of them alone saw is uncertain. Without the label tables the
findings are unknown. Where a header names no view it is PA, as the data set's description says.
Source: the paper (Nguyen 2022, Scientific Data), PhysioNet's page, and the anonymiser's list of
attributes (github.com/vinbigdata-medical/vindr-cxr).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from training.data.index import IndexRow
from training.data.tables import DataError, read_table
from training.readers.folders import row_of
from training.readers.layout import Tally, files_below

LICENCE = "PhysioNet Credentialed Health Data License 1.5.0"


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of VinDr-CXR below ``root``."""
    splits = [split for split in ("train", "test") if (root / split).is_dir()]
    if not splits:
        raise DataError(f"{root}: expected a folder train or test")
    for split in splits:
        found = _findings(root, split)
        for file in files_below(root / split):
            if file.suffix not in (".dicom", ".dcm"):
                continue
            image = Path(split) / file
            row = row_of(root, image, "vindr", tally)
            if row is not None:
                yield replace(
                    row,
                    view=row.view or "PA",
                    findings=found.get(file.stem, ()),
                    licence=LICENCE,
                    split=split,
                )


def _findings(root: Path, split: str) -> dict[str, tuple[str, ...]]:
    name = f"image_labels_{split}.csv"
    table = next((p for p in (root / "annotations" / name, root / name) if p.is_file()), None)
    if table is None:
        return {}
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    readers: Counter[str] = Counter()
    for line in read_table(table, ("image_id",)):
        image = line["image_id"]
        readers[image] += 1
        names = (name for name in line.values if name not in ("image_id", "rad_id"))
        seen[image].update(name for name in names if line[name] in ("1", "1.0"))
    return {image: _agreed(seen[image], readers[image]) for image in readers}


def _agreed(seen: Counter[str], readers: int) -> tuple[str, ...]:
    """What most saw, and with a question mark what fewer saw."""
    marked = (name if 2 * times > readers else f"{name}?" for name, times in sorted(seen.items()))
    return tuple("No Finding" if name == "No finding" else name for name in marked)
