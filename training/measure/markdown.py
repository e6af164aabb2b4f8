"""Figures as text: numbers, intervals, tables. Pure."""

from collections.abc import Iterable, Sequence

from dicom_ai_node.inference.bundle import Figure


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column stands left and whose others stand right."""
    marks = [":--", *["--:"] * (len(head) - 1)]
    lines = [head, marks, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float | None) -> str:
    """Three decimals below 1.05, two above; '' for None."""
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) >= 1.05 else f"{value:.3f}"


def interval(figure: Figure) -> str:
    """The 95 % interval, '' when there is none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{number(figure.low)} to {number(figure.high)}"


def cell(figure: Figure | None) -> str:
    """Value and interval in one cell, '' for None."""
    if figure is None:
        return ""
    within = interval(figure)
    return f"{number(figure.value)} ({within})" if within else number(figure.value)


def count(figure: Figure | None) -> str:
    """Value as a whole number, '' for None."""
    return "" if figure is None else f"{figure.value:.0f}"
