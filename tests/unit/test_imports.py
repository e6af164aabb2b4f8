"""The import directions of docs/architecture.md, and what must not be loaded where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmwrite

from dicom_ai_node.cli import _COMMANDS
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.store import Database

ROOT = Path(__file__).resolve().parents[2]
PATHS = [
    line.strip().partition(":")[0] for line in _COMMANDS.splitlines() if line[:3].strip() == ""
]


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
        ("dicom_ai_node.receive.server", {"torch", "highdicom", "pynetdicom"}),
        ("dicom_ai_node.deliver.worker", {"torch", "highdicom"}),
        ("dicom_ai_node.ops.maintenance", {"torch"}),
        ("dicom_ai_node.audit.sources", {"torch", "highdicom"}),
        ("dicom_ai_node.audit.worker", {"torch", "highdicom"}),
        ("dicom_ai_node.audit.analyst", {"torch"}),
        ("dicom_ai_node.analyse.worker", {"torch"}),
        ("dicom_ai_node.recalibrate.pack", {"torch"}),
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


_RUN = """
import sys
from dicom_ai_node.cli import main
for command in {commands!r}:
    sys.argv = ["dicom-ai-node", *command.split()]
    try:
        main()
    except SystemExit:
        pass
    for name in {forbidden!r} & sys.modules.keys():
        print("LOADED", name, "by", command)
"""


@pytest.mark.parametrize(
    ("commands", "forbidden"),
    [
        (
            ["--help", "--version", *(f"{path} --help" for path in PATHS)],
            {
                *("sqlalchemy", "pydantic_settings", "pydicom", "pynetdicom", "torch", "numpy"),
                *("alembic", "requests", "structlog", "dicom_ai_node.config"),
            },
        ),
        (
            [
                *("studies --json", "studies", "show 1.2.3", "quarantine", "requeue --dead"),
                *("proposals list", "proposals show 1", "proposals accept 1 --reason x"),
                *("audit list", "audit show 1", "audit pause 1", "audit report 1 --out out"),
                *("monitor", "model compare", "status --json", "check-config", "db upgrade"),
            ],
            {"torch", "highdicom", "pynetdicom"},
        ),
        (["model list", "model show", "check-header node.toml"], {"torch", "highdicom"}),
    ],
    ids=["help", "database", "files"],
)
def test_a_command_does_not_load_what_it_does_not_need(
    commands: list[str], forbidden: set[str], tmp_path: Path
) -> None:
    storage = '[storage]\nspool = "spool"\ndatabase = "sqlite:///node.db"\n'
    (tmp_path / "node.toml").write_text(storage)
    environment = {**os.environ, "DICOM_AI_NODE_CONFIG": "node.toml", "PYTHONPATH": str(ROOT)}
    db = Database(f"sqlite:///{tmp_path / 'node.db'}")
    db.upgrade()
    db.close()
    code = _RUN.format(commands=commands, forbidden=forbidden)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "LOADED" not in done.stdout


_ANSWERS = """
import sys
import numpy as np
from dicom_ai_node.config.paths import shipped_bundles
from dicom_ai_node.inference.engine import Estimator
for bundle in shipped_bundles().values():
    estimator = Estimator(bundle, device="cpu", threads=1, embeds=True)
    channels = (estimator.manifest.channels,) if estimator.manifest.channels > 1 else ()
    images = np.random.default_rng(0).random((2, *channels, *[estimator.size] * 2), np.float32)
    print(*(len(estimator.predict(images)) for _ in range(2)), estimator.engine)
print(*sys.modules)
"""


def test_a_process_that_answers_on_a_cpu_does_not_load_torch() -> None:
    command = [sys.executable, "-c", _ANSWERS]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(done[:-1]) == {"2 2 onnxruntime"}
    assert "onnxruntime" in done[-1].split()
    assert {"torch", "torchvision", "onnx", "onnxscript"}.isdisjoint(done[-1].split())


def test_infer_does_not_load_torch(tmp_path: Path) -> None:
    chest = tmp_path / "chest.dcm"
    dcmwrite(
        chest, radiograph(phantom.chest(40, "F", 1, 256), study="one"), enforce_file_format=True
    )
    (tmp_path / "node.toml").write_text('[model]\ndevice = "cpu"\n')
    code = _RUN.format(commands=["infer chest.dcm -c node.toml --json"], forbidden={"torch"})
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "1.6" in done.stdout
    assert "LOADED" not in done.stdout


@pytest.mark.parametrize(
    "program", sorted(file.stem for file in (ROOT / "benchmarks").glob("[!_]*.py"))
)
def test_a_benchmark_imports_what_there_is(program: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{program}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
