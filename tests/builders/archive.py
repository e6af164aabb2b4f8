"""An archive of 2,000 studies over 300 patients, most of them sound, with its answer key.

The key says of every study which rules must fire, written down from the texts of the rules. Each
recipe is what a person would do to a sound header; where that breaks several rules, all are named.
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
from tests.builders.headers import Value, dataset

TODAY = date(2025, 1, 15)
STUDIES, PATIENTS, EACH = 2000, 300, 6
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
_ENDINGS = ("ker", "lan", "nov", "sson", "tti")
_FAMILY = [a + b for a in ("Ba", "Do", "Ke", "Mi", "Su") for b in _ENDINGS]
_GIVEN = {
    "F": [a + b for a in ("Adr", "Br", "Cor", "El", "Fr", "Jol") for b in ("ida", "ine")],
    "M": [a + b for a in ("Ant", "Bern", "Dan", "Gor", "Hug", "Ren") for b in ("o", "ald")],
}

Changes = Mapping[str, Value]


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


def _dated(birth: str, study: str, age: str, **changes: Value) -> Changes:
    return {
        "PatientBirthDate": birth,
        "StudyDate": study,
        "AcquisitionDate": study,
        "PatientAge": age,
        **changes,
    }


# What may happen to any study of a patient: the patient's others do not see it.
ANYWHERE: Sequence[tuple[str, Changes]] = (
    ("A1", {"PatientAge": "63"}),
    ("A1", {"PatientAge": "UNK"}),
    ("A2", {"StudyDate": "2023.06.17"}),
    ("A3", {"PatientSex": "U"}),
    ("A4", {"PatientSex": "M\\F"}),
    ("A4", {"PatientAge": "063Y\\064Y"}),
    ("A5 J2", {"BodyPartExamined": b"CHEST\xe9"}),
    ("A6", {"SpecificCharacterSet": "LATIN1"}),
    ("B1", {"PatientSex": None}),
    ("B2", {"PatientSex": ""}),
    ("B3", {"PatientAge": None}),
    ("B4", {"PatientBirthDate": ""}),
    ("B3 B4 B5", {"PatientAge": "", "PatientBirthDate": ""}),
    ("B6", {"StudyDate": ""}),
    ("C1", {"PatientAge": "000Y"}),
    ("C2", {"PatientAge": "999Y"}),
    ("C7", {"PatientName": "TEST^PATIENT"}),
    ("C7", {"QualityControlSubject": "YES"}),
    ("D10", {"LongitudinalTemporalInformationModified": "MODIFIED"}),
    ("E7", {"PatientSize": "0.62"}),
    ("F2", {"PregnancyStatus": 7}),
    ("F4", {"PatientSpeciesDescription": "Canine"}),
    ("F6", {"PatientSex": "O"}),
    ("F8", {"PatientSize": "172"}),
    ("I1", {"BurnedInAnnotation": "YES"}),
    ("I2", {"RescaleSlope": "0", "RescaleIntercept": "0"}),
    ("I3", {"PresentationLUTShape": "INVERSE"}),
    ("I4", {"LossyImageCompression": "01"}),
    ("J1", {"BodyPartExamined": ""}),
    ("J2", {"BodyPartExamined": "CHEST_PA"}),
    ("J3 J4", {"BodyPartExamined": "KNEE"}),
)

# What contradicts the patient's other studies too: each to a patient who has only this one.
ALONE: Sequence[tuple[str, Changes]] = (
    ("D1 E2", _dated("20240620", "20230113", "040Y")),
    ("D2", _dated("19700612", "20250425", "054Y")),
    ("D3 E2", _dated("18950313", "20230613", "050Y")),
    ("D4", _dated("19400813", "19750313", "034Y")),
    ("D6 E2", _dated("19150420", "20230613", "008Y")),
    # The 15th month: day and month are swapped.
    ("A2 D7", _dated("19601504", "20230613", "063Y")),
    ("A2 D9", _dated("S35.04.15", "20230613", "063Y")),
    ("C2", _dated("19100813", "20230613", "112Y")),
    ("C4", _dated("19000101", "20230613", "063Y")),
    ("C5", _dated("19600101", "20230613", "063Y")),
    # 11 months old.
    ("E1", _dated("20220615", "20230530", "014M")),
    ("E2", _dated("19610416", "20230613", "050Y")),
    # 65 at the study, 69 today.
    ("E2 E3", _dated("19550220", "20200313", "069Y")),
    ("E2 E4", _dated("19600415", "20230613", "063M")),
    ("E2 E6", _dated("19590417", "20230613", "046Y")),
    # 17 months old.
    ("E5", _dated("20220113", "20230613", "001Y")),
    ("E8", _dated("19300415", "20230613", "093Y", PatientIdentityRemoved="YES")),
    ("F1", {"PatientSex": "M", "StudyDescription": "Pregnancy, before discharge"}),
    ("F3", _dated("19520415", "20230613", "071Y", PatientSex="F", PregnancyStatus=3)),
)

# What the listing says instead; the first three are no difference.
_LISTED: Sequence[tuple[str, str, str]] = (
    ("", "PatientName", "lower case and carets"),
    ("", "PatientSex", "m or f"),
    ("", "StudyDate", "dots"),
    ("G8", "PatientID", "X00000"),
    ("G8", "PatientName", "Someone^Else"),
    ("G8", "PatientBirthDate", "19330303"),
    ("G8", "StudyDate", "20190919"),
    ("G8", "AccessionNumber", "B000000"),
)


class _Maker:
    """Draws patients and studies, in one order for one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.persons = 0
        self.studies: list[Planted] = []

    def person(self, sex: str = "", birth: date | None = None) -> Person:
        number = self.persons
        self.persons += 1
        sex = sex or "FM"[number % 2]
        # No two of 300 share both names, so that none is taken for another.
        family, turn = _FAMILY[number % len(_FAMILY)], number // len(_FAMILY)
        given = _GIVEN[sex][turn]
        # Neither the first of a month nor a day that is a month.
        drawn = date(self.random.randint(1942, 1992), self.random.randint(2, 12), 13)
        drawn += timedelta(days=self.random.randint(0, 12))
        return Person(number, f"{family}^{given}", sex, birth or drawn)

    def day(self) -> date:
        year, month = self.random.randint(2021, 2024), self.random.randint(1, 12)
        return date(year, month, self.random.randint(13, 28))

    def add(
        self,
        person: Person,
        expected: str,
        *changes: Changes,
        day: date | None = None,
        station: str = "",
        listed: Mapping[str, str] | None = None,
    ) -> None:
        """A study of ``person``, with an instance for each of ``changes``."""
        when, where = day or self.day(), station or self.random.choice(_SOUND_STATIONS)
        number = len(self.studies)
        instances = tuple(person.on(when, where, number, **one) for one in changes or ({},))
        self.studies.append(Planted(instances, frozenset(expected.split()), listed or {}))


