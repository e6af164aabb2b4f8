"""Options that several commands of training have."""

from pathlib import Path
from typing import Annotated

import typer

Index = Annotated[Path, typer.Argument(help="An index file.")]
Indexes = Annotated[list[Path], typer.Argument(help="Index files.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="Configuration of the run, TOML.")]
Fold = Annotated[int | None, typer.Option(help="Held out, in place of archive.hold_out.")]
Root = Annotated[Path, typer.Option("--data", help="This project's images, and ImageNet's.")]
CacheFolder = Annotated[Path, typer.Option("--cache", help="Of this project's images.")]
BundleFolder = Annotated[Path, typer.Option("--bundle", help="Folder of the bundle.")]
Report = Annotated[Path, typer.Option("--out", help="Folder of the report.")]
ROOT, CACHE, REPORT = Path("../shared/data"), Path("runs/cache"), Path("runs/report")
BUNDLE = Path("models/chest-age-sex")
