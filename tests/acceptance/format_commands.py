"""Runs command lines of one version of the package, in forks of a process that has loaded it.

``python format_commands.py`` is that process: it reads one request a line from standard input, runs
``dicom-ai-node`` with the words in a fork, and answers with the exit code. A process of its own for
each would take seconds for its imports.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PRELOADED = ("torch", "highdicom", "pynetdicom", "sqlalchemy", "alembic", "typer")


class Commands:
    """The commands of the package in ``tree``; what they print lies in ``folder``, masked later."""

    def __init__(self, tree: Path, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.config = ""
        """What DICOM_AI_NODE_CONFIG says, if anything."""
        self.environment = {**os.environ, **environment, "PYTHONPATH": str(tree)}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=self.environment,
        )

    def __enter__(self) -> "Commands":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def run(self, name: str, *words: str, save: bool = True, code: int | None = None) -> str:
        """Run ``dicom-ai-node WORDS``, save what it says as format ``name``, return its output."""
        out, err = self.folder / "out.tmp", self.folder / "err.tmp"
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        config = self.config
        request = {"words": words, "out": str(out), "err": str(err), "config": config}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        ended = int(self.process.stdout.readline())
        printed = out.read_text(errors="backslashreplace")
        said = err.read_text(errors="backslashreplace")
        if code is not None and ended != code:
            raise RuntimeError(f"{' '.join(words)} ended with {ended}:\n{printed}{said}")
        if save:
            path = self.folder / "formats" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                f"$ dicom-ai-node {' '.join(words)}\n{printed}--- standard error\n{said}"
                f"--- exit code {ended}\n"
            )
        return printed

    def rows(self, name: str, *words: str, save: bool = True) -> list[dict[str, object]]:
        """The objects that ``WORDS --json`` prints."""
        printed = self.run(name, *words, "--json", save=save)
        return [json.loads(line) for line in printed.splitlines()]


def serve() -> None:
    """Answer requests until standard input ends."""
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    for module in PRELOADED:
        importlib.import_module(module)
    package = importlib.import_module("dicom_ai_node")
    for found in pkgutil.walk_packages(package.__path__, "dicom_ai_node."):
        if "migrations" not in found.name and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(**request)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(words: Sequence[str], out: str, err: str, config: str) -> None:
    """Be the command: in the fork, and never return."""
    if config:
        os.environ["DICOM_AI_NODE_CONFIG"] = config
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["dicom-ai-node", *words]
    code = 1
    try:
        from dicom_ai_node.__main__ import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - the traceback is what the command says
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
