"""Indexes of CT and MR images with the body regions that they show, and what is made of them.

An index is a CSV file with the columns ``path`` (from its folder) and ``terms``, and any of
:data:`OPTIONAL`. ``terms`` are defined terms of BodyPartExamined: of several, separated by blanks,
each is a right answer, as CHEST and ABDOMEN are of a coronal slice of the trunk. HEAD stands for
any region of the head. An image without a term is none that is to be answered: a scout, a montage,
a radiograph.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_ai_node.dicom.body_parts import BODY_PARTS
from training.data.tables import DataError, read_table, write_table

OPTIONAL = (
    "modality",
    "source",
    "patient",
    "use",
    "age",
    "sex",
    "plane",
    "protocol",
    "manufacturer",
    "contrast",
    "kernel",
    "stated",
    "licence",
)
TRAIN, ONLY_TRAIN, TEST = "", "train", "test"
"""Of the column ``use``: in the folds; in training alone, never measured; measured, once."""

PARENTS: Mapping[str, str] = {
    "HEART": "CHEST",
    "BREAST": "CHEST",
    "LUNG": "CHEST",
    "HIP": "PELVIS",
    "SHOULDER": "UPPERLIMB",
    "UPPERARM": "UPPERLIMB",
    "ARM": "UPPERLIMB",
    "ELBOW": "UPPERLIMB",
    "FOREARM": "UPPERLIMB",
    "WRIST": "UPPERLIMB",
    "HAND": "UPPERLIMB",
    "THIGH": "LOWERLIMB",
    "LOWERLEG": "LOWERLIMB",
    "LEG": "LOWERLIMB",
    "ANKLE": "FOOT",
    "KNEE": "LOWERLIMB",
    "FOOT": "LOWERLIMB",
    "CSPINE": "NECK",
    "ORBIT": "FACE",
    "EAR": "HEAD",
    "FACE": "HEAD",
    "BRAIN": "HEAD",
}
"""What a region is counted to where too few patients show it; those without stay as they are."""

HEAD = "HEAD"
FEWEST = 15
"""Patients that a region needs to be one of its own, where it has a parent: three in each fold."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Slice:
    """A line of an index."""

    name: str
    """Path from the folder of its index."""
    file: Path
    terms: frozenset[str]
    modality: str = ""
    source: str = ""
    patient: str = ""
    use: str = TRAIN
    age: str = ""
    sex: str = ""
    plane: str = ""
    protocol: str = ""
    manufacturer: str = ""
    contrast: str = ""
    kernel: str = ""
    stated: str = ""
    """The term that came with the image, before anybody looked; '' for none."""
    licence: str = "not stated"

    @property
    def shown(self) -> bool:
        """Whether it is one slice, so that it has a region."""
        return bool(self.terms)

    @property
    def person(self) -> str:
        """Its patient, told from those of other sources."""
        return f"{self.source}/{self.patient or self.name}"


def read_index(path: Path) -> list[Slice]:
    """Read an index; DataError names file, line, column and what was expected."""
    found = []
    for line in read_table(path, ("path", "terms")):
        terms = frozenset(line["terms"].split())
        for term in terms:
            if term not in BODY_PARTS:
                raise line.wrong("terms", "defined terms of BodyPartExamined, separated by blanks")
        if line["use"] not in (TRAIN, ONLY_TRAIN, TEST):
            raise line.wrong("use", f"nothing, {ONLY_TRAIN!r} or {TEST!r}")
        known = {name: line[name] for name in OPTIONAL if line[name]}
        found.append(Slice(line["path"], path.parent / line["path"], terms, **known))
    if not found:
        raise DataError(f"{path}: expected images, got none")
    return found


def write_index(slices: Iterable[Slice], path: Path) -> None:
    """Write an index, paths as they are named."""
    rows = (
        (s.name, " ".join(sorted(s.terms)), *(getattr(s, name) for name in OPTIONAL))
        for s in slices
    )
    write_table(path, ("path", "terms", *OPTIONAL), rows)


def patients(slices: Iterable[Slice]) -> dict[str, set[str]]:
    """Who shows each term, in images that are in the folds."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in slices:
        if one.use == TRAIN:
            for term in one.terms:
                found[term].add(one.person)
    return found


def merged(slices: Sequence[Slice], fewest: int = FEWEST) -> tuple[dict[str, str], list[str]]:
    """Which region each term is counted to, and which terms are dropped because none takes them.

    A term that fewer than ``fewest`` patients show goes to its parent, one after the other, the
    rarest first. One without a parent needs a patient for each fold.
    """
    into = {term: term for term in patients(slices)}
    while True:
        counts: dict[str, set[str]] = defaultdict(set)
        for term, people in patients(slices).items():
            counts[into[term]] |= people
        few = [t for t, people in counts.items() if len(people) < fewest and t in PARENTS]
        if not few:
            break
        rarest = min(few, key=lambda term: (len(counts[term]), term))
        into = {t: PARENTS[rarest] if to == rarest else to for t, to in into.items()}
    lost = sorted(t for t, people in counts.items() if len(people) < FOLDS and t != HEAD)
    return {term: to for term, to in into.items() if to not in lost}, lost


def values(into: Mapping[str, str]) -> tuple[str, ...]:
    """The regions that a head answers, HEAD only where no region of the head stands for itself."""
    found = set(into.values())
    if any(PARENTS.get(term) in (HEAD, "FACE") for term in found):
        found.discard(HEAD)
    return tuple(sorted(found, key=_order))


def _order(term: str) -> tuple[int, str]:
    names = list(BODY_PARTS)
    return names.index(term), term


def right(terms: Collection[str], into: Mapping[str, str], among: Sequence[str]) -> list[int]:
    """Positions in ``among`` of the regions that are right for an image of ``terms``."""
    found = {into[term] for term in terms if term in into}
    if HEAD in found and HEAD not in among:
        found |= {term for term in among if PARENTS.get(term) in (HEAD, "FACE")}
    return [at for at, term in enumerate(among) if term in found]


def dealt(slices: Sequence[Slice], count: int = FOLDS) -> list[int]:
    """The fold of each image, -1 of those that are in none; no patient stands in two.

    Stratified by modality and term: patients are dealt out, the rarest term first, to the fold that
    has the fewest of it. Depends on the images, not on their order.
    """
    rarity = {term: len(people) for term, people in patients(slices).items()}
    of_person: dict[str, Counter[str]] = defaultdict(Counter)
    for one in slices:
        if one.use == TRAIN:
            rarest = min(one.terms, key=lambda term: (rarity[term], term), default="")
            of_person[one.person][f"{one.modality} {rarest}"] += 1
    stratum = {
        person: min(seen, key=lambda s: (rarity.get(s.rpartition(" ")[2], 10**6), s))
        for person, seen in of_person.items()
    }
    load: dict[str, Counter[int]] = defaultdict(Counter)
    total: Counter[int] = Counter()
    fold: dict[str, int] = {}
    by_size = sorted(stratum, key=lambda p: (-of_person[p].total(), zlib.crc32(p.encode()), p))
    for person in by_size:
        here = load[stratum[person]]
        fold[person] = min(range(count), key=lambda k: (here[k], total[k], k))
        here[fold[person]] += of_person[person].total()
        total[fold[person]] += of_person[person].total()
    return [fold[one.person] if one.use == TRAIN else -1 for one in slices]


def with_stated(slices: Iterable[Slice]) -> list[Slice]:
    """The same labelled by what came with each image; those that came without are left out."""
    return [replace(one, terms=frozenset({one.stated})) for one in slices if one.stated]
