"""The options of a command, read from its source: its module is imported when it runs.

A command's module imports what the command works with, such as SQLAlchemy, which takes a second. To
say what its options are, or that one is wrong, its header is enough: the signature and the first
words of the function, and of the module what those name.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = __package__
_LIGHT: Final = frozenset({"commands", "printing"})
"""Modules of this package that commands name in their headers, and that import little."""


def has_function(module: str, name: str) -> bool:
    """Return whether ``name`` is a plain function of a module of commands."""
    return isinstance(_binding(module).get(name), ast.FunctionDef)


def outline(module: str, name: str) -> Callable[..., Any]:
    """Return a function of a module of commands, with its header and without its work."""
    found: Callable[..., Any] = _namespace(module, name)[name]
    return found


def _namespace(module: str, name: str) -> dict[str, Any]:
    """Return what ``name`` stands for in the module, and all that its header names."""
    binding = _binding(module)
    wanted, waiting = {name}, [name]
    while waiting:
        for used in _names(binding[waiting.pop()]):
            if used in binding and used not in wanted:
                wanted.add(used)
                waiting.append(used)
    namespace: dict[str, Any] = {"__name__": f"{_PACKAGE}.{module}", "__package__": _PACKAGE}
    body: list[ast.stmt] = []
    for each, statement in binding.items():  # in the order of the source
        if each not in wanted:
            continue
        sibling = _sibling(statement)
        if sibling is None:
            body.append(_one_name(statement, each))
        else:
            alias = next(a for a in statement.names if (a.asname or a.name) == each)  # type: ignore[attr-defined]
            namespace[each] = _namespace(sibling, alias.name)[alias.name]
    code = ast.fix_missing_locations(ast.Module(body, type_ignores=[]))
    exec(compile(code, f"<outline of {module}>", "exec"), namespace)
    return namespace


@cache
def _binding(module: str) -> dict[str, ast.stmt]:
    """Return the statement that binds each name of the module, functions without their work."""
    spec = find_spec(f"{_PACKAGE}.{module}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return {name: _header(node) for node in tree.body for name in _bound(node)}


def _bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def _header(node: ast.stmt) -> ast.stmt:
    """Return a function without its work, a class without its methods; others as they are."""
    if isinstance(node, ast.FunctionDef):
        words = ast.get_docstring(node, clean=False)
        node.body = [ast.Expr(ast.Constant(words))]
        node.decorator_list = []
    elif isinstance(node, ast.ClassDef):
        node.body = [part for part in node.body if not isinstance(part, ast.FunctionDef)]
    return node


def _names(node: ast.stmt) -> Iterable[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name))


def _sibling(node: ast.stmt) -> str | None:
    """Return the module of commands from which a statement imports, if it is one."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_PACKAGE}."):
        name = str(node.module).removeprefix(f"{_PACKAGE}.")
        return None if name in _LIGHT else name
    return None


def _one_name(node: ast.stmt, name: str) -> ast.stmt:
    """Return an import of one name alone; other statements as they are."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [a for a in node.names if (a.asname or a.name.partition(".")[0]) == name]
        if isinstance(node, ast.Import):
            return ast.Import(names)
        return ast.ImportFrom(node.module, names, node.level)
    return node
