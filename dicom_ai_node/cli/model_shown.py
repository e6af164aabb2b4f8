"""What ``model show`` prints of a bundle: a screen; the whole manifest is in ``--json``."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from dicom_ai_node.cli.common import console

if TYPE_CHECKING:
    from dicom_ai_node.inference.bundle import Figure, Manifest

_FIGURES = ("age MAE, years", "age coverage at 90 %", "sex accuracy")
_MOST_FIGURES = 12


def print_bundle(manifest: "Manifest", *, path: str) -> None:
    """Print who a bundle is, what it is for, what it was trained on and how well it does."""
    training = manifest.training
    low, high = training.age_range
    gates = manifest.thresholds
    rows = [
        ("name", f"{manifest.name} {manifest.version}, {manifest.architecture}"),
        ("folder", path),
        ("weights", manifest.sha256),
        ("sees", f"{manifest.size} x {manifest.size} pixels, contract {manifest.input.contract}"),
        (
            "answers",
            f"when chest >= {gates.chest:g}, frontal >= {gates.frontal:g},"
            f" in distribution >= {gates.in_distribution:g}",
        ),
        (
            "trained on",
            f"{training.images} images of {training.patients} patients of"
            f" {len(training.sources)} sources, ages {low:.0f} to {high:.0f}",
        ),
        ("", training.summary),
        ("intended use", manifest.intended_use),
        ("not for", manifest.not_for),
    ]
    if (own := manifest.recalibration) is not None:
        words = f"on {own.date}, {own.images} images of {own.patients} patients of this site"
        rows.append(("recalibrated", f"{words}; before: version {own.base_version}"))
    _print(rows)
    _print_figures(manifest.figures)
    console.print("whole: dicom-ai-node model show --json; figures in CARD.md", style="dim")


def _print(rows: Sequence[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)


def _print_figures(figures: Sequence["Figure"]) -> None:
    found = list(_main(figures))
    if not found:
        return
    table = Table(
        "Measured on",
        "What",
        "Value (95 %)",
        "Images",
        box=None,
        title="Figures of whole data sets, images that every gate lets pass",
        title_justify="left",
    )
    for one in found[:_MOST_FIGURES]:
        interval = "" if one.low is None else f" ({one.low:.3g} to {one.high:.3g})"
        table.add_row(one.dataset, one.quantity, f"{one.value:.3g}{interval}", str(one.n))
    console.print(table)


def _main(figures: Sequence["Figure"]) -> Iterator["Figure"]:
    """The figures that one looks for first: of whole data sets, not of their parts."""
    whole = [one for one in figures if not one.group and one.gated]
    for quantity in _FIGURES:
        yield from (one for one in whole if one.quantity == quantity)
