"""Draw the confusion matrix and the reliability of out-of-fold answers, for each modality.

    python -m training region_plots runs/ct-mr-region/out-of-fold.csv --out runs/ct-mr-region/report

The matrix is of slices with a single region, row by row in shares; the reliability of all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from dicom_ai_node.dicom.body_parts import BODY_PARTS
from training.data.regions import HEAD, PARENTS
from training.data.tables import CsvLine, read_table
from training.measure import metrics
from training.measure.plots import COLOURS, GREY

COLUMNS = ("modality", "terms", "answer", "certainty", "right")


def main(
    answers: Annotated[Path, typer.Argument(help="out-of-fold.csv of a run.")],
    out: Annotated[Path, typer.Option(help="Folder of the plots.")],
) -> None:
    """Draw out-of-fold answers."""
    lines = list(read_table(answers, COLUMNS))
    out.mkdir(parents=True, exist_ok=True)
    for modality in sorted({line["modality"] for line in lines}):
        part = [line for line in lines if line["modality"] == modality]
        canvas = Canvas(figsize=(13, 6), layout="constrained")
        FigureCanvasAgg(canvas)
        left, right = canvas.subplots(1, 2, width_ratios=(1.3, 1))
        confusion(left, part)
        reliability(right, part)
        file = out / f"regions-{modality or 'unknown'}.png"
        canvas.savefig(file, dpi=110)
        print(file)


def confusion(ax: Axes, lines: Sequence[CsvLine]) -> None:
    """Region shown (rows) and answered (columns)."""
    answers = {line["answer"] for line in lines}
    single = [(shown, line["answer"]) for line in lines if (shown := shown_of(line, answers))]
    order = list(BODY_PARTS)
    names = sorted({name for pair in single for name in pair}, key=order.index)
    counts = np.zeros((len(names), len(names)))
    for shown, said in single:
        counts[names.index(shown), names.index(said)] += 1
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = "white" if shares[row, column] > 0.5 else "black"
        text = f"{counts[row, column]:.0f}"
        ax.text(column, row, text, ha="center", va="center", color=dark, fontsize=7)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="answered", ylabel="shown, and nothing else", title=f"{len(single):,} images")


def shown_of(line: CsvLine, answers: set[str]) -> str:
    """The region of a line that shows a single one, '' for several."""
    found = set()
    for term in line["terms"].split():
        while term not in answers and term in PARENTS:
            term = PARENTS[term]
        found.add(term)
    return found.pop() if len(found) == 1 and HEAD not in found else ""


def reliability(ax: Axes, lines: Sequence[CsvLine]) -> None:
    """Certainty, and the share of right answers."""
    certainty = np.array([float(line["certainty"]) for line in lines])
    right = np.array([float(line["right"]) for line in lines])
    said, seen, counts = metrics.reliability(certainty, right)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    ax.bar(said, counts / counts.sum(), width=0.05, color=COLOURS[5], label="share of images")
    ax.plot(said, seen, "o-", color=COLOURS[0], label="right among them")
    one = np.ones((1, len(right)))
    error = float(metrics.calibration_error(one, certainty, right)[0])
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="certainty", ylabel="share")
    ax.set_title(f"ECE {error:.3f}")
    ax.legend(loc="upper left")
