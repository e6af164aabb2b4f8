"""The documents keep what they promise: width, places that exist, the table of rooms."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_ai_node.config import Config
from tests import architecture

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 100
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
TODAY = [path for path in PAGES if "decisions" not in path.parts and path.name != "CHANGELOG.md"]
"""Records of decisions and of changes speak of the past."""
_PLACE = re.compile(r"`((?:dicom_ai_node|training|tests|benchmarks|config|systemd)/[\w./-]*)`")
_LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)")


def prose(text: str) -> list[tuple[int, str]]:
    """The lines outside of code blocks and tables, numbered."""
    found, code = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and not line.lstrip().startswith("|"):
            found.append((number, line))
    return found


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_prose_is_wrapped(path: Path) -> None:
    long = [
        f"{path.name}:{number}"
        for number, line in prose(path.read_text())
        if len(line) > WIDTH and " " in line.strip()[:WIDTH]
    ]
    assert long == [], "python -m tests.wrap"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_links_lead_somewhere(path: Path) -> None:
    links = _LINK.findall(path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", TODAY, ids=lambda path: path.name)
def test_places_in_the_code_exist(path: Path) -> None:
    places = _PLACE.findall(path.read_text())
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_the_table_of_rooms_is_the_one_of_the_contracts() -> None:
    text = architecture.DOCUMENT.read_text()
    assert architecture.BEGIN in text
    assert text == architecture.document(), "python -m tests.architecture"


def test_every_table_of_the_configuration_stands_with_its_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| a key of the configuration")]
    modules = {
        table: place
        for tables, place in re.findall(r"((?:`\[\w+\]`,? ?)+) ?in `([^`]+)`", row)
        for table in re.findall(r"\w+", tables)
    }
    assert set(modules) == set(Config.model_fields) - {"forwarding"}
    for table, place in modules.items():
        module = place.removesuffix(".py").replace("/", ".")
        assert module in str(Config.model_fields[table].annotation), table


def test_the_page_of_performance_is_the_one_that_is_printed() -> None:
    command = [sys.executable, "-m", "benchmarks.report"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == printed
