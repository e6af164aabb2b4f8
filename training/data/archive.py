"""The images of a site's archive as a run trains on them. See docs/training.md.

What each is for says :mod:`training.data.roles`; their pixels lie in caches, from which a batch is
drawn when it is needed. Files that cannot be read are left out and counted.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data import cache
from training.data.folds import read_folds
from training.data.images import (
    GATE_TEST,
    TRAINING,
    About,
    EvaluationSet,
    Images,
    Institution,
    LabelledImage,
    MappedImages,
)
from training.data.index import files
from training.data.roles import HELD_OUT, ArchiveConfig, IndexRoles, parts
from training.data.tables import DataError


class ArchiveData:
    """The :class:`training.data.images.Data` of an ``[archive]``.

    Raises DataError: a file is not what it should be, the folds do not keep apart what they should,
    or there is too little to train or to calibrate with.
    """

    calibrates = HELD_OUT
    beside = ()
    chooses = HELD_OUT

    def __init__(self, archive: ArchiveConfig, folder: Path, side: int) -> None:
        """Caches lie below ``folder``; a network is trained on images of ``side``."""
        self._archive, self._folder, self._side = archive, folder, side
        self.folds = read_folds(Path(self._archive.folds))
        """The fold of each image, by its name in items and in the file of the folds."""
        self._parts = list(parts(self._archive, self.folds))
        self._caches: dict[Path, cache.Cache] = {}
        for role in ("train", HELD_OUT):
            self._check(role)

    @property
    def sets(self) -> Sequence[EvaluationSet]:
        """The fold that is held out, and every external index."""
        inside = f"Held out: fold {self._archive.hold_out}, patients who trained nothing"
        outside = (
            EvaluationSet(x, f"External: `{x}`", Institution.OTHER) for x in self._archive.external
        )
        return EvaluationSet(HELD_OUT, inside, Institution.SAME), *outside

    def trained(self) -> list[LabelledImage]:
        """See :class:`training.data.images.Data`; makes the cache, to know what can be read."""
        return self.training(self._side).items

    def training(self, side: int) -> Images:
        """See :class:`training.data.images.Data`."""
        return self.load(side, *TRAINING)

    def load(self, side: int, *roles: str) -> Images:
        """See :class:`training.data.images.Data`; pixels stay on disk until they are drawn."""
        items, drawn = list[LabelledImage](), []
        for part in self._parts:
            chosen = [
                (position, item)
                for position, item in enumerate(part.items)
                if isinstance(item, LabelledImage) and item.role in roles
            ]
            if not chosen:
                continue
            known = self._cache(part, side)
            at = [position for position, _ in chosen if known.usable[position]]
            items += [item for position, item in chosen if known.usable[position]]
            drawn.append((known.stored, np.array(at, np.int64)))
        if not items and GATE_TEST not in roles:
            found = "; ".join(f"{name}: {number}" for name, number in self.counts().items())
            raise DataError(f"{' or '.join(roles)}: expected images that can be read, got {found}")
        return Images(items, MappedImages(drawn))

    def about(self, run: str) -> About:
        """See :class:`training.data.images.Data`."""
        trained = self.trained()
        aged = [item for item in trained if item.role == "train"]
        low, high = np.nanpercentile([item.age for item in aged], [1, 99])
        names = ", ".join(sorted({item.source for item in aged}))
        count = len(set(self.folds.values()))
        return About(
            summary=f"{run} on frontal chest radiographs of {names}. Fold"
            f" {self._archive.hold_out} of {count} was held out by patient; it calibrates and"
            f" measures. {_gates(trained)}",
            not_for="Diagnosis, treatment, identification of persons, forensic or legal age"
            " assessment, children, ages that hardly any training image has (below"
            f" {low:.0f} and over {high:.0f} years), lateral views, other body parts. Not a medical"
            " device.",
        )

    def counts(self) -> Counter[str]:
        """How many images have each role, or are left out and why, before any is read."""
        every = (item for part in self._parts for item in part.items)
        return Counter(item.role if isinstance(item, LabelledImage) else item for item in every)

    def _cache(self, part: IndexRoles, side: int) -> cache.Cache:
        """The cache of one index, made where it is missing."""
        out = cache.place(self._folder, part.index, side)
        if out not in self._caches:
            paths = files(part.index, part.rows)
            made = cache.built(part.rows, paths, out, side, os.cpu_count() or 1)
            if made.faults:
                total = f"{len(made.faults):,} of {len(part.rows):,} images"
                print(f"{part.index}: {total} left out, see {out}.json", file=sys.stderr)
            self._caches[out] = made
        return self._caches[out]

    def _check(self, role: str) -> None:
        """Whether some of ``role`` have an age and some a sex."""
        every = (item for part in self._parts for item in part.items)
        known = [item for item in every if isinstance(item, LabelledImage) and item.role == role]
        if all(np.isnan(x.age) for x in known) or all(np.isnan(x.female) for x in known):
            found = "; ".join(f"{name}: {number}" for name, number in self.counts().items())
            raise DataError(
                f"{', '.join(self._archive.index)}: {role}: expected frontal images with an age and"
                f" with a sex, got {found}"
            )


def _gates(trained: Sequence[LabelledImage]) -> str:
    """What the gates have seen, in words."""
    views = sum(item.frontal == 0 for item in trained)
    others = sum(item.chest == 0 for item in trained)
    view = f"{views:,} images of other views trained the view gate." if views else ""
    chest = f"{others:,} images of something else trained the chest gate." if others else ""
    return " ".join(
        [
            view or "No other view trained the view gate: it does not know laterals.",
            chest
            or "Only turned and inverted chests trained the chest gate: it does not know"
            " other body parts.",
        ]
    )