def generated(
    seed: int = 4, *, studies: int = STUDIES, patients: int = PATIENTS, each: int = EACH
) -> tuple[Planted, ...]:
    """The archive; the same for the same arguments.

    ``each`` is how often every recipe is planted; those of several studies less often. What is
    planted and its patients are there even if they are more than ``studies`` and ``patients``.
    """
    maker = _Maker(seed)
    for turn in range(each):
        for expected, changes in ALONE:
            person = maker.person(str(changes.get("PatientSex", "")))
            # Another station each time: many of one birth date in one place would be C6.
            station = _SOUND_STATIONS[turn % len(_SOUND_STATIONS)]
            maker.add(person, expected, changes, station=station)
    _histories(maker, each)
    _crowds(maker)
    pool = [maker.person() for _ in range(max(patients - maker.persons, 1))]
    turns = cycle(pool)
    for expected, changes in [*ANYWHERE] * each:
        maker.add(next(turns), expected, changes)
    for _ in range(each):
        for expected, keyword, value in _LISTED:
            person, day = next(turns), maker.day()
            said = {
                "lower case and carets": f"{person.name.lower()}^^^",
                "m or f": person.sex.lower(),
                "dots": f"{day:%Y.%m.%d}",
            }.get(value, value)
            maker.add(person, expected, day=day, listed={keyword: said})
        day = maker.day()
        later = f"{day + timedelta(days=5):%Y%m%d}"
        maker.add(next(turns), "D5", {"AcquisitionDate": later}, day=day)
        maker.add(next(turns), "G2", {}, {"PatientName": "", "StudyDate": "", "PatientAge": ""})
    for _ in range(_MISSED_AGES * each // EACH):
        maker.add(next(turns), "B3", {"PatientAge": ""}, station=MISCONFIGURED)
    for _ in range(_SOUND_THERE * each // EACH):
        maker.add(next(turns), "", station=MISCONFIGURED)
    for _ in range(each):
        foot = {
            "BodyPartExamined": "FOOT",
            "SeriesDescription": "Foot",
            "Laterality": "L",
            "SeriesInstanceUID": uid("archive", len(maker.studies), "foot"),
        }
        maker.add(next(turns), "J5", {}, foot)
    while len(maker.studies) < studies:
        maker.add(next(turns), "")
    return tuple(maker.studies)


def _histories(maker: _Maker, each: int) -> None:
    """Patients whose studies do not go together."""
    days = [date(2021, 5, 13), date(2022, 5, 13), date(2023, 5, 13), date(2024, 5, 13)]
    for _ in range(max(1, each // 3)):
        person = maker.person("F")
        for day, sex in zip(days, "FMF", strict=False):
            maker.add(person, "G1", {"PatientSex": sex}, day=day)
        person = maker.person(birth=date(1960, 4, 15))
        for day, birth in zip(days, ("19600415", "19600515", "19600415"), strict=False):
            maker.add(person, "G1", {"PatientBirthDate": birth}, day=day)
        # Another person's study under this PatientID.
        person, other = maker.person("M"), {"PatientName": "Zzyzx^Quentin"}
        maker.add(person, "G5", day=days[0])
        maker.add(person, "G5", other, day=days[1])
        maker.add(person, "G5", day=days[2])
    for _ in range(max(1, each // 2)):
        person = maker.person()
        # Without a birth date nothing but the other study says that an age is wrong.
        for day, age in zip(days, ("063Y", "058Y"), strict=False):
            maker.add(person, "B4 G3", {"PatientBirthDate": "", "PatientAge": age}, day=day)
        # Only the studies on either side of the change have something to review.
        person = maker.person("M")
        for day, sex, expected in zip(days, "MMFF", ("", "G4", "G4", ""), strict=True):
            maker.add(person, expected, {"PatientSex": sex}, day=day)
        person, again = maker.person(), f"P9{maker.persons:04d}"
        maker.add(person, "G5", day=days[0])
        maker.add(person, "G5", {"PatientID": again}, day=days[1])
        maker.persons += 1


def _crowds(maker: _Maker) -> None:
    """Patients that a console gave what it had at hand."""
    for _ in range(EACH):
        person = maker.person(birth=date(1980, 2, 13))
        maker.add(person, "C6", day=date(2023, 3, 14), station="ROOM2")
    for _ in range(2 * EACH):
        blank = {"PatientBirthDate": "", "PatientAge": "099Y"}
        maker.add(maker.person(), "B4 C3", blank, station=SPIKED)


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
