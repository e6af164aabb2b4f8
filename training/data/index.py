"""The index: one line an image, whatever layout its data set came in.

A CSV file in UTF-8 with the columns of :class:`IndexRow`; an empty value is unknown. ``image`` is
relative to the folder of the index, so that data and index can move together.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from training.data.tables import CsvLine, DataError, read_table, write_table

SEXES = ("F", "M")
VIEWS = ("PA", "AP", "LATERAL", "OTHER")
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})
"""Names of pictures; everything else is taken for DICOM."""
OLDEST = 120.0
"""Years; what the header rules call an error (C2) is no age of an index either."""


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One image and what is known of it; None or '' where it is unknown or must not be used."""

    image: str
    """Path of the file, relative to the index, with forward slashes."""
    dataset: str
    patient: str = ""
    """Unique over all data sets: the id behind the data set's name, as in ``nih_1``."""
    age: float | None = None
    """Years as PatientAge states them: completed years from two on."""
    sex: str = ""
    """``F`` or ``M``."""
    view: str = ""
    """``PA``, ``AP``, ``LATERAL``, or ``OTHER`` for a view that is none of them."""
    findings: tuple[str, ...] = ()
    """As the data set names them; ``No Finding`` where there are none, ``Edema?`` if uncertain."""
    device: str = ""
    licence: str = ""
    split: str = ""
    """The data set's own split."""


COLUMNS = tuple(field.name for field in fields(IndexRow))


def read_index(path: Path) -> list[IndexRow]:
    """Every row of the index at ``path``.

    Raises DataError: a column is missing, a value is not what its column holds, or an image is
    listed twice; the message names file, line, column and what was expected.
    """
    rows: list[IndexRow] = []
    lines: dict[str, int] = {}
    for line in read_table(path, COLUMNS):
        row = _row(line)
        if row.image in lines:
            raise line.wrong("image", f"another image than that of line {lines[row.image]}")
        lines[row.image] = line.number
        rows.append(row)
    return rows


def _row(line: CsvLine) -> IndexRow:
    for column in ("image", "dataset"):
        if not line[column]:
            raise line.wrong(column, "a value")
    for column, allowed in (("sex", SEXES), ("view", VIEWS)):
        if line[column] and line[column] not in allowed:
            raise line.wrong(column, f"{', '.join(allowed)} or nothing")
    return IndexRow(
        image=line["image"],
        dataset=line["dataset"],
        patient=line["patient"],
        age=line.number_in("age", 0, OLDEST) if line["age"] else None,
        sex=line["sex"],
        view=line["view"],
        findings=tuple(part for part in line["findings"].split("|") if part),
        device=line["device"],
        licence=line["licence"],
        split=line["split"],
    )


def write_index(rows: Iterable[IndexRow], path: Path) -> None:
    """Write ``rows`` as an index; :func:`read_index` gives them back as they are."""
    write_table(path, COLUMNS, (_values(row) for row in rows))


def _values(row: IndexRow) -> list[str]:
    if any("|" in finding for finding in row.findings):
        raise DataError(f"{row.image}: findings: expected names without '|'")
    values = {name: getattr(row, name) for name in COLUMNS}
    values["age"] = "" if row.age is None else f"{row.age:.17g}"
    values["findings"] = "|".join(row.findings)
    return [values[name] for name in COLUMNS]


def files(index: Path, rows: Sequence[IndexRow]) -> list[Path]:
    """The image file of each row of the index at ``index``."""
    return [index.parent / row.image for row in rows]


def relative_to_folder(folder: Path, root: Path, rows: Iterable[IndexRow]) -> Iterator[IndexRow]:
    """``rows``, whose images are relative to ``root``, with images relative to ``folder``."""
    way = Path(os.path.relpath(root.resolve(), folder.resolve()))
    for row in rows:
        # without steps back and forth, so that a file has one name whatever index it comes from
        yield replace(row, image=Path(os.path.normpath(way / row.image)).as_posix())


def read_indexes(folder: Path, indexes: Iterable[Path]) -> list[IndexRow]:
    """Every row of several indexes, with images relative to ``folder``.

    Raises DataError: an index cannot be read, or two of them hold the same image.
    """
    rows: list[IndexRow] = []
    holder: dict[str, Path] = {}
    for index in indexes:
        for row in relative_to_folder(folder, index.parent, read_index(index)):
            if row.image in holder:
                raise DataError(
                    f"{index}: {row.image}: expected each image once, it is also in"
                    f" {holder[row.image]}"
                )
            holder[row.image] = index
            rows.append(row)
    return rows
