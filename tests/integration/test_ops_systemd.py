"""The unit file, as systemd reads it."""

import re
import subprocess
from pathlib import Path

import pytest

from dicom_ai_node.config.processes import OperateSettings
from tests.conftest import require_tool

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "dicom-ai-node.service"
MOST_EXPOSURE = 2.0


def settings() -> dict[str, str]:
    lines = UNIT.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.mark.peers
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = require_tool("systemd-analyze")
    unit = tmp_path / UNIT.name
    # The program is not installed where the unit looks for it.
    unit.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if UNIT.stem in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.peers
def test_the_unit_is_locked_down() -> None:
    analyze = require_tool("systemd-analyze")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSURE


def test_systemd_waits_longer_than_the_supervisor() -> None:
    assert float(settings()["TimeoutStopSec"]) > OperateSettings().stop_seconds + 10


def test_cuda_and_torch_are_not_locked_out() -> None:
    named = settings()
    assert "PrivateDevices" not in named
    assert "MemoryDenyWriteExecute" not in named
    assert named["DeviceAllow"] == "char-nvidia* rw"
