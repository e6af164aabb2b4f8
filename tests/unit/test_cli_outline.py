"""The options of commands as their source says them, beside those of the functions themselves."""

import inspect
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import typer

from dicom_ai_node.cli import app, monitor
from dicom_ai_node.cli.commands import Command
from dicom_ai_node.cli.outline import has_function, outline
from dicom_ai_node.monitor.figures import GROUPS


def functions() -> list[tuple[str, str]]:
    """Every command that is a function, by the module and the name of it."""
    found = [("monitor", name) for name in ("figures", "resume", "shadow")]
    waiting: list[Any] = [typer.main.get_command(app)]
    while waiting:
        for entry in waiting.pop().commands.values():
            if isinstance(entry, Command):
                found.append(entry.place)
            else:
                waiting.append(entry)
    return [place for place in found if has_function(*place)]


def options(function: Any) -> list[object]:
    """Return what a signature says; of a dataclass what its fields say."""
    return [
        (each.name, each.kind, each.default, said(each.annotation))
        for each in inspect.signature(function, eval_str=True).parameters.values()
    ]


def said(annotation: Any) -> object:
    if is_dataclass(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        return [(each.name, each.default, said(hints[each.name])) for each in fields(annotation)]
    if get_origin(annotation) is Annotated:
        kind, info = get_args(annotation)
        return repr(kind), vars(info)
    return repr(annotation)


@pytest.mark.parametrize(("module", "name"), functions())
def test_an_outline_says_what_the_function_says(module: str, name: str) -> None:
    header = outline(module, name)
    function = getattr(import_module(f"dicom_ai_node.cli.{module}"), name)
    assert options(header) == options(function)
    assert header.__doc__ == function.__doc__
    assert header.__code__.co_names == (), "the work is left out"


def test_there_are_commands() -> None:
    assert len(functions()) > 25


def test_a_name_that_is_no_function_has_none() -> None:
    assert not has_function("monitor_group", "monitor")
    assert not has_function("node", "nothing")


def test_the_groups_of_monitor_are_those_there_are() -> None:
    assert get_args(monitor.By) == tuple(GROUPS)
