"""``kill -9`` of the audit role: the same facts as undisturbed, nothing settled asked for again."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.store import Database, audits
from dicom_ai_node.study import AuditState
from tests.acceptance.audit_process import DAYS, STUDIES
from tests.builders.headers import TODAY
from tests.builders.scripted import collected
from tests.builders.waiting import wait_until

KILLS = 10
SPEC = AuditSpec(source="pacs:slow", depth=Depth.HEADERS, today=TODAY)


def start(config: Path, diary: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.acceptance.audit_process", str(config), str(diary)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.mark.timeout(900)
def test_killed_ten_times_it_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    config, diary = tmp_path / "node.toml", tmp_path / "diary.txt"
    url = f"sqlite:///{tmp_path / 'node.db'}"
    config.write_text(
        f'[storage]\nspool = "{tmp_path}/spool"\ndatabase = "{url}"\n'
        "[audit]\nlease_seconds = 1.1\nmax_attempts = 20\n"
    )
    db = Database(url)
    db.upgrade()

    def new() -> int:
        return audits.create(db, SPEC.model_dump(mode="json"), now=time.time())

    def settled(number: int) -> int:
        row = audits.show(db, number)
        assert row is not None
        return row.settled

    def done(number: int) -> bool:
        row = audits.show(db, number)
        return row is not None and row.state is AuditState.DONE

    chance = random.Random(4)
    disturbed = new()
    kept: list[set[str]] = []
    asked: list[int] = []
    for kill in range(KILLS):
        process = start(config, diary)
        # The first kills come while it lists, the others while it collects.
        least = 0 if kill < 3 else settled(disturbed) + 1

        def works(least: int = least) -> bool:
            row = audits.show(db, disturbed)
            leased = row is not None and row.lease_until > time.time()
            return leased and settled(disturbed) >= least

        wait_until("the role to be at work", works, seconds=240)
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.wait()
        kept.append(set(collected(db, disturbed)))
        asked.append(len(diary.read_text().splitlines()) if diary.exists() else 0)
    assert not done(disturbed), "it was too fast to be killed"
    assert 0 < len(kept[-1]) < DAYS * STUDIES

    process = start(config, diary)
    wait_until("the audit to be done", lambda: done(disturbed), seconds=240)
    lines = diary.read_text().splitlines()
    undisturbed = new()
    wait_until("the undisturbed one to be done", lambda: done(undisturbed), seconds=240)
    process.kill()
    process.wait()

    assert collected(db, disturbed) == collected(db, undisturbed)
    assert len(collected(db, undisturbed)) == DAYS * STUDIES
    for settled_then, lines_then in zip(kept, asked, strict=True):
        assert not settled_then & set(lines[lines_then:]), "a settled study was asked for again"
    assert len(lines) <= DAYS * STUDIES + KILLS
    db.close()
