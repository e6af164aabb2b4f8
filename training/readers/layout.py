"""What the readers share: finding files, naming views, hiding patients."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from training.data.tables import DataError

Tally = Counter[str]
"""How often something was dropped, by its reason."""

NO_FILE = "image: listed, but no such file"

_VIEWS = {
    **dict.fromkeys(("PA", "POSTEROANTERIOR", "POSTERO-ANTERIOR"), "PA"),
    **dict.fromkeys(("AP", "ANTEROPOSTERIOR", "ANTERO-POSTERIOR"), "AP"),
    **dict.fromkeys(("AP SUPINE", "AP HORIZONTAL", "AP AXIAL", "AP ERECT"), "AP"),
    **dict.fromkeys(("L", "LL", "RL", "LATERAL", "XTABLE LATERAL"), "LATERAL"),
    **dict.fromkeys(("LEFT LATERAL", "RIGHT LATERAL", "SWIMMERS"), "LATERAL"),
    # Decubitus: a frontal beam at a patient who lies on a side is no example of either view.
    **dict.fromkeys(("LLD", "AP LLD", "PA LLD", "RLD", "AP RLD", "PA RLD"), ""),
    **dict.fromkeys(("", "UNK", "UNKNOWN", "N/A", "NONE", "NAN"), ""),
}


def view_of(text: str) -> str:
    """A view of the index for what data sets and headers call it; '' where it is not known."""
    return _VIEWS.get(text.upper().replace("_", " ").strip(), "OTHER")


def find_table(root: Path, *patterns: str) -> Path:
    """The first file below ``root`` that a pattern matches; DataError when there is none."""
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        if found:
            return found[0]
    raise DataError(f"{root}: expected a file {' or '.join(patterns)}")


def files_below(root: Path) -> Iterator[Path]:
    """Every file below ``root`` in a fixed order, seen from there."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        here = Path(folder).relative_to(root)
        for name in sorted(names):
            yield here / name


def by_name(root: Path, *suffixes: str) -> dict[str, str]:
    """Where below ``root`` each file with one of ``suffixes`` lies, by its name."""
    found: dict[str, str] = {}
    for path in files_below(root):
        if path.suffix.lower() in suffixes:
            found.setdefault(path.name, path.as_posix())
    return found


def pseudonym(identifier: str) -> str:
    """A name for a patient that does not show the identifier; '' for none.

    A pseudonym and no more: who can guess an identifier can check the guess. An index of patients
    is to be protected like their data.
    """
    if not identifier:
        return ""
    return hashlib.sha256(f"dicom-ai-node {identifier}".encode()).hexdigest()[:16]
