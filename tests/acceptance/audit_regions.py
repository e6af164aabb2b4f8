"""CT, MR and CR with some wrong body parts in a real Orthanc: what headers and images tell of them.

    python -m tests.acceptance.audit_regions [--data ../shared/data] [--folder DIR] [--draws 200]

One study an image: single CT and MR images that the region network never saw, chest radiographs and
radiographs of knees. In a third of them BodyPartExamined is wrong, in one of four ways (see
:data:`FAULTS`). The archive is audited with the bundle ``ct-mr-region`` and the default settings:
by what C-FIND says alone, by the headers (WADO-RS metadata), and with the images of every study
(C-GET). A C-FIND that says nothing of a body part does not say that there is none, so J1 needs the
headers. As one draw says little of rates, the faults are drawn again ``--draws`` times over the
answers that the audit kept.
"""

import argparse
import csv
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.audit.study import collected_from_row
from dicom_ai_node.demo.images import radiograph, uid
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.store import audit_studies
from tests.acceptance.audit_orthanc import configure, findings, new, report, run
from tests.builders.archive import TODAY
from tests.builders.orthanc import orthanc_in
from tests.builders.ports import free_port
from tests.builders.scores import concluded, fired

SOURCE = "pacs:get"
WAYS = (
    ("the listing alone", SOURCE, Depth.HEADERS),
    ("headers alone", "web:web", Depth.HEADERS),
    ("with every image", SOURCE, Depth.ALL),
)
RADIOGRAPHS = 60
"""Of chests, and half as many of knees."""
WORDS = {
    "HEAD": "Head routine",
    "CHEST": "Chest routine",
    "ABDOMEN": "Abdomen routine",
    "PELVIS": "Pelvis routine",
    "CSPINE": "Cervical spine routine",
    "HAND": "Wrist routine",
    "SHOULDER": "Shoulder routine",
    "KNEE": "Knee routine",
}
"""What a description says of an image of each part."""
REGIONS = {
    "brain": "HEAD",
    "head": "HEAD",
    "wrist": "HAND",
    "cervical spine": "CSPINE",
    "heart": "CHEST",
    "shoulder": "SHOULDER",
    "shoulder/apex": "CHEST",
    "abdomen (pancreas)": "ABDOMEN",
    "abdomen (liver)": "ABDOMEN",
    **{part.lower(): part for part in ("CHEST", "ABDOMEN", "PELVIS")},
}
"""The part that a person named for the image; others are left out, as scouts are."""
FAR = {
    "HEAD": ("KNEE", "ABDOMEN", "FOOT"),
    "CSPINE": ("KNEE", "PELVIS", "FOOT"),
    "CHEST": ("HEAD", "KNEE", "PELVIS"),
    "ABDOMEN": ("HEAD", "KNEE", "FOOT"),
    "PELVIS": ("HEAD", "HAND", "FOOT"),
    "HAND": ("HEAD", "CHEST", "ABDOMEN"),
    "SHOULDER": ("HEAD", "KNEE", "PELVIS"),
    "KNEE": ("CHEST", "HEAD", "ABDOMEN"),
}
"""What a wrong header says: nothing that an image of the part could show as well."""

