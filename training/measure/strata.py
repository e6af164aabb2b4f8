"""The groups of images that figures are given for. Pure.

Ages are completed years, so who is recorded as 70 is over 70: ``70 and over`` begins there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.measure.metrics import Bools
from training.measure.predicted import Table

SMALLEST = 8
"""A group with fewer images gets no figures but their number."""
DECADES = tuple(range(0, 110, 10))
CHILDREN, YOUNG, OLD, OLDEST = "under 18", "under 20", "70 and over", "85 and over"


@dataclass(frozen=True, slots=True)
class Group:
    """Some images of a data set."""

    axis: str
    """``sex``, ``view``, ``view and sex``, ``source``, ``decade`` or ``age``."""
    name: str
    chosen: Bools

    @property
    def label(self) -> str:
        """How figures name the group."""
        return label(self.axis, self.name)


def label(axis: str, name: str) -> str:
    """Name of a group in figures."""
    return f"{axis}: {name}"


def decade(start: int) -> str:
    """Name of the decade of age that begins at ``start``."""
    return f"{start} to {start + 9}"


def groups(table: Table) -> list[Group]:
    """Every group of ``table`` (one data set) that has an image."""
    return [group for group in _groups(table) if group.chosen.any()]


def _groups(table: Table) -> Iterator[Group]:
    years, sexes = table.recorded, {"female": table.female == 1, "male": table.female == 0}
    for sex, chosen in sexes.items():
        yield Group("sex", sex, chosen)
    views = [str(view) for view in np.unique(table.view) if view]
    for view in views:
        yield Group("view", view, table.view == view)
    for view in views:
        for sex, chosen in sexes.items():
            yield Group("view and sex", f"{view}, {sex}", (table.view == view) & chosen)
    for source in np.unique(table.source):
        yield Group("source", str(source), table.source == source)
    for start in DECADES:
        yield Group("decade", decade(start), (years >= start) & (years < start + 10))
    for name, chosen in {
        CHILDREN: years < 18,
        YOUNG: years < 20,
        OLD: years >= 70,
        OLDEST: years >= 85,
    }.items():
        yield Group("age", name, chosen)
