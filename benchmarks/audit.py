"""How fast headers alone are audited, beside what the archive itself can answer.

    python -m benchmarks.audit [--quick] [--repeats 3] [--json] [--write]

An Orthanc with the generated archive (2,000 studies; ``--quick``: about 100) is audited with
``--headers-only`` by C-FIND and by DICOMweb, the whole command with its start and its database. The
floors ask the same archive the same things and throw the answers away: DCMTK ``findscu`` the same
queries of studies, series and images over one association for each level, and plain httpx the same
pages and metadata, parsed as JSON. They need not wait for one level's answers to ask for the next.
The sides take turns within each repeat, so that other work on the machine hits all of them. The
report, where all rules are applied, is a command of its own, and timed apart.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset

from benchmarks.peers import tool
from benchmarks.report import Report, Table, add_options, publish
from dicom_ai_node.audit.campaign import Depth
from dicom_ai_node.audit.sources import cfind
from dicom_ai_node.config.peers import WebTable
from dicom_ai_node.store import audits
from tests.acceptance import audit_orthanc
from tests.builders.archive import Planted, generated, write
from tests.builders.orthanc import AE_TITLE, Orthanc, orthanc_in
from tests.builders.ports import free_port

MODALITIES = ("CR", "DX")
"""What an audit asks for unless told otherwise, one at a time."""
SHARE = 0.7
"""Mark: the least share of its floor that an audit reaches."""
PAGE: int = WebTable.model_fields["page"].default


class Ours:
    """``audit resume`` of a headers-only audit that waits, in a folder of its own each time."""

    def __init__(self, orthanc: Orthanc, work: Path, source: str, studies: int) -> None:
        self._orthanc, self._work, self._source = orthanc, work, source
        self._studies = studies
        self.reports: list[float] = []

    def __call__(self) -> float:
        folder = Path(tempfile.mkdtemp(dir=self._work))
        config, db = audit_orthanc.configure(folder, self._orthanc, free_port())
        number = audit_orthanc.new(db, self._source, Depth.HEADERS)
        seconds = audit_orthanc.run(config, number)
        row = audits.show(db, number)
        assert row is not None
        if (row.settled, row.faults) != (self._studies, 0):
            sys.exit(f"{self._source}: {row.settled} of {self._studies}, {row.faults} with faults")
        db.close()
        began = time.perf_counter()
        audit_orthanc.report(config, number, folder / "report")
        self.reports.append(time.perf_counter() - began)
        return seconds


class Findscu:
    """DCMTK asks what an audit asks by C-FIND."""

    def __init__(self, orthanc: Orthanc, folder: Path, studies: Sequence[Planted]) -> None:
        self._command = [tool("findscu"), "-S", "-aec", AE_TITLE]
        self._command += ["127.0.0.1", str(orthanc.dicom_port)]
        series = sorted(
            {(one.uid, str(its["SeriesInstanceUID"])) for one in studies for its in one.instances}
        )
        levels = {
            "STUDY": [
                cfind.query("STUDY", cfind.STUDY, ModalitiesInStudy=one) for one in MODALITIES
            ],
            "SERIES": [
                cfind.query("SERIES", cfind.SERIES, StudyInstanceUID=one.uid) for one in studies
            ],
            "IMAGE": [
                cfind.query("IMAGE", cfind.IMAGE, StudyInstanceUID=study, SeriesInstanceUID=one)
                for study, one in series
            ],
        }
        self._queries = [_written(folder / level, own) for level, own in levels.items()]
        images = sum(len(one.instances) for one in studies)
        self._check(len(studies) + len(series) + images)

    def __call__(self) -> float:
        began = time.perf_counter()
        for queries in self._queries:
            self._run("--quiet", *queries)
        return time.perf_counter() - began

    def _run(self, *words: str) -> bytes:
        done = subprocess.run([*self._command, *words], check=True, capture_output=True)
        return done.stdout + done.stderr

    def _check(self, expected: int) -> None:
        """Every study, series and image is answered once."""
        came = 0
        for queries in self._queries:
            came += self._run(*queries).count(b"(Pending)")
        if came != expected:
            sys.exit(f"findscu got {came} answers, expected {expected}")


def _written(folder: Path, queries: Sequence[Dataset]) -> list[str]:
    folder.mkdir(parents=True)
    paths = []
    for number, one in enumerate(queries):
        paths.append(str(folder / f"{number:05}.dcm"))
        one.save_as(paths[-1], implicit_vr=False, little_endian=True)
    return paths


class Plain:
    """httpx asks what an audit asks by DICOMweb."""

    def __init__(self, orthanc: Orthanc, studies: Sequence[Planted]) -> None:
        self._root = orthanc.dicomweb
        self._uids = [one.uid for one in studies]

    def __call__(self) -> float:
        began, listed = time.perf_counter(), 0
        with httpx.Client(headers={"Accept": "application/dicom+json"}, timeout=60) as http:
            for modality in MODALITIES:
                for offset in range(0, len(self._uids) + PAGE, PAGE):
                    page = self._page(http, modality, offset)
                    listed += len(page)
                    if not page:
                        break
            for one in self._uids:
                answer = http.get(f"{self._root}/studies/{one}/metadata").raise_for_status()
                assert answer.json()
        if listed != len(self._uids):
            sys.exit(f"QIDO-RS lists {listed} studies, expected {len(self._uids)}")
        return time.perf_counter() - began

    def _page(self, http: httpx.Client, modality: str, offset: int) -> list[object]:
        """Orthanc counts the limit from the first answer on, not from the offset."""
        asked: dict[str, Any] = {"ModalitiesInStudy": modality, "offset": offset}
        asked["limit"] = offset + PAGE
        fields = [f"{cfind.element(keyword)[0]:08X}" for keyword in cfind.STUDY]
        answer = http.get(
            f"{self._root}/studies",
            params={**asked, "includefield": fields},
        )
        found: list[object] = answer.raise_for_status().json() if answer.content else []
        return found


def compare(sides: dict[str, Callable[[], float]], studies: int, repeats: int) -> Table:
    """Time each side in turns, and set each audit beside its floor, which comes just before it."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            taken[name].append(side())
    table = Table(
        "Headers only",
        ["side", "studies/s, median", "slowest", "fastest", "of its floor"],
    )
    floor: list[float] = []
    for name, seconds in taken.items():
        share: float | None = None
        if isinstance(sides[name], Ours):
            shares = [theirs / own for theirs, own in zip(floor, seconds, strict=True)]
            share = statistics.median(shares)
        middle, slowest, fastest = (studies / of(seconds) for of in (statistics.median, max, min))
        table.rows.append([name, middle, slowest, fastest, share])
        floor = seconds
    return table


