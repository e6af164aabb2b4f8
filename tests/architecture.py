"""The table of rooms in docs/architecture.md, from ``.importlinter`` and the rooms' own docstrings.

    python -m tests.architecture

writes it into the document; a test holds the two against each other.
"""

import ast
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: python -m tests.architecture -->\n", "<!-- end of rooms -->\n"
_PREFIX = "importlinter:contract:"


def table() -> str:
    """One row a room, the lowest layer first; rooms of one layer do not import each other."""
    contracts = ConfigParser()
    contracts.read_string((ROOT / ".importlinter").read_text())
    layers = _words(contracts, "layers", "layers", "\n")
    libraries: dict[str, set[str]] = {}
    """Who may not import a library, by the library."""
    for section in contracts.sections():
        if contracts.get(section, "type", fallback="") == "forbidden":
            sources = set(_words(contracts, section.removeprefix(_PREFIX), "source_modules", "\n"))
            for name in _words(contracts, section.removeprefix(_PREFIX), "forbidden_modules", "\n"):
                libraries.setdefault(name, set()).update(sources)
    outside = {name: who for name, who in libraries.items() if not name.startswith("dicom_ai_node")}
    lines = ["| layer | room | does | never imports |", "|---|---|---|---|"]
    for number, layer in enumerate(reversed(layers), 1):
        for room in (name.strip() for name in layer.split("|")):
            never = sorted(name for name, who in outside.items() if room in who)
            lines.append(f"| {number} | `{_short(room)}` | {_says(room)} | {', '.join(never)} |")
    return "\n".join(lines) + "\n"


def document() -> str:
    """The document with the table as it has to be."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _words(contracts: ConfigParser, section: str, key: str, separator: str) -> list[str]:
    text = contracts.get(f"{_PREFIX}{section}", key)
    return [word.strip() for word in text.split(separator) if word.strip()]


def _short(room: str) -> str:
    name = room.removeprefix("dicom_ai_node.")
    path = ROOT / room.replace(".", "/")
    return f"{name}/" if path.is_dir() else f"{name}.py"


def _says(room: str) -> str:
    """The first paragraph of a room's docstring, in Markdown."""
    path = ROOT / room.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(source.read_text())) or ""
    first = " ".join(text.split("\n\n")[0].split())
    return first.replace("``", "`").replace(":class:", "").replace("|", "\\|")


if __name__ == "__main__":
    DOCUMENT.write_text(document())
