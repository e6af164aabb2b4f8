"""What the house measures: ``python -m tests.house [ROOT]`` counts files, lines, circles and names.

A circle is a set of modules that import each other, be it in a function; a class name is defined
twice when two rooms of the package have a class of that name.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

PACKAGE = "dicom_ai_node"
SMALL, LARGE = 60, 400


def figures(root: Path) -> Iterator[tuple[str, str]]:
    """What is counted and the figure."""
    for part in (PACKAGE, "training", "tests", "benchmarks"):
        lines = {path: len(path.read_text().splitlines()) for path in (root / part).rglob("*.py")}
        sizes = sorted(lines.values())
        yield f"{part}: files", f"{len(sizes)}"
        yield f"{part}: lines", f"{sum(sizes)}"
        if part == PACKAGE:
            within = sum(100 <= size <= 300 for size in sizes)
            small = sum(size < SMALL for size in sizes)
            yield f"{part}: median file", f"{median(sizes):g} lines"
            yield f"{part}: files of 100 to 300 lines", f"{within}"
            yield f"{part}: files under {SMALL} lines", f"{small}"
            large = {path: size for path, size in lines.items() if size > LARGE}
            named = ", ".join(f"{path.relative_to(root)} ({size})" for path, size in large.items())
            yield f"{part}: files over {LARGE} lines", f"{len(large)} {named}".strip()
    for part in (PACKAGE, "training"):
        found = circles(imports(root, part))
        shown = "; ".join(" ".join(sorted(circle)) for circle in found)
        yield f"{part}: circles of imports", f"{len(found)} {shown}".strip()
    twice = {name: rooms for name, rooms in classes(root).items() if len(rooms) > 1}
    shown = ", ".join(f"{name} ({' '.join(sorted(rooms))})" for name, rooms in twice.items())
    yield "class names in two rooms", f"{len(twice)} {shown}".strip()


def imports(root: Path, part: str) -> dict[str, set[str]]:
    """Which modules each module imports, at once or in a function."""
    trees = {_name(root, path): ast.parse(path.read_text()) for path in (root / part).rglob("*.py")}
    needs: dict[str, set[str]] = {}
    for name, tree in trees.items():
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in trees else node.module)
        # The package around a module is made first, unless the importer lies in it.
        around = {parent for module in found for parent in _parents(module)} - set(_parents(name))
        needs[name] = (found | around) & trees.keys() - {name}
    return needs


def circles(needs: Mapping[str, set[str]]) -> list[set[str]]:
    """Sets of modules each of which needs all others of its set."""
    left, found = {name: set(needed) for name, needed in needs.items()}, []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            start = error.args[1][0]
            whole = {name for name in _reachable(left, start) if start in _reachable(left, name)}
            found.append(whole)
            left = {name: needed - whole for name, needed in left.items() if name not in whole}
        else:
            return found


def classes(root: Path) -> dict[str, set[str]]:
    """The rooms that define a class, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((root / PACKAGE).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(path.relative_to(root / PACKAGE).parts[0])
    return found


def _reachable(needs: Mapping[str, set[str]], start: str) -> set[str]:
    seen, waiting = set(), [start]
    while waiting:
        for name in needs.get(waiting.pop(), ()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _name(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


if __name__ == "__main__":
    for what, figure in figures(Path(sys.argv[1] if sys.argv[1:] else ".").resolve()):
        print(f"{what:48} {figure}")
