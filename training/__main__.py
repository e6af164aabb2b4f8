"""The commands that make a bundle: ``python -m training COMMAND``, each with its ``--help``."""

import sys
from importlib import import_module

import typer

from dicom_ai_node.errors import BundleError
from training.data.tables import DataError

COMMANDS = {
    "index": ("readers", "read a data set in the layout it is published in and write its index"),
    "duplicates": ("data.near_duplicates", "find near-duplicates over data sets"),
    "folds": ("data.folds", "deal the images of indexes out to patient-left-out folds"),
    "cache": ("data.cache", "decode and reduce the images of an index beforehand"),
    "train": ("fit.train", "train one network"),
    "cross": ("measure.cross", "train a network for every fold and measure what it never saw"),
    "build_bundle": ("publish.build_bundle", "calibrate a run's weights and pack them as a bundle"),
    "findings": ("publish.findings", "calibrate, measure and pack a run that asked for findings"),
    "findings_of_nih": ("publish.findings_of_nih", "make a bundle of findings of ChestX-ray14"),
    "parity": ("measure.parity", "ask whether one image gets one answer, whichever way it comes"),
    "evaluate": ("publish.evaluate", "measure a bundle; write its report, and its card"),
    "montage": ("measure.montage", "draw where the network looks, again"),
    "runs": ("measure.runs", "hold the weights of runs against those of the first"),
    "domains": ("measure.domains", "tell how well a bundle knows other hospitals' images apart"),
    "recalibration": ("measure.recalibration", "tell what a site's trusted headers would gain"),
    "planted": ("measure.planted", "count the planted ages that are found"),
    "region_index": ("readers.regions", "write the index of slices of body regions"),
    "regions": ("publish.regions", "train, measure and pack a network of body regions"),
    "region_plots": ("measure.region_plots", "draw confusion and reliability of body regions"),
    "region_test": ("publish.region_test", "measure a bundle of body regions on test sets, once"),
    "ct-age": ("publish.ct_age", "train, measure and pack an age from series or sections of CT"),
    "bodies": ("readers.bodies", "write synthetic series of CT whose ages are known"),
    "bodies-found": ("measure.bodies", "measure a bundle on synthetic series, and where it looks"),
    "person": ("publish.person", "fit an embedding of chests to a bundle, and measure it"),
    "graph": ("publish.graph", "pack the graph that answers on a CPU into a bundle"),
    "phantom": ("publish.phantom", "fit the phantoms of the demo to a bundle"),
}
"""By name the module of :mod:`training` whose ``main`` it is, and what it does.

The help of a command is what its module says of itself."""


def main() -> None:
    """Run the command that is named first."""
    name, *arguments = sys.argv[1:] or [""]
    if name in ("", "-h", "--help"):
        print("usage: python -m training COMMAND [--help]\n")
        print("\n".join(f"  {command:14}{what}" for command, (_, what) in COMMANDS.items()))
        return
    if name not in COMMANDS:
        raise SystemExit(f"{name}: expected a command, one of {', '.join(COMMANDS)}")
    module = import_module(f"training.{COMMANDS[name][0]}")
    command = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    command.command(help=module.__doc__)(module.main)
    try:
        command(arguments, prog_name=f"python -m training {name}")
    except (DataError, BundleError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