def marks(table: Table) -> list[str]:
    """Say which audits reach their share of the floor."""
    shares = [(str(row[0]), row[-1]) for row in table.rows if isinstance(row[-1], float)]
    return [
        f"{name}: {share:.2f} of its floor, mark at least {SHARE:g}:"
        f" {'met' if share >= SHARE else 'missed'}"
        for name, share in shares
        if isinstance(share, float)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    # For Orthanc and findscu, which else wait for delayed acknowledgements within each query.
    os.environ["TCP_NODELAY"] = "1"
    archive = audit_orthanc.small() if options.quick else generated()
    # A study that the service cannot describe costs an audit many questions, and the floor none.
    lost = audit_orthanc.undescribed(archive)
    studies = [one for one in archive if one.uid not in lost]
    with (
        tempfile.TemporaryDirectory(prefix="bench-audit-") as name,
        orthanc_in(Path(name) / "orthanc", dicomweb=True) as orthanc,
    ):
        work = Path(name)
        with redirect_stdout(sys.stderr):
            audit_orthanc.load(orthanc, write(studies, work / "files"))
        by_find = Ours(orthanc, work, "pacs:get", len(studies))
        by_web = Ours(orthanc, work, "web:web", len(studies))
        sides: dict[str, Callable[[], float]] = {
            "DCMTK findscu, same queries": Findscu(orthanc, work / "queries", studies),
            "audit by C-FIND": by_find,
            "httpx, same pages and metadata": Plain(orthanc, studies),
            "audit by DICOMweb": by_web,
        }
        table = compare(sides, len(studies), 2 if options.quick else options.repeats)
        seconds = statistics.median(by_find.reports + by_web.reports)
    notes = [
        *marks(table),
        f"the report over {len(studies)} studies, a command of its own, takes {seconds:.1f} s",
    ]
    question = " ".join(__doc__.partition("[--write]")[2].split())
    publish(Report("audit", question, [table], notes), options)


if __name__ == "__main__":
    main()
