"""What a role's process does around its work."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dicom_ai_node.config import parse_config
from dicom_ai_node.ops.role import FAILED, STOPPED, Place, places
from dicom_ai_node.store import Database
from dicom_ai_node.store.node import alive
from tests.integration.test_ops_supervisor import eventually

PROGRAM = """
import sys
from dicom_ai_node.config import parse_config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.ops.role import Place, run_role
config = parse_config({"storage": {"spool": sys.argv[1], "database": sys.argv[2]},
                       "log": {"format": "json"}})
def load():
    LOAD
    return work
def work(stop):
    WORK
raise SystemExit(run_role(Place("receive", 2), config, load))
"""


def start(
    tmp_path: Path, db: Database, work: str, *, load: str = "pass", supervised: bool = False
) -> subprocess.Popen[str]:
    url = db.url.render_as_string(hide_password=False)
    program = PROGRAM.replace("WORK", work).replace("LOAD", load)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "spool"), url],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ({"NODE_SUPERVISOR_PID": str(os.getpid())} if supervised else {}),
    )


def finish(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    _, written = process.communicate(timeout=60)
    return [json.loads(line) for line in written.splitlines()]


def test_a_role_has_a_row_while_it_works(tmp_path: Path, db: Database) -> None:
    process = start(tmp_path, db, "stop.wait()")
    eventually(lambda: alive(db))
    (row,) = alive(db)
    assert (row.name, row.role, row.pid) == ("receive-2", "receive", process.pid)
    process.send_signal(signal.SIGTERM)
    lines = finish(process)
    assert process.returncode == STOPPED
    assert lines[-1]["event"] == "role_stopped"
    assert lines[-1]["worker"] == "receive-2"
    assert alive(db) == []


@pytest.mark.parametrize(
    ("work", "event", "shown"),
    [
        ("raise StorageError('no room')", "role_failed", "StorageError: no room"),
        ("raise ValueError('Doe^Jane')", "role_crashed", "ValueError"),
        ("pass", "role_ended_unasked", None),
    ],
)
def test_work_that_fails_or_ends_is_an_error(
    work: str, event: str, shown: str | None, tmp_path: Path, db: Database
) -> None:
    process = start(tmp_path, db, work)
    lines = finish(process)
    assert process.returncode == FAILED
    (line,) = [line for line in lines if line["event"] == event]
    if shown:
        assert line["raised"][0]["error"] == shown
    assert "Doe^Jane" not in json.dumps(lines)


def test_a_database_that_is_away_does_not_stop_the_signs_of_life(tmp_path: Path) -> None:
    nowhere = Database(f"sqlite:///{tmp_path}/missing/node.db")
    process = start(tmp_path, nowhere, "stop.wait(1.5); stop.set()")
    lines = finish(process)
    assert process.returncode == STOPPED
    assert [line["event"] for line in lines] == ["row_not_renewed", "role_stopped"]
    nowhere.close()


def test_a_supervised_role_ends_without_taking_the_interpreter_apart(
    tmp_path: Path, db: Database
) -> None:
    mark = tmp_path / "mark"
    work = f"import atexit, pathlib; atexit.register(pathlib.Path({str(mark)!r}).touch); stop.set()"
    process = start(tmp_path, db, work, supervised=True)
    assert finish(process)[-1]["event"] == "role_stopped"
    assert process.returncode == STOPPED
    assert not mark.exists()
    assert alive(db) == []


def test_a_stop_while_a_role_still_loads_ends_it_at_once(tmp_path: Path, db: Database) -> None:
    loading = "import time; time.sleep(600)"
    process = start(tmp_path, db, "stop.wait()", load=loading, supervised=True)
    eventually(lambda: alive(db))
    process.send_signal(signal.SIGTERM)
    assert finish(process)[-1]["event"] == "role_stopped"
    assert process.returncode == STOPPED
    assert alive(db) == []


def test_the_places_of_a_node() -> None:
    config = parse_config({"receive": {"processes": 2}})
    names = [place.worker for place in places(config)]
    assert names == ["receive-1", "receive-2", "audit", "analyse", "deliver", "keep", "web"]
    assert Place("keep").worker == "keep"
