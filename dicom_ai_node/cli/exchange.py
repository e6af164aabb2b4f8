"""The network elsewhere: ``model export``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dicom_ai_node.cli.common import AsJson, check_folder, console, print_json


def export(
    onnx: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    name: Annotated[str, typer.Argument(help="A shipped bundle's name, or a folder.")] = "default",
    opset: Annotated[int, typer.Option(min=18, max=23, help="ONNX operator set.")] = 18,
    as_json: AsJson = False,
) -> None:
    """Write a bundle's network as ONNX, and check that it answers as before.

    Needs the packages of dicom-ai-node[onnx]. docs/interoperability.md says what the network
    expects and how its raw answers are to be read.

    Example: dicom-ai-node model export default --onnx chest.onnx
    """
    from dicom_ai_node.inference.bundle import resolve_bundle
    from dicom_ai_node.inference.export import export as write

    if onnx.parent.is_dir():
        check_folder("--onnx", onnx.parent)
    difference = write(resolve_bundle(name), onnx, opset=opset)
    if as_json:
        print_json({"path": str(onnx), "difference": difference})
        return
    if difference is None:
        found = Text("unchecked: onnxruntime is not installed", style="yellow")
    else:
        found = Text(f"largest relative difference to torch {difference:.1e}")
    console.print(Text.assemble(f"{onnx}: ", found))
    console.print("Its answers are raw, uncalibrated. Not a medical device.", style="dim")
