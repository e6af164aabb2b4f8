"""Commands that are imported when they are run, made of plain functions.

A function that returns an :class:`Answer` gets ``--json``. A parameter that is a dataclass stands
for its fields, each of them an option.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from typing import Any, Final, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

MARKUP: Final = "markdown"


class Command(TyperCommand):
    """A command that stands in the help with its first line, and is imported when it is run."""

    def __init__(self, name: str, module: str, first_line: str) -> None:
        super().__init__(name, help=first_line, hidden=not first_line)
        self._module = module

    def imported(self) -> Any:
        """Return the command itself: the function of its name, or a group that is an app."""
        module = import_module(f"{__package__}.{self._module}")
        name = str(self.name).replace("-", "_")
        found = getattr(module, "list_" if name == "list" else name)
        app = found
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
            app.command(self.name)(printed(found))
        command = typer.main.get_command(app)
        command.name = self.name
        return command


class Group(TyperGroup):
    """Commands of which one is imported when it is run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant, imported, and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.imported() if isinstance(command, Command) else command, rest


def printed(function: Callable[..., Any]) -> Callable[..., None]:
    """Return a function as typer takes it, which prints what it returns."""
    from dicom_ai_node.cli.options import AsJson
    from dicom_ai_node.cli.printing import Answer, Whole, print_answer, print_blocks

    given = inspect.signature(function, eval_str=True)
    groups = {name: one.annotation for name, one in given.parameters.items() if _is_group(one)}
    parameters = {one.name: one for one in _spread(given)}
    answers, takes_json = given.return_annotation is Answer, "as_json" in parameters
    if answers and not takes_json:
        parameters["as_json"] = _option("as_json", AsJson, False)

    def run(**values: Any) -> None:
        as_json = values["as_json"] if takes_json else values.pop("as_json", False)
        for name, group in groups.items():
            values[name] = group(**{one.name: values.pop(one.name) for one in fields(group)})
        found = function(**values)
        if isinstance(found, Answer):
            print_answer(found, as_json=as_json)
        elif isinstance(found, str):
            print_blocks([Whole(found)])

    options = list(parameters.values())
    run.__doc__ = function.__doc__
    vars(run)["__signature__"] = given.replace(parameters=options, return_annotation=None)
    run.__annotations__ = {one.name: one.annotation for one in options}
    return run


def _is_group(parameter: inspect.Parameter) -> bool:
    return is_dataclass(parameter.annotation)


def _spread(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    for parameter in signature.parameters.values():
        if not _is_group(parameter):
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        hints = get_type_hints(parameter.annotation, include_extras=True)
        for one in fields(parameter.annotation):
            default = inspect.Parameter.empty if one.default is MISSING else one.default
            yield _option(one.name, hints[one.name], default)


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)
