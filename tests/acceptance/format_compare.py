"""The comparison of two folders of formats, and which differences are intended."""

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.acceptance.format_changes import INTENDED, Change

_MARGIN = re.compile(r" +(?=│?$)", re.M)


def compare(before: Path, after: Path, *, lines: int) -> int:
    """Print how the formats in two folders differ; return 1 when one does that must not."""
    first, second = _formats(before), _formats(after)
    equal, intended, wrong = 0, 0, 0
    used: set[Change] = set()
    for name in sorted(first.keys() | second.keys()):
        old, new = first.get(name), second.get(name)
        if old == new:
            equal += 1
            continue
        applied = [change for change in INTENDED if change.concerns(name)]
        if old is not None:
            for change in applied:
                changed = change.apply(old)
                if changed != old:
                    used.add(change)
                old = changed
                if change.both and new is not None:
                    changed = change.apply(new)
                    if changed != new:
                        used.add(change)
                    new = changed
        whole = next((change for change in applied if change.whole), None)
        if old == new or whole:
            intended += 1
            if whole:
                used.add(whole)
            continue
        wrong += 1
        print(f"DIFFERS {name}")
        for line in list(_difference(old, new))[:lines]:
            print(f"    {line[:200]}")
    for change in INTENDED:
        if change in used:
            print(f"intended: {change.formats}: {change.reason}")
        else:
            print(f"listed, but not met: {change.formats}: {change.reason}")
    print(f"{equal} formats are equal, {intended} differ as intended, {wrong} differ")
    return int(wrong > 0)


def _formats(folder: Path) -> dict[str, str]:
    root = folder / "formats"
    return {
        str(path.relative_to(root).with_suffix("")): _MARGIN.sub("", path.read_text())
        for path in root.rglob("*")
        if path.is_file()
    }


def _difference(old: str | None, new: str | None) -> Iterator[str]:
    """The lines that differ, those of JSON one key a line."""
    if old is None or new is None:
        yield "is new" if old is None else "is missing"
        return
    for line in difflib.unified_diff(_spread(old), _spread(new), lineterm="", n=0):
        if not line.startswith(("---", "+++", "@@")):
            yield line


def _spread(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            lines.append(line)
        else:
            lines += [line] if not isinstance(found, dict) else list(_flat("", found))
    return lines


def _flat(path: str, value: object) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, held in value.items():
            yield from _flat(f"{path}.{key}", held)
    elif isinstance(value, list) and value:
        for number, held in enumerate(value):
            yield from _flat(f"{path}[{number}]", held)
    else:
        yield f"{path} = {json.dumps(value, ensure_ascii=False)}"
