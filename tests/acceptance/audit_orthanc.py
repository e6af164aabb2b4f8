"""The generated archive in a real Orthanc, audited by every way in, and killed.

    python -m tests.acceptance.audit_orthanc [--small] [--kills 10] [--folder DIR]

Prints recall and precision of each rule against the answer key for C-GET, C-MOVE and DICOMweb with
the images of every study, whether they found the same, and whether an audit by C-GET that was
killed with SIGKILL amid the images ends with the report of an undisturbed one. Exit code 1 when any
of it fails. ``--small`` plants every recipe once, in about 100 studies: a test does the same.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.store import Database, audits
from dicom_ai_node.study import AuditState
from tests.acceptance.harness import command_line
from tests.builders.archive import TODAY, Planted, generated, write
from tests.builders.orthanc import AE_TITLE, Orthanc, orthanc_in
from tests.builders.ports import free_port
from tests.builders.scores import scores, table, wrong

NO_KEY = frozenset({"G6", "G7", "G8"})
"""G6 needs a worklist, and an audit asks none; G7 is statistical; G8 needs a listing that says
something else than the files do."""
ORTHANC_CANNOT_DESCRIBE = frozenset({"LATIN1"})
"""Character sets for whose sake its DICOMweb plugin refuses QIDO-RS: such a study must be told as
one that cannot be listed (S1), and must cost no other."""
WAYS = ("pacs:get", "pacs:move", "web:web")
_LEASE_SECONDS = 1.1

Fired = Mapping[str, Collection[str]]
"""Rules that fired, by study."""


def small() -> tuple[Planted, ...]:
    """Every recipe once: 108 studies of 67 patients."""
    return generated(studies=0, each=1)


def check(studies: Sequence[Planted], folder: Path, *, kills: int) -> list[str]:
    """Audit the archive by every way in; print what was found, and return what is wrong."""
    move_port = free_port()
    with orthanc_in(
        folder / "orthanc", dicomweb=True, peers={"audit": ("AUDIT", move_port)}
    ) as orthanc:
        load(orthanc, write(studies, folder / "files"))
        config, db = configure(folder, orthanc, move_port)
        documents, faults = {}, []
        for source in WAYS:
            number = new(db, source, Depth.ALL)
            seconds = run(config, number)
            print(f"{source}, all images: {len(studies) / seconds:.1f} studies/s", flush=True)
            documents[source] = report(config, number, folder / source.replace(":", "-"))
            faults += against_the_key(source, studies, findings(documents[source]))
        faults += unlike(studies, {way: findings(own) for way, own in documents.items()})
        number = new(db, WAYS[0], Depth.ALL)
        fetched = folder / "spool" / "audit" / str(number)
        kill(config, db, number, fetched, kills=kills, studies=len(studies))
        same = report(config, number, folder / "killed") == documents[WAYS[0]]
        print(f"killed {kills} times, the report is that of the undisturbed audit: {same}")
        faults += [] if same else ["the killed audit reports something else"]
        faults += [f"{fetched} was not removed"] if fetched.exists() else []
        db.close()
    return faults


def load(orthanc: Orthanc, files: Sequence[Path]) -> None:
    """File everything, and print what the archive then holds."""
    for file in files:
        answer = orthanc.http.post("/instances", content=file.read_bytes())
        if answer.status_code != 200:
            print(f"Orthanc refuses {file.name}: HTTP {answer.status_code}")
    held = orthanc.http.get("/statistics").json()
    print(f"Orthanc holds {held['CountStudies']} studies, {held['CountPatients']} patients")


def configure(folder: Path, orthanc: Orthanc, move_port: int) -> tuple[Path, Database]:
    """A node's configuration with Orthanc as a source of three kinds."""
    common = (
        f'kind = "pacs"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\nae_title = "{AE_TITLE}"'
    )
    url = f"sqlite:///{folder / 'node.db'}"
    config = folder / "node.toml"
    config.write_text(
        f'[storage]\nspool = "{folder}/spool"\ndatabase = "{url}"\n'
        f"[audit]\nlease_seconds = {_LEASE_SECONDS}\n"
        f'[sources.get]\n{common}\nretrieve = "get"\n'
        f'[sources.move]\n{common}\nretrieve = "move"\nmove_ae_title = "AUDIT"\n'
        f'move_port = {move_port}\nmove_bind = "127.0.0.1"\n'
        f'[sources.web]\nkind = "web"\nurl = "{orthanc.dicomweb}"\n'
    )
    db = Database(url)
    db.upgrade()
    return config, db


