"""The model bundles: ``model list``, ``show`` and ``verify``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dicom_ai_node.cli.common import AsJson, console, print_json
from dicom_ai_node.cli.tables import cut_left
from dicom_ai_node.output import escaped_json

Name = Annotated[str, typer.Argument(help="A shipped bundle's name, or a folder.")]


def list_(as_json: AsJson = False) -> None:
    """List the shipped bundles.

    Example: dicom-ai-node model list
    """
    from dicom_ai_node.config.paths import shipped_bundles
    from dicom_ai_node.inference.bundle import default_bundle, load_manifest

    default = default_bundle()
    table = Table("Name", "Version", "SHA-256", "Default", "Folder", box=None)
    for path in shipped_bundles().values():
        identity = load_manifest(path).identity
        row = (identity.name, identity.version, identity.sha256, path == default, str(path))
        if as_json:
            keys = ("name", "version", "sha256", "default", "path")
            print_json(dict(zip(keys, row, strict=True)))
        else:
            place = cut_left(row[4], console.width // 3)
            table.add_row(*row[:2], row[2][:16], "yes" if row[3] else "", place)
    if not as_json:
        console.print(table)


def show(name: Name = "default", as_json: AsJson = False) -> None:
    """Show a bundle: what it is for, what it was trained on, how well it does.

    The whole manifest, with its calibration and every figure, is in --json.

    Example: dicom-ai-node model show default
    """
    from dicom_ai_node.cli.model_shown import print_bundle
    from dicom_ai_node.inference.bundle import load_manifest, resolve_bundle

    path = resolve_bundle(name)
    manifest = load_manifest(path)
    if as_json:
        typer.echo(escaped_json(manifest.model_dump_json(indent=2)))
    else:
        print_bundle(manifest, path=str(path))


def verify(name: Name = "default", as_json: AsJson = False) -> None:
    """Check that a bundle is complete and that its weights are the ones it was made with.

    Example: dicom-ai-node model verify default
    """
    from dicom_ai_node.inference.bundle import resolve_bundle
    from dicom_ai_node.inference.bundle import verify as verify_bundle

    path: Path = resolve_bundle(name)
    identity = verify_bundle(path).identity
    if as_json:
        print_json({"path": str(path), "sha256": identity.sha256, "valid": True})
    else:
        console.print(f"{identity.name} {identity.version}: weights {identity.sha256} as expected")
