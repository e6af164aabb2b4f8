"""The generated archive in a real Orthanc, audited by every way in, and killed ten times.

    python -m tests.acceptance.audit_orthanc [--kills 10] [--folder DIR]

Prints recall and precision of each rule against the answer key for C-GET, C-MOVE and DICOMweb,
whether they found the same, the speed of headers alone, and whether an audit that was killed with
SIGKILL ends with the report of an undisturbed one. Exit code 1 when any of it fails. Takes minutes.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicom_ai_node.audit.spec import AuditSpec, Depth
from dicom_ai_node.store import Database, audits
from tests.acceptance.harness import free_port
from tests.builders.archive import TODAY, Planted, generated, write
from tests.builders.orthanc import AE_TITLE, Orthanc, orthanc_in

NO_KEY = frozenset({"G7", "G8"})
"""G7 is statistical; G8 needs a listing that says something else than the files do."""
ORTHANC_CANNOT_DESCRIBE = frozenset({"LATIN1"})
"""Character sets for whose sake its DICOMweb plugin refuses QIDO-RS: such a study must be told as
one that cannot be listed (S1), and must cost no other."""
WAYS = ("pacs:get", "pacs:move", "web:web")


def configure(folder: Path, orthanc: Orthanc, move_port: int) -> tuple[Path, Database]:
    """A node's configuration with Orthanc as a source of three kinds."""
    common = (
        f'kind = "pacs"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\nae_title = "{AE_TITLE}"'
    )
    url = f"sqlite:///{folder / 'node.db'}"
    config = folder / "node.toml"
    config.write_text(
        f'[storage]\nspool = "{folder}/spool"\ndatabase = "{url}"\n[audit]\nlease_seconds = 1.1\n'
        f'[sources.get]\n{common}\nretrieve = "get"\n'
        f'[sources.move]\n{common}\nretrieve = "move"\nmove_ae_title = "AUDIT"\n'
        f'move_port = {move_port}\nmove_bind = "127.0.0.1"\n'
        f'[sources.web]\nkind = "web"\nurl = "{orthanc.dicomweb}"\n'
    )
    db = Database(url)
    db.upgrade()
    return config, db


def new(db: Database, source: str, depth: Depth) -> int:
    """An audit that waits; its day is the day of the answer key."""
    spec = AuditSpec(source=source, depth=depth, today=TODAY)
    return audits.create(db, spec.model_dump(mode="json"), now=time.time())


def command(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "dicom_ai_node", "audit", *words, "-c", str(config)]


def run(config: Path, number: int) -> float:
    """Work an audit to its end as a person would; return seconds."""
    began = time.monotonic()
    subprocess.run(command(config, "resume", str(number)), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def report(config: Path, number: int, out: Path) -> dict[str, Any]:
    """report.json of an audit."""
    subprocess.run(
        command(config, "report", str(number), "--out", str(out)),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    document: dict[str, Any] = json.loads((out / "report.json").read_text())
    return document


def findings(document: dict[str, Any]) -> dict[str, list[str]]:
    """Rules that fired, by study."""
    return {
        one["key"]: sorted({finding["rule"] for finding in one["audit"]["findings"]})
        for one in document["studies"]
    }


def undescribed(studies: Sequence[Planted]) -> frozenset[str]:
    """The studies that are not to be had by DICOMweb."""
    return frozenset(
        one.uid
        for one in studies
        if any(i.get("SpecificCharacterSet") in ORTHANC_CANNOT_DESCRIBE for i in one.instances)
    )


def against_the_key(studies: Sequence[Planted], found: dict[str, list[str]]) -> list[str]:
    """Lines on each rule that was planted or found; print the table of the imperfect ones."""
    expected = {one.uid: set(one.expected) - NO_KEY for one in studies}
    rules = sorted({rule for one in expected.values() for rule in one} | {"S1", "S2", "S3"})
    lines = []
    for rule in rules:
        wanted = {uid for uid, own in expected.items() if rule in own}
        fired = {uid for uid, own in found.items() if rule in own}
        recall = len(wanted & fired) / len(wanted) if wanted else 1.0
        precision = len(wanted & fired) / len(fired) if fired else 1.0
        lines.append(
            f"{rule:4s} planted {len(wanted):4d} found {len(fired):4d}"
            f"  recall {recall:.3f}  precision {precision:.3f}"
        )
    return lines


def killed(config: Path, db: Database, number: int, kills: int) -> int:
    """Work an audit that is killed ``kills`` times; return how many were done at each kill."""
    chance = random.Random(7)
    for _ in range(kills):
        process = subprocess.Popen(
            command(config, "resume", str(number)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        row = audits.show(db, number)
        assert row is not None
        goal = row.settled + chance.randrange(20, 150)
        while process.poll() is None:
            row = audits.show(db, number)
            assert row is not None
            if row.settled >= goal:
                break
            time.sleep(0.02)
        if process.poll() is not None:
            raise SystemExit(f"the audit ended by itself with {process.returncode}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(1.2)  # its lease
        print(f"killed after {row.settled} studies", flush=True)
    run(config, number)
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(description="audit a real Orthanc")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="audit-"))
    studies = generated()
    files = write(studies, folder / "files")
    move_port, faults, lost = free_port(), 0, undescribed(studies)
    with orthanc_in(
        folder / "orthanc", dicomweb=True, peers={"audit": ("AUDIT", move_port)}
    ) as orthanc:
        for file in files:
            answer = orthanc.http.post("/instances", content=file.read_bytes())
            if answer.status_code != 200:
                print(f"Orthanc refuses {file.name}: HTTP {answer.status_code}")
        held = orthanc.http.get("/statistics").json()
        print(f"Orthanc holds {held['CountStudies']} studies, {held['CountPatients']} patients")
        config, db = configure(folder, orthanc, move_port)
        for source in ("pacs:get", "web:web"):
            number = new(db, source, Depth.HEADERS)
            seconds = run(config, number)
            print(f"headers only, {source}: {len(studies) / seconds:.1f} studies/s", flush=True)
        by_way = {}
        for source in WAYS:
            number = new(db, source, Depth.ALL)
            seconds = run(config, number)
            document = report(config, number, folder / source.replace(":", "-"))
            by_way[source] = document
            found, planted = findings(document), studies
            if source.startswith("web"):
                told = [key for key in found if key.startswith("listed:")]
                found = {key: rules for key, rules in found.items() if key not in told}
                planted = tuple(one for one in studies if one.uid not in lost)
                print(f"{source}: {len(told)} told as not to be listed, {len(lost)} expected")
                faults += len(told) != len(lost)
            lines = against_the_key(planted, found)
            bad = [line for line in lines if not line.endswith("recall 1.000  precision 1.000")]
            print(
                f"images of all, {source}: {len(studies) / seconds:.1f} studies/s;"
                f" {len(lines) - len(bad)} of {len(lines)} rules at 1.0",
                flush=True,
            )
            print("\n".join(lines if source == WAYS[0] else bad))
            faults += len(bad)
        first = findings(by_way[WAYS[0]])
        for source in WAYS[1:]:
            other = findings(by_way[source])
            shared = [key for key in first if not (source.startswith("web") and key in lost)]
            same = all(other.get(key) == first[key] for key in shared)
            print(f"{source} finds what {WAYS[0]} finds: {same}")
            faults += not same
        number = new(db, WAYS[0], Depth.ALL)
        killed(config, db, number, given.kills)
        again = report(config, number, folder / "killed")
        same = again == by_way[WAYS[0]]
        print(f"killed {given.kills} times, the report is that of the undisturbed audit: {same}")
        faults += not same
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
