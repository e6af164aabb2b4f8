"""Foreign validators, for the tests and the demo. Nothing here runs on the way to the PACS.

dciodvfy comes with the package dicom3tools; a process of its own per file.
"""

import subprocess
import sys
from pathlib import Path


def dciodvfy(path: Path) -> list[str]:
    """Return the errors that ``dciodvfy -new`` finds in a DICOM file; its warnings are left out.

    Raises FileNotFoundError: when the program is not installed.
    """
    return _errors(["dciodvfy", "-new", str(path)])


def dcentvfy(paths: list[Path]) -> list[str]:
    """Return the errors that ``dcentvfy`` finds: where files of one entity contradict each other.

    Raises FileNotFoundError: when the program is not installed.
    """
    return _errors(["dcentvfy", *map(str, paths)])


def _errors(command: list[str]) -> list[str]:
    beside_python = Path(sys.executable).parent / command[0]
    program = str(beside_python) if beside_python.exists() else command[0]
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, errors="replace")
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]
