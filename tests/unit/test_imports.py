"""The import directions of docs/architecture.md, and what must not be loaded where."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        (
            "dicom_ai_node.config",
            {"sqlalchemy", "pydicom", "pynetdicom", "torch", "numpy", "highdicom"},
        ),
        ("dicom_ai_node.receive.server", {"torch", "highdicom"}),
        ("dicom_ai_node.deliver.worker", {"torch", "highdicom"}),
        ("dicom_ai_node.ops.maintenance", {"torch"}),
        ("dicom_ai_node.audit.sources", {"torch", "highdicom"}),
        ("dicom_ai_node.audit.worker", {"torch", "highdicom"}),
        ("dicom_ai_node.web", {"torch"}),
        ("dicom_ai_node.cli", {"torch", "highdicom"}),
    ],
)
def test_a_process_does_not_load_what_it_does_not_need(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert module in loaded
    assert forbidden.isdisjoint(loaded)


@pytest.mark.parametrize(
    "program", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem
)
def test_a_benchmark_imports_what_there_is(program: Path) -> None:
    command = [sys.executable, str(program), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