FAULTS: Mapping[str, frozenset[str]] = {
    "missing": frozenset({"J1"}),
    "no defined term": frozenset({"J2"}),
    "wrong, the description is right": frozenset({"J3", "J6"}),
    "wrong, and no description": frozenset({"J6"}),
}
"""What is wrong with the header, and the rules that may say so."""
RULES = ("J1", "J2", "J3", "J6")


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a known part of the body, and what its header says of that."""

    number: int
    modality: str
    path: Path
    part: str
    fault: str = ""
    """A key of :data:`FAULTS`, '' where the header is right."""
    said: str = ""
    """The part that a wrong header says."""

    @property
    def study(self) -> str:
        return uid("part", self.number)

    def header(self) -> dict[str, Any]:
        """A header that is right but for the fault."""
        part = {"missing": None, "no defined term": "ROUTINE", "": self.part}
        words = "" if self.fault == "wrong, and no description" else WORDS[self.part]
        return {
            "StudyDate": "20240517",
            "Modality": self.modality,
            "Manufacturer": "Alpha Imaging",
            "StationName": f"{self.modality}1",
            "StudyDescription": words,
            "SeriesDescription": "",
            "PatientName": f"Part^{self.number}",
            "PatientID": f"P{self.number:05}",
            "PatientBirthDate": "19650102",
            "PatientSex": "F",
            "PatientAge": "059Y",
            "BodyPartExamined": part.get(self.fault, self.said),
            "Laterality": "L" if self.part in {"HAND", "SHOULDER", "KNEE"} else None,
            "StudyInstanceUID": self.study,
            "SeriesInstanceUID": uid(self.study, "series"),
            "SOPInstanceUID": uid(self.study, 1),
        }

    def file(self) -> Dataset:
        """The DICOM image: of CT in Hounsfield units, of MR as it was stored."""
        if self.modality == "CR":
            grey = np.asarray(Image.open(self.path).convert("L")).astype(np.uint16)
            return radiograph(grey, study="", bits=8, **self.header())
        ct = self.modality == "CT"
        stored = self._stored() + (1024 if ct else 0)
        grey = np.clip(stored, 0, 4095 if ct else 32767).astype(np.uint16)
        more = {
            "SOPClassUID": CTImageStorage if ct else MRImageStorage,
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL" if ct else "M"],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, 0],
            "PixelSpacing": [1.5, 1.5],
            "SliceThickness": 5,
            "RescaleSlope": 1 if ct else None,
            "RescaleIntercept": -1024 if ct else None,
            "ViewPosition": None,
        }
        return radiograph(grey, study="", bits=12 if ct else 15, **self.header() | more)

    def _stored(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        if self.path.suffix == ".npz":
            return np.asarray(np.load(self.path)["px"], np.int32)
        # DeepLesion's pictures are a soft tissue window of -160 to 240 Hounsfield units.
        grey = np.asarray(Image.open(self.path).convert("L"), np.float64)
        return np.round(grey / 255 * 400 - 160).astype(np.int32)

    def facts(self) -> StudyFacts:
        """What an audit keeps of it."""
        return StudyFacts(self.study, (TextHeader.from_dataset(self.file()),))


def pictures(data: Path) -> list[Picture]:
    """Every image whose part is known: of the test splits, and radiographs."""
    found = [
        (row["modality"], data / row["path"], REGIONS[row["region"]])
        for row in _rows(data / "ct_mr/index.csv")
        if row["split"] == "test" and row["region"] in REGIONS and "phantom" not in row["note"]
    ]
    chests = [row for row in _rows(data / "cxr/index.csv") if row["split"] == "val"]
    knees = [row for row in _rows(data / "nonchest/index.csv") if row["body_part"] == "KNEE"]
    found += [("CR", data / row["path"], "CHEST") for row in chests[:RADIOGRAPHS]]
    found += [("CR", data / row["path"], "KNEE") for row in knees[: RADIOGRAPHS // 2]]
    return [Picture(number, *each) for number, each in enumerate(found)]


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def planted(sound: Sequence[Picture], chance: random.Random) -> list[Picture]:
    """The same with a fault in every third."""
    found = list(sound)
    chosen = chance.sample(range(len(found)), len(found) // 3)
    for turn, at in enumerate(chosen):
        fault = [*FAULTS][turn % len(FAULTS)]
        found[at] = replace(found[at], fault=fault, said=chance.choice(FAR[found[at].part]))
    return found


Rules = Mapping[str, Collection[str]]
Draw = tuple[Sequence[Picture], Rules]


def tables(draws: Sequence[Draw]) -> str:
    """How often each fault is found by any of its rules, and how often each rule is right."""
    lines = ["| fault | planted | found | recall |", "|:--|--:|--:|--:|"]
    for fault, rules in FAULTS.items():
        wrong = fmean(sum(one.fault == fault for one in drawn) for drawn, _ in draws)
        told = fmean(
            sum(one.fault == fault and not rules.isdisjoint(said[one.study]) for one in drawn)
            for drawn, said in draws
        )
        lines.append(f"| {fault} | {wrong:.4g} | {told:.4g} | {told / wrong:.3f} |")
    lines += ["", "| rule | fired | right | precision |", "|:--|--:|--:|--:|"]
    for rule in RULES:
        here = [[one for one in drawn if rule in said[one.study]] for drawn, said in draws]
        times = fmean(map(len, here))
        right = fmean(sum(rule in FAULTS.get(one.fault, ()) for one in told) for told in here)
        share = f"{right / times:.3f}" if times else "-"
        lines.append(f"| {rule} | {times:.4g} | {right:.4g} | {share} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="audit body parts in a real Orthanc")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="audit-regions-"))
    chance = random.Random(13)
    sound = pictures(given.data)
    archive = planted(sound, chance)
    counts = Counter((one.modality, one.part) for one in sound)
    print(", ".join(f"{number} {modality} {part}" for (modality, part), number in counts.items()))
    with orthanc_in(folder / "orthanc", dicomweb=True) as orthanc:
        orthanc.add(one.file() for one in archive)
        config, db = configure(folder, orthanc, free_port())
        config.write_text(f'{config.read_text()}\n[model]\nfurther = ["ct-mr-region"]\n')
        for name, source, depth in WAYS:
            number = new(db, source, depth, ("CR", "CT", "MR"))
            run(config, number)
            document = report(config, number, folder / name.replace(" ", "-"))
            print(f"\n{name}\n\n{tables([(archive, findings(document))])}", flush=True)
        kept = {
            row.key: row for row in map(collected_from_row, audit_studies.collected(db, number))
        }
        db.close()
    spec = AuditSpec(source=SOURCE, depth=Depth.ALL, today=TODAY)

    def again(drawn: Sequence[Picture]) -> Rules:
        own: list[Collected] = [replace(kept[one.study], facts=one.facts()) for one in drawn]
        return fired(concluded(spec, own))

    draws = [planted(sound, chance) for _ in range(given.draws)]
    print(f"\nwith every image, means of {given.draws} draws\n")
    print(tables([(drawn, again(drawn)) for drawn in draws]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
