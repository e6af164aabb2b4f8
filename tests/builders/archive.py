"""An archive of 2,000 studies over 300 patients, most of them sound, with its answer key.

The key says of every study which rules must fire, written down from the texts of the rules. Each
recipe is what a person would do to a sound header; where that breaks several rules, all are named.
Each draws its patient, its day and its station by itself: one more moves none of the others.
G7 is a statistical statement about a console and has no key; :data:`MISCONFIGURED` is the console.
G6 needs a worklist, which no audit asks.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.demo.images import uid
from dicom_ai_node.pixels.lenient import quiet
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.ages_and_dates import encode_age_at
from tests.builders.archive_recipes import ALONE, ANYWHERE, LISTED, Changes
from tests.builders.headers import Value, dataset

TODAY = date(2025, 1, 15)
STUDIES, PATIENTS, EACH = 2000, 300, 6
_ANYBODY = 25  # patients to whom anything of ANYWHERE may happen, for each time that it is planted
MISCONFIGURED = "PORTABLE3"
SPIKED = "ROOM4"
_MISSED_AGES, _SOUND_THERE = 40, 30  # studies of the misconfigured console
_SIDE = 64

_STATIONS: Mapping[str, Sequence[str]] = {
    # manufacturer, model, software
    "ROOM1": ("Alpha Imaging", "A-100", "3.1"),
    "ROOM2": ("Alpha Imaging", "A-100", "3.1"),
    "ROOM3": ("Beta Systems", "B-7", "2024.1"),
    SPIKED: ("Beta Systems", "B-7", "2024.1"),
    "ROOM5": ("Gamma", "G", "7"),
    MISCONFIGURED: ("Alpha Imaging", "A-50", "1.0 beta"),
}
_SOUND_STATIONS = ("ROOM1", "ROOM2", "ROOM3", SPIKED, "ROOM5")
_ENDINGS = ("ker", "lan", "mann", "nov", "sson", "tti")
_FAMILY = [a + b for a in ("Ba", "Do", "Ke", "Mi", "Su") for b in _ENDINGS]
_GIVEN = {
    "F": [a + b for a in ("Adr", "Br", "Cor", "El", "Fr", "Jol") for b in ("ida", "ine")],
    "M": [a + b for a in ("Ant", "Bern", "Dan", "Gor", "Hug", "Ren") for b in ("o", "ald")],
}


@dataclass(frozen=True)
class Planted:
    """One study as it is in the archive, and what must be said of it."""

    instances: tuple[Mapping[str, Value], ...]
    """All attributes of each of its instances."""
    expected: frozenset[str]
    listed: Mapping[str, str] = field(default_factory=dict)
    """What the listing says that the first instance does not."""

    @property
    def uid(self) -> str:
        return str(self.instances[0]["StudyInstanceUID"])


@dataclass(frozen=True)
class Person:
    number: int
    name: str
    sex: str
    birth: date

    def on(self, day: date, station: str, number: int, **changes: Value) -> dict[str, Value]:
        """A sound header of a study on ``day``, with ``changes``."""
        manufacturer, model, software = _STATIONS[station]
        return {
            "StudyDate": f"{day:%Y%m%d}",
            "AcquisitionDate": f"{day:%Y%m%d}",
            "AccessionNumber": f"A{number:06d}",
            "Modality": "CR",
            "Manufacturer": manufacturer,
            "StationName": station,
            "StudyDescription": "Chest PA",
            "ManufacturerModelName": model,
            "PatientName": self.name,
            "PatientID": f"P{self.number:05d}",
            "IssuerOfPatientID": "HOSPITAL",
            "PatientBirthDate": f"{self.birth:%Y%m%d}",
            "PatientSex": self.sex,
            "PatientAge": encode_age_at(self.birth, day) if self.birth <= day else "",
            "BodyPartExamined": "CHEST",
            "SoftwareVersions": software,
            "StudyInstanceUID": uid("archive", number),
            "SeriesInstanceUID": uid("archive", number, "series"),
            **changes,
        }


class _Maker:
    """Makes patients and studies, the same for one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.persons = 0
        self.studies: list[Planted] = []
        self.anybody: list[Person] = []

    def draws(self, *recipe: object) -> random.Random:
        """The draws of one recipe and turn, which depend on nothing else."""
        return random.Random(" ".join(map(str, (self.seed, *recipe))))

    def person(self, draws: random.Random, sex: str = "", birth: date | None = None) -> Person:
        number = self.persons
        self.persons += 1
        sex = sex or draws.choice("FM")
        # No two of 360 share both names, so that none is taken for another.
        family, given = _FAMILY[number % len(_FAMILY)], _GIVEN[sex][number // len(_FAMILY)]
        # Neither the first of a month nor a day that is a month.
        drawn = date(draws.randint(1942, 1992), draws.randint(2, 12), 13)
        drawn += timedelta(days=draws.randint(0, 12))
        return Person(number, f"{family}^{given}", sex, birth or drawn)

    def somebody(self, draws: random.Random) -> tuple[Person, date]:
        """A patient who has other studies too, and a day."""
        return draws.choice(self.anybody), _day(draws)

    def add(
        self,
        draws: random.Random,
        expected: str,
        *changes: Changes,
        person: Person | None = None,
        day: date | None = None,
        station: str = "",
        listed: Mapping[str, str] | None = None,
    ) -> None:
        """A study with an instance for each of ``changes``; what is not given is drawn."""
        whose, when = self.somebody(draws)
        where, number = station or draws.choice(_SOUND_STATIONS), len(self.studies)
        instances = tuple(
            (person or whose).on(day or when, where, number, **one) for one in changes or ({},)
        )
        self.studies.append(Planted(instances, frozenset(expected.split()), listed or {}))


def _day(draws: random.Random) -> date:
    return date(draws.randint(2021, 2024), draws.randint(1, 12), draws.randint(13, 28))


def generated(seed: int = 4, *, studies: int = STUDIES, each: int = EACH) -> tuple[Planted, ...]:
    """The archive; the same for the same arguments.

    ``each`` is how often every recipe is planted; those of several studies less often. What is
    planted is there even if it is more than ``studies``.
    """
    maker = _Maker(seed)
    maker.anybody = [maker.person(maker.draws("anybody", n)) for n in range(_ANYBODY * each)]
    for turn in range(each):
        _alone(maker, turn)
    _histories(maker, each)
    _crowds(maker)
    for turn in range(each):
        for expected, changes in ANYWHERE:
            maker.add(maker.draws(expected, changes, turn), expected, changes)
        _fitted(maker, turn)
        _listed(maker, turn)
    _console(maker, each)
    sound = range(studies - len(maker.studies))
    for turn, person in zip(sound, cycle(maker.anybody), strict=False):
        maker.add(maker.draws("sound", turn), "", person=person)
    return tuple(maker.studies)


def _alone(maker: _Maker, turn: int) -> None:
    # Another station each time: many of one birth date in one place would be C6.
    station = _SOUND_STATIONS[turn % len(_SOUND_STATIONS)]
    for expected, changes in ALONE:
        draws = maker.draws(expected, changes, turn)
        person = maker.person(draws, str(changes.get("PatientSex", "")))
        maker.add(draws, expected, changes, person=person, station=station)


def _fitted(maker: _Maker, turn: int) -> None:
    """What may happen to any study, and depends on what it says."""
    draws = maker.draws("A1 without a unit", turn)
    person, day = maker.somebody(draws)
    years = encode_age_at(person.birth, day).strip("0Y")
    maker.add(draws, "A1", {"PatientAge": years}, person=person, day=day)
    draws = maker.draws("D5", turn)
    person, day = maker.somebody(draws)
    later = f"{day + timedelta(days=5):%Y%m%d}"
    maker.add(draws, "D5", {"AcquisitionDate": later}, person=person, day=day)
    less = {"PatientName": "", "StudyDate": "", "PatientAge": ""}
    maker.add(maker.draws("G2", turn), "G2", {}, less)
    foot = {
        "BodyPartExamined": "FOOT",
        "SeriesDescription": "Foot",
        "Laterality": "L",
        "SeriesInstanceUID": uid("archive", len(maker.studies), "foot"),
    }
    maker.add(maker.draws("J5", turn), "J5", {}, foot)


def _listed(maker: _Maker, turn: int) -> None:
    for expected, keyword, value in LISTED:
        draws = maker.draws(expected, keyword, value, turn)
        person, day = maker.somebody(draws)
        said = {
            "lower case and carets": f"{person.name.lower()}^^^",
            "m or f": person.sex.lower(),
            "dots": f"{day:%Y.%m.%d}",
        }.get(value, value)
        maker.add(draws, expected, person=person, day=day, listed={keyword: said})


def _console(maker: _Maker, each: int) -> None:
    """A station that mostly leaves out the age."""
    for turn in range(_MISSED_AGES * each // EACH):
        draws = maker.draws("missed age", turn)
        maker.add(draws, "B3", {"PatientAge": ""}, station=MISCONFIGURED)
    for turn in range(_SOUND_THERE * each // EACH):
        maker.add(maker.draws("sound there", turn), "", station=MISCONFIGURED)


def _histories(maker: _Maker, each: int) -> None:
    """Patients whose studies do not go together."""
    days = [date(year, 5, 13) for year in range(2021, 2025)]
    for turn in range(max(1, each // 3)):
        draws = maker.draws("G1", turn)
        person = maker.person(draws, "F")
        for day, sex in zip(days, "FMF", strict=False):
            maker.add(draws, "G1", {"PatientSex": sex}, person=person, day=day)
        person = maker.person(draws, birth=date(1960, 4, 15))
        for day, birth in zip(days, ("19600415", "19600515", "19600415"), strict=False):
            maker.add(draws, "G1", {"PatientBirthDate": birth}, person=person, day=day)
        # Another person's study under this PatientID.
        draws = maker.draws("G5, another name", turn)
        person, other = maker.person(draws, "M"), {"PatientName": "Zzyzx^Quentin"}
        for day, changes in zip(days, ({}, other, {}), strict=False):
            maker.add(draws, "G5", changes, person=person, day=day)
    for turn in range(max(1, each // 2)):
        draws = maker.draws("G3", turn)
        person = maker.person(draws)
        # Without a birth date nothing but the other study says that an age is wrong.
        for day, age in zip(days, ("063Y", "058Y"), strict=False):
            blank = {"PatientBirthDate": "", "PatientAge": age}
            maker.add(draws, "B4 G3", blank, person=person, day=day)
        # Only the studies on either side of the change have something to review.
        draws = maker.draws("G4", turn)
        person = maker.person(draws, "M")
        for day, sex, expected in zip(days, "MMFF", ("", "G4", "G4", ""), strict=True):
            maker.add(draws, expected, {"PatientSex": sex}, person=person, day=day)
        draws = maker.draws("G5, another ID", turn)
        person, again = maker.person(draws), f"P9{maker.persons:04d}"
        maker.add(draws, "G5", person=person, day=days[0])
        maker.add(draws, "G5", {"PatientID": again}, person=person, day=days[1])


def _crowds(maker: _Maker) -> None:
    """Patients that a console gave what it had at hand."""
    for turn in range(EACH):
        draws = maker.draws("C6", turn)
        person = maker.person(draws, birth=date(1980, 2, 13))
        maker.add(draws, "C6", person=person, day=date(2023, 3, 14), station="ROOM2")
    blank = {"PatientBirthDate": "", "PatientAge": "099Y"}
    for turn in range(2 * EACH):
        draws = maker.draws("C3", turn)
        maker.add(draws, "B4 C3", blank, person=maker.person(draws), station=SPIKED)


def headers(planted: Planted) -> tuple[TextHeader, ...]:
    return tuple(TextHeader.from_dataset(dataset(**one)) for one in planted.instances)


def collected(studies: Sequence[Planted]) -> Iterator[Collected]:
    """What an audit would have collected: whole headers, and the listing."""
    for one in studies:
        own = headers(one)
        listed = TextHeader({**_answer(own[0]), **one.listed})
        facts = StudyFacts(one.uid, own, listed)
        yield Collected(one.uid, facts, expected=len(own), arrived=len(own))


def _answer(header: TextHeader) -> dict[str, str]:
    """What an archive answers to a query: the keys of its database, trimmed."""
    asked = ("StudyDate", "AccessionNumber", "PatientName", "PatientID", "PatientBirthDate")
    return {keyword: header.clean(keyword) for keyword in (*asked, "PatientSex")}


def write(studies: Sequence[Planted], folder: Path) -> list[Path]:
    """Write every instance as a CR image of 64 by 64 pixels; return the files in order.

    What only the listing says (G8) is not in them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(0).integers(0, 4096, (_SIDE, _SIDE), dtype=np.uint16)
    paths = []
    for at, one in enumerate(studies):
        for number, values in enumerate(one.instances, 1):
            paths.append(folder / f"{at:04d}-{number}.dcm")
            image = _image(dataset(**values), grey, one.uid, number)
            with quiet():  # What is wrong in a header is wrong on purpose.
                image.save_as(paths[-1], enforce_file_format=True)
    return paths


def _image(ds: Dataset, grey: np.ndarray, study: str, number: int) -> Dataset:
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID = uid(study, number)
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.Rows, ds.Columns = grey.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = grey.tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds
