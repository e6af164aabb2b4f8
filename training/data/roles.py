"""What each image of an archive is for: training, holding out, measuring. Reads tables, no pixels.

Frontal radiographs with an age or a sex train, but those of the fold that is held out. Other views,
and frontal ones without labels, are for the gates: a fold's with their fold, other body parts by a
third that is held out. External images are only measured, and only if neither their patient nor a
near-duplicate of theirs is in the run's indexes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from training.data.images import GATE_TEST, LabelledImage, held_out
from training.data.index import IndexRow, files, read_index, read_indexes
from training.data.near_duplicates import Link, groups, read_links
from training.data.tables import DataError

HELD_OUT = "held_out"
OLDEST = 100.0
"""Years; the age head knows no more."""
NAN = float("nan")
NO_VIEW = "left out: the view is not stated"
NO_LABELS = "left out: external, and neither age nor sex is known"
NOT_FRONTAL = "left out: external, and not known to be frontal"
NOT_APART = "left out: external, but its patient or a near-duplicate is in the run's indexes"


_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
RESERVED = frozenset({"train", "gate", "gate_test", "gates", "held_out", "parity", "bundle"})
"""Roles and data sets of a run that no external index may be named as."""


@dataclass(frozen=True, slots=True)
class ArchiveConfig:
    """A site's images to train on; each value is a line of ``[archive]``. See docs/training.md.

    Paths are from the working directory.
    """

    index: tuple[str, ...] = ()
    """Indexes of chest radiographs (the command ``index``)."""
    folds: str = ""
    """Fold of each of their images (the command ``folds``)."""
    hold_out: int = 0
    """The fold that trains nothing, calibrates the bundle and measures it."""
    others: str = ""
    """Index of images that show no chest from the front or side: they train the chest gate."""
    unknown_is_frontal: bool = False
    """Take images whose view is not stated for frontal ones; else they are left out."""
    external: Mapping[str, str] = field(default_factory=dict)
    """Indexes that are only measured, by name. Images of patients of ``index`` are left out."""
    duplicates: str = ""
    """Report of the command ``duplicates``: external copies of images in ``index`` are left out."""

    def __post_init__(self) -> None:
        if not isinstance(self.external, Mapping):
            raise ValueError(f"archive.external is {self.external!r}, expected names and files")
        texts = {"folds": self.folds, "others": self.others, "duplicates": self.duplicates}
        texts |= {f"external.{name}": path for name, path in self.external.items()}
        texts |= {f"index[{number}]": path for number, path in enumerate(self.index)}
        for name, path in texts.items():
            if not isinstance(path, str):
                raise ValueError(f"archive.{name} is {path!r}, expected the path of a file")
        if not self.index or not self.folds or isinstance(self.index, str):
            raise ValueError("archive needs index, a list of files, and folds, a file")
        for name in self.external:
            if not _NAME.fullmatch(name) or name in RESERVED:
                raise ValueError(
                    f"archive.external.{name}: expected a name of a-z, 0-9, _ and -,"
                    f" and none of {', '.join(sorted(RESERVED))}"
                )


@dataclass(frozen=True, slots=True)
class IndexRoles:
    """One index, and what each of its images is for."""

    index: Path
    rows: list[IndexRow]
    items: list[LabelledImage | str]
    """Named as in the folds; or why an image is left out."""


def parts(archive: ArchiveConfig, folds: Mapping[str, int]) -> Iterator[IndexRoles]:
    """Every index of ``archive``.

    Raises DataError: a table is not what it should be, or the folds do not keep apart what they
    should.
    """
    inside = [Path(index) for index in archive.index]
    others = [Path(archive.others)] if archive.others else []
    outside = [Path(index) for index in archive.external.values()]
    here = Path(archive.folds)
    rows = read_indexes(here.parent, [*inside, *others, *outside])
    links = read_links(Path(archive.duplicates), files(here, rows)) if archive.duplicates else []
    read = {index: read_index(index) for index in (*inside, *others, *outside)}
    ours = sum(len(read[index]) for index in inside)
    _check(archive, folds, rows[:ours], [link for link in links if max(link) < ours])
    group = groups(rows, links)
    names = dict(zip(outside, archive.external, strict=True))
    first = 0
    for index, plain in read.items():
        items = list[LabelledImage | str]()
        for row, head in zip(rows[first:], group[first : first + len(plain)], strict=False):
            if index in names:
                apart = head >= ours  # a group is named by its first member
                items.append(_external(row, names[index], archive) if apart else NOT_APART)
            elif index in others:
                items.append(_other(row, rows[head].image))
            else:
                items.append(_inside(row, folds[row.image], archive))
        first += len(plain)
        yield IndexRoles(index, plain, items)


def _check(
    archive: ArchiveConfig,
    folds: Mapping[str, int],
    rows: Sequence[IndexRow],
    links: Sequence[Link],
) -> None:
    """Whether every image has a fold, the same for all that belong together."""
    for row, head in zip(rows, groups(rows, links), strict=True):
        if row.image not in folds:
            raise DataError(
                f"{archive.folds}: expected a fold for {row.image}; make the folds of all indexes"
                " anew with python -m training folds"
            )
        first = rows[head].image
        if folds[row.image] != folds[first]:
            raise DataError(
                f"{archive.folds}: expected {first} and {row.image} in one fold: they show one"
                " patient, or are near-duplicates"
            )
    known = sorted(set(folds.values()))
    if archive.hold_out not in known:
        raise DataError(
            f"{archive.folds}: expected the fold that is held out to be one of"
            f" {', '.join(map(str, known))}, got {archive.hold_out}"
        )


def _inside(row: IndexRow, fold: int, archive: ArchiveConfig) -> LabelledImage | str:
    measures = fold == archive.hold_out
    frontal = _frontal(row, archive)
    if frontal is None:
        return NO_VIEW
    item = _item(row, HELD_OUT if measures else "train")
    if frontal and _labelled(item):
        return item
    # Another view may be one of another part of the body: only that it is not frontal is known.
    chest = 1.0 if frontal or row.view == "LATERAL" else NAN
    role = GATE_TEST if measures else "gate"
    return replace(item, role=role, age=NAN, female=NAN, frontal=float(frontal), chest=chest)


def _other(row: IndexRow, group: str) -> LabelledImage:
    role = GATE_TEST if held_out(group) else "gate"
    return replace(_item(row, role), age=NAN, female=NAN, frontal=NAN, chest=0.0)


def _external(row: IndexRow, name: str, archive: ArchiveConfig) -> LabelledImage | str:
    item = _item(row, name)
    if not _frontal(row, archive):
        return NOT_FRONTAL
    return item if _labelled(item) else NO_LABELS


def _frontal(row: IndexRow, archive: ArchiveConfig) -> bool | None:
    """Whether an image is a frontal view; None where that is not known."""
    if not row.view:
        return True if archive.unknown_is_frontal else None
    return row.view in ("PA", "AP")


def _labelled(item: LabelledImage) -> bool:
    return not (np.isnan(item.age) and np.isnan(item.female))


def _item(row: IndexRow, role: str) -> LabelledImage:
    """A frontal chest with its labels."""
    return LabelledImage(
        path=row.image,
        source=row.dataset,
        patient=row.patient or row.image,
        role=role,
        age=NAN if row.age is None or row.age > OLDEST else row.age,
        female={"F": 1.0, "M": 0.0}.get(row.sex, NAN),
        frontal=1.0,
        chest=1.0,
        view=row.view if row.view in ("PA", "AP") else "",
        licence=row.licence or "not stated",
        findings=row.findings,
    )
