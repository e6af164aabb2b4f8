"""Commands, made of plain functions and imported when they run; options they share.

Their options come from their :mod:`.outline`. A function that returns an :class:`Output` gets
``--json``. A parameter that is a dataclass stands for its fields, each of them an option.
"""

import gc
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from dicom_ai_node.cli.outline import has_function, outline

MARKUP: Final = "markdown"
PLACES = (Path("config/node.toml"), Path("/etc/dicom-ai-node/node.toml"))
DAYS = ["%Y-%m-%d", "%Y%m%d"]
"""How a day is written on the command line."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        envvar="DICOM_AI_NODE_CONFIG",
        help=f"Configuration file. Default: the first of {', '.join(map(str, PLACES))}.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")]
Weeks = Annotated[int, typer.Option(min=1, help="Studies of so many weeks.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Count what would be done, and do nothing.")
]
First = Annotated[datetime | None, typer.Option("--from", formats=DAYS, help="First StudyDate.")]
Last = Annotated[datetime | None, typer.Option("--to", formats=DAYS, help="Last StudyDate.")]
StudyUid = Annotated[str, typer.Argument(help="StudyInstanceUID")]
Bundle = Annotated[str, typer.Argument(help="A shipped bundle's name, or a folder.")]
Paths = Annotated[list[Path], typer.Argument(help="Files, or folders that are searched.")]
By = Annotated[
    str,
    typer.Option(
        "--by",
        help="Who decides. Default: the user of this session, whose account is recorded anyway.",
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why.")]


class Command(TyperCommand):
    """A command that stands in the help with its first line, and is read when it is meant."""

    def __init__(self, name: str, module: str, first_line: str) -> None:
        super().__init__(name, help=first_line, hidden=not first_line)
        function = name.replace("-", "_")
        self.place = module, "list_" if function == "list" else function
        """The module of this package that has its function, and the name of that."""

    def parsed(self) -> Any:
        """Return the command with its options: the function of its name, or a group of an app.

        The module of a function is imported when that is called.
        """
        if has_function(*self.place):
            app = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
            app.command(self.name)(outlined(*self.place))
        else:
            app = _member(*self.place)
        command = typer.main.get_command(app)
        command.name = self.name
        return command


class CommandGroup(TyperGroup):
    """Commands of which one is read when it is meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant, with its options, and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.parsed() if isinstance(command, Command) else command, rest


def outlined(module: str, name: str) -> Callable[..., None]:
    """Return a command's function as typer takes it; its module is imported when it is called."""
    return printed(outline(module, name), partial(_member, module, name))


def printed(
    header: Callable[..., Any], found: Callable[[], Callable[..., Any]]
) -> Callable[..., None]:
    """Return what calls the function that is ``found``, with the options of ``header``."""
    from dicom_ai_node.cli.printing import Output, Whole, print_blocks, print_output

    given = inspect.signature(header, eval_str=True)
    parameters = {parameter.name: parameter for parameter in _spread(given)}
    has_output, takes_json = given.return_annotation is Output, "as_json" in parameters
    if has_output and not takes_json:
        parameters["as_json"] = _option("as_json", AsJson, False)

    def run(**values: Any) -> None:
        as_json = values["as_json"] if takes_json else values.pop("as_json", False)
        function = found()
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            if _is_group(parameter):
                group = parameter.annotation
                own = {field.name: values.pop(field.name) for field in fields(group)}
                values[parameter.name] = group(**own)
        gc.enable()
        result = function(**values)
        if isinstance(result, Output):
            print_output(result, as_json=as_json)
        elif isinstance(result, str):
            print_blocks([Whole(result)])

    options = list(parameters.values())
    run.__doc__ = header.__doc__
    vars(run)["__signature__"] = given.replace(parameters=options, return_annotation=None)
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _member(module: str, name: str) -> Any:
    return getattr(import_module(f"{__package__}.{module}"), name)


def _is_group(parameter: inspect.Parameter) -> bool:
    return is_dataclass(parameter.annotation)


def _spread(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    for parameter in signature.parameters.values():
        if not _is_group(parameter):
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        hints = get_type_hints(parameter.annotation, include_extras=True)
        for field in fields(parameter.annotation):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield _option(field.name, hints[field.name], default)


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)
