"""``kill -9`` under load: acknowledged = stored = reported once.

    python -m tests.acceptance.kill_rounds --rounds 20

A sender that behaves like a modality (it sends again what was not acknowledged) keeps the node
busy, while in each round a receiver, the analyser, the deliverer or the whole group is killed at a
random moment. At the end everything that was ever acknowledged must be in the spool, unaltered,
and every study must have exactly one report at the PACS that no other report supersedes.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from blake3 import blake3
from pydicom import dcmread

from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.store import Database
from dicom_ai_node.store.queries import show
from tests.acceptance.harness import Node, noise, send
from tests.builders.waiting import wait_until

_PATIENCE = 3.0
"""Seconds: pynetdicom's SCU does not always notice that its peer was killed."""
_SENDERS = 2
ROLES = ("receive", "analyse", "deliver", "group")


@dataclass
class Load:
    """The sender: what it has sent, and what was acknowledged."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: dict[str, str] = field(default_factory=dict)
    """SOP Instance UID -> StudyInstanceUID."""
    sent_again: int = 0

    def run(self, sender: int) -> None:
        """Send study after study; each image until it is acknowledged."""
        number = 0
        while not self.stop.is_set():
            number += 1
            study = f"kill-{sender}-{number}"
            left = [noise(study, image, PatientSex="F") for image in range(1, 1 + number % 3 + 1)]
            while left:
                statuses = send(self.port, left, timeout=_PATIENCE)
                for dataset, status in zip(list(left), statuses, strict=True):
                    if status == 0x0000:
                        self.acknowledged[dataset.SOPInstanceUID] = dataset.StudyInstanceUID
                        left.remove(dataset)
                if left:
                    self.sent_again += len(left)
                    time.sleep(0.1)
            time.sleep(0.05)


def run_rounds(folder: Path, *, rounds: int, seed: int, say: bool = False) -> dict[str, int]:
    """Run the rounds and return the counts; ``lost`` and ``duplicated`` must be 0."""
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    with EmbeddedPacs(folder / "pacs", ae_title="PACS") as pacs:
        node = Node(folder / "node", destinations={"pacs": ("PACS", pacs.port)})
        node.start()
        load = Load(node.port)
        senders = [threading.Thread(target=load.run, args=(one,)) for one in range(_SENDERS)]
        for sender in senders:
            sender.start()
        for number in range(rounds):
            role = ROLES[number % len(ROLES)]
            time.sleep(chance.uniform(0.5, 4.0))
            wait_until(f"a process of role {role}", partial(_alive, node, role), seconds=60)
            time.sleep(chance.uniform(0.0, 1.0))
            node.kill(role)
            kills[role] += 1
            if role == "group":
                node.start()
            if say:
                print(
                    f"round {number + 1:2}: killed {role:8} acknowledged {len(load.acknowledged)}",
                    flush=True,
                )
        time.sleep(2.0)
        load.stop.set()
        for sender in senders:
            sender.join()
        studies = set(load.acknowledged.values())
        node.wait_settled(len(studies), seconds=300)
        counts = _verify(node, pacs, load)
        node.stop()
    return counts | {f"kills_{role}": kills[role] for role in ROLES}


def _alive(node: Node, role: str) -> bool:
    return role == "group" or bool(node.children(role))


def _verify(node: Node, pacs: EmbeddedPacs, load: Load) -> dict[str, int]:
    db = Database(node.config.storage.database)
    lost = altered = twice = 0
    for sop, study in load.acknowledged.items():
        detail = show(db, study)
        rows = [one for one in detail.instances if one["sop_instance_uid"] == sop] if detail else []
        files = [node.config.storage.spool / one["path"] for one in rows]
        lost += not any(file.is_file() for file in files)
        altered += any(file.stem != _digest(file) for file in files)
        twice += len(rows) > 1
    db.close()
    current, superseded = _reports(pacs)
    studies = set(load.acknowledged.values())
    return {
        "acknowledged": len(load.acknowledged),
        "sent_again": load.sent_again,
        "studies": len(studies),
        "lost": lost,
        "altered": altered,
        "stored_twice": twice,
        "unreported": sum(not current[study] for study in studies),
        "duplicated": sum(len(current[study]) > 1 for study in studies),
        "superseded": superseded,
    }


def _digest(path: Path) -> str:
    """Return the SHA-256 of the data set of a Part 10 file, as the receiver computes it."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return blake3(content[144 + length :]).hexdigest()


def _reports(pacs: EmbeddedPacs) -> tuple[dict[str, set[str]], int]:
    """Return the reports of each study that no other report supersedes, and how many are."""
    found: dict[str, set[str]] = defaultdict(set)
    old: set[str] = set()
    for path in pacs.instances().values():
        report = dcmread(path)
        found[report.StudyInstanceUID].add(report.SOPInstanceUID)
        for study in report.get("PredecessorDocumentsSequence", []):
            for series in study.ReferencedSeriesSequence:
                old |= {one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence}
    return defaultdict(set, {study: uids - old for study, uids in found.items()}), len(old)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kill-rounds-"))
    counts = run_rounds(folder, rounds=options.rounds, seed=options.seed, say=True)
    for name, count in counts.items():
        print(f"{name:14} {count}")
    bad = ("lost", "altered", "stored_twice", "unreported", "duplicated")
    sys.exit(any(counts[name] for name in bad))


if __name__ == "__main__":
    main()
