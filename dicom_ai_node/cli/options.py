"""Options and arguments that several commands share."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

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
