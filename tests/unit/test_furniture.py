"""What the furniture of the tests does when a test goes wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

DYING = """
import os, signal
def test_killed(): os.kill(os.getpid(), signal.SIGKILL)
def test_ended(): os._exit(7)
def test_capfd(capfd): pass
"""


@pytest.mark.slow
def test_how_a_worker_died_is_said_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "test_dying.py").write_text(DYING)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "1", "--rootdir", "."]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "worker gw0 ended with signal SIGKILL" in ran.stdout
    assert "worker gw1 ended with exit code 7" in ran.stdout
    assert "not capfd beside threads that log" in ran.stdout