def new(db: Database, source: str, depth: Depth, modalities: tuple[str, ...] = ("CR", "DX")) -> int:
    """An audit that waits; its day is the day of the answer key."""
    spec = AuditSpec(source=source, depth=depth, today=TODAY, modalities=modalities)
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
    words = ("audit", "report", str(number), "--out", str(out), "-c", str(config))
    code, _, err = command_line(*words)
    assert code == 0, err
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


def against_the_key(source: str, studies: Sequence[Planted], found: Fired) -> list[str]:
    """Hold every rule with a key against it; print the table, and return what is wrong."""
    faults = []
    if source.startswith("web"):
        lost = undescribed(studies)
        told = [key for key in found if key.startswith("listed:")]
        print(f"{source}: {len(told)} told as not to be listed, {len(lost)} expected")
        if len(told) != len(lost) or any("S1" not in found[key] for key in told):
            faults.append(f"{source}: {len(told)} studies not to be listed, expected {len(lost)}")
        found = {key: rules for key, rules in found.items() if key not in told}
        studies = [one for one in studies if one.uid not in lost]
    rows = scores(studies, found, without=NO_KEY)
    bad = wrong(rows)
    print(f"{source}: {len(rows) - len(bad)} of {len(rows)} rules with recall and precision 1.0")
    if bad or source == WAYS[0]:
        print(table(rows if source == WAYS[0] else bad), flush=True)
    return faults + [f"{source}: {row.rule} is not as planted" for row in bad]


def unlike(studies: Sequence[Planted], found: Mapping[str, Fired]) -> list[str]:
    """The ways that find something else than the first, over what they all can reach."""
    lost, first, faults = undescribed(studies), found[WAYS[0]], []
    for source in WAYS[1:]:
        shared = [key for key in first if not (source.startswith("web") and key in lost)]
        same = all(found[source].get(key) == first[key] for key in shared)
        print(f"{source} finds what {WAYS[0]} finds: {same}")
        faults += [] if same else [f"{source} finds something else than {WAYS[0]}"]
    return faults


def kill(
    config: Path, db: Database, number: int, fetched: Path, *, kills: int, studies: int
) -> None:
    """Work an audit to its end through so many SIGKILLs, each after some more studies.

    ``fetched`` is where images lie while they are looked at: it dies when there are some.
    """
    chance = random.Random(7)
    for _ in range(kills):
        goal = standing(db, number).settled + chance.randint(1, max(1, studies // (kills + 1)))
        process = subprocess.Popen(
            command(config, "resume", str(number)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and (
            standing(db, number).settled < goal or not files_below(fetched)
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        row = standing(db, number)
        assert row.state is AuditState.RUNNING, "the audit ended before it was killed"
        images = files_below(fetched)
        print(f"killed after {row.settled} studies, {images} images fetched", flush=True)
        time.sleep(_LEASE_SECONDS + 0.1)
    run(config, number)


def files_below(folder: Path) -> int:
    """How many there are; none in a folder that vanishes meanwhile."""
    return sum(len(files) for _, _, files in os.walk(folder))


def standing(db: Database, number: int) -> audits.AuditRow:
    row = audits.show(db, number)
    assert row is not None
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description="audit a real Orthanc")
    parser.add_argument("--small", action="store_true", help="every recipe once")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="audit-"))
    faults = check(small() if given.small else generated(), folder, kills=given.kills)
    print(*faults, sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
