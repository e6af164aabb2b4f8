"""Real radiographs with some wrong headers in a real Orthanc: what the images tell of them.

    python -m tests.acceptance.audit_images [--data ../shared/data] [--split val] [--draws 200]
                                            [--kills 3] [--folder DIR]

One study a patient with the recorded age and sex in its header. The sex of ten is swapped, the age
of ten others moved by 35 years or more, and five have both wrong, as if another patient's. The
archive is audited by C-GET with the shipped bundle and the default settings. A single draw of 25
says little of rates, so the wrong headers are drawn again ``--draws`` times over the estimates that
the audit kept, and once with none wrong. Recorded labels that are wrong themselves count as false.
Exit code 1 when an audit that is killed meanwhile reports something else.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset

from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.audit.study import collected_from_row
from dicom_ai_node.demo.images import radiograph, uid
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.ages_and_dates import encode_age_at
from dicom_ai_node.store import audit_studies
from tests.acceptance.audit_orthanc import configure, findings, kill, new, report, run
from tests.builders.archive import TODAY
from tests.builders.orthanc import orthanc_in
from tests.builders.ports import free_port
from tests.builders.scores import concluded, fired
from training.data import project as own

SEX, AGE, BOTH = 10, 10, 5
FURTHEST, LEAST = 50, 35
"""Years by which a wrong age is off."""
AGES = (18, 89)
SOURCE = "pacs:get"

Rules = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Chest:
    """One radiograph, and what its header says."""

    number: int
    path: Path
    age: int
    sex: str
    wrong: frozenset[str] = frozenset()
    """``age``, ``sex``, or both."""

    @property
    def study(self) -> str:
        return uid("chest", self.number)

    def header(self) -> dict[str, Any]:
        """A header that is consistent in itself, whatever is wrong in it."""
        day = date(2024, 1 + self.number % 12, 13 + self.number % 15)
        birth = day.replace(year=day.year - self.age) - timedelta(days=100)
        return {
            "StudyDate": f"{day:%Y%m%d}",
            "AcquisitionDate": f"{day:%Y%m%d}",
            "Modality": "CR",
            "Manufacturer": "Alpha Imaging",
            "StationName": "ROOM1",
            "StudyDescription": "Chest",
            "SeriesDescription": "Chest",
            "PatientName": f"Chest^{self.number}",
            "PatientID": f"P{self.number:05}",
            "PatientBirthDate": f"{birth:%Y%m%d}",
            "PatientSex": self.sex,
            "PatientAge": encode_age_at(birth, day),
            "BodyPartExamined": "CHEST",
            "StudyInstanceUID": self.study,
            "SeriesInstanceUID": uid(self.study, "series"),
            "SOPInstanceUID": uid(self.study, 1),
        }

    def file(self) -> Dataset:
        grey = np.asarray(Image.open(self.path).convert("L"))
        return radiograph(grey.astype(np.uint16), study="", bits=8, **self.header())

    def facts(self) -> StudyFacts:
        """What an audit keeps of it."""
        black = np.zeros((8, 8), np.uint16)
        read = TextHeader.from_dataset(radiograph(black, study="", bits=8, **self.header()))
        return StudyFacts(self.study, (read,))


def chests(data: Path, split: str) -> list[Chest]:
    """The first radiograph of each patient of a split whose age and sex are known."""
    first: dict[str, Chest] = {}
    for item in own.items(data):
        if item.role == split and item.age == item.age and item.female == item.female:
            one = Chest(len(first), data / item.path, int(item.age), "F" if item.female else "M")
            first.setdefault(item.patient, one)
    return list(first.values())


def planted(sound: Sequence[Chest], chance: random.Random) -> list[Chest]:
    """The same with wrong ages and sexes in some."""
    found = list(sound)
    kinds = [{"sex"}] * SEX + [{"age"}] * AGE + [{"age", "sex"}] * BOTH
    for at, kind in zip(chance.sample(range(len(found)), len(kinds)), kinds, strict=True):
        one = replace(found[at], wrong=frozenset(kind))
        if "sex" in kind:
            one = replace(one, sex="M" if one.sex == "F" else "F")
        if "age" in kind:
            one = replace(one, age=_far_from(one.age, chance))
        found[at] = one
    return found


def _far_from(age: int, chance: random.Random) -> int:
    low, high = AGES
    return chance.choice(
        [one for one in range(low, high + 1) if LEAST <= abs(one - age) <= FURTHEST]
    )


def again(archive: Sequence[Chest], kept: Mapping[str, Collected]) -> Rules:
    """What the audit would have found, had the headers been these: the estimates are the same."""
    collected = [replace(kept[one.study], facts=one.facts()) for one in archive]
    return fired(concluded(AuditSpec(source=SOURCE, depth=Depth.ALL, today=TODAY), collected))


ABOUT: Mapping[str, frozenset[str]] = {
    "H1": frozenset({"age"}),
    "H2": frozenset({"sex"}),
    "H3": frozenset({"age", "sex"}),
}
"""What a rule says is wrong. H3 is false only where nothing is wrong, and is meant for both."""
Draw = tuple[Sequence[Chest], Rules]


@dataclass(frozen=True, slots=True)
class Tally:
    """One rule in one draw."""

    planted: int
    found: int
    right: int
    """Of the planted, those found."""
    false: float
    """Share of the found that are right in what the rule is about; 0 where nothing is found."""


def tally(draw: Draw, rule: str) -> Tally:
    archive, found = draw
    told = [one for one in archive if rule in found[one.study]]
    return Tally(
        planted=sum(one.wrong >= ABOUT[rule] for one in archive),
        found=len(told),
        right=sum(one.wrong >= ABOUT[rule] for one in told),
        false=fmean([one.wrong.isdisjoint(ABOUT[rule]) for one in told] or [0.0]),
    )


def table(draws: Sequence[Draw]) -> str:
    """Means over draws. Where nothing is wrong, ``false`` is how often anything is found."""
    lines = ["| rule | wrong | found | recall | false among found |", "|---|---|---|---|---|"]
    for rule in ABOUT:
        tallies = [tally(one, rule) for one in draws]
        wrong = fmean(one.planted for one in tallies)
        recall = f"{fmean(one.right for one in tallies) / wrong:.2f}" if wrong else ""
        found, false = (fmean(getattr(one, name) for one in tallies) for name in ("found", "false"))
        lines.append(f"| {rule} | {wrong:g} | {found:.4g} | {recall} | {false:.3f} |")
    return "\n".join(lines)


def told(archive: Sequence[Chest], document: Mapping[str, Any]) -> None:
    """Print what was compared, and how right the alerts are beside what the report expects."""
    studies = {one["key"]: one["suspicion"] for one in document["studies"]}
    age, sex = (sum(one[p] is not None for one in studies.values()) for p in ("age_p", "sex_p"))
    alerts = [bool(one.wrong) for one in archive if studies[one.study]["alert"]]
    rate, expected = document["spec"]["false_discovery_rate"], document["budget"]["expected_ppv"]
    print(f"{document['model']}, false discovery rate {rate}")
    print(f"compared: age of {age}, sex of {sex} of {len(studies)} studies")
    print(f"alerts: {len(alerts)}, right ones {fmean(alerts or [0])}, expected {expected}")


def main() -> int:
    parser = argparse.ArgumentParser(description="audit real radiographs in a real Orthanc")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--split", default="val")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="audit-images-"))
    chance = random.Random(11)
    sound = chests(given.data, given.split)
    archive = planted(sound, chance)
    same = True
    with orthanc_in(folder / "orthanc") as orthanc:
        orthanc.add(one.file() for one in archive)
        config, db = configure(folder, orthanc, free_port())
        number = new(db, SOURCE, Depth.ALL)
        run(config, number)
        document = report(config, number, folder / "report")
        told(archive, document)
        print(f"\n{given.split}, as audited in Orthanc\n\n{table([(archive, findings(document))])}")
        collected = map(collected_from_row, audit_studies.collected(db, number))
        kept = {one.key: one for one in collected}
        print(f"\nnone wrong\n\n{table([(sound, again(sound, kept))])}")
        draws = [planted(sound, chance) for _ in range(given.draws)]
        found = [(one, again(one, kept)) for one in draws]
        print(f"\nmeans of {given.draws} draws\n\n{table(found)}", flush=True)
        if given.kills:
            number = new(db, SOURCE, Depth.ALL)
            fetched = folder / "spool" / "audit" / str(number)
            kill(config, db, number, fetched, kills=given.kills, studies=len(archive))
            same = report(config, number, folder / "killed") == document
            print(f"killed {given.kills} times, the report is that of the undisturbed one: {same}")
        db.close()
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
