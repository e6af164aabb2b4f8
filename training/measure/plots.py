"""The plots of an evaluation, drawn from its table and its figures; nothing is computed anew.

Agg draws without a screen. Colours are those of Okabe & Ito, which the colour-blind can tell apart.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from sklearn.metrics import roc_curve

from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.intervals import LEVELS
from training.measure import answering, metrics
from training.measure.figures import ACCURACY, AUC, BIAS, IMAGES, MAE, coverage, find, width
from training.measure.table import DECADES, PredictionTable, decade, label

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
GREY = "#777777"
Draw = Callable[[Canvas, PredictionTable, Sequence[Figure]], None]


def draw_all(out: Path, table: PredictionTable, figures: Sequence[Figure]) -> list[tuple[str, str]]:
    """Write every plot into ``out``; returns file names and captions."""
    for file, (_, draw) in PLOTS.items():
        canvas = Canvas(layout="constrained")
        FigureCanvasAgg(canvas)
        draw(canvas, table, figures)
        canvas.savefig(out / file, dpi=110)
    return [(file, caption) for file, (caption, _) in PLOTS.items()]


def _aged(table: PredictionTable) -> dict[str, PredictionTable]:
    return _by_name(table.where(~np.isnan(table.recorded)))


def _sexed(table: PredictionTable) -> dict[str, PredictionTable]:
    """Data sets with both sexes."""
    found = _by_name(table.where(~np.isnan(table.female)))
    return {name: part for name, part in found.items() if 0 < part.female.mean() < 1}


def _by_name(table: PredictionTable) -> dict[str, PredictionTable]:
    return {str(name): table.of(name) for name in dict.fromkeys(table.dataset)}


def _panels(canvas: Canvas, names: Sequence[str], *, height: float = 4.2) -> dict[str, Axes]:
    canvas.set_size_inches(4.4 * max(len(names), 1), height)
    axes = canvas.subplots(1, max(len(names), 1), squeeze=False)[0]
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(name)
    return dict(zip(names, axes, strict=False))


def _age(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    sets = _aged(table)
    for name, ax in _panels(canvas, list(sets)).items():
        part = sets[name]
        ax.plot([0, 100], [0, 100], color=GREY, linewidth=1)
        for value, colour, legend in ((1, COLOURS[3], "female"), (0, COLOURS[0], "male")):
            of_sex = part.where(part.female == value)
            ax.scatter(of_sex.recorded, of_sex.age, s=8, alpha=0.5, color=colour, label=legend)
        found = find(figures, name, MAE)
        ax.text(0.04, 0.92, f"MAE {found.value:.2f}" if found else "", transform=ax.transAxes)
        ax.set(xlim=(0, 100), ylim=(0, 100), xlabel="recorded age, years", ylabel="estimate, years")
        ax.legend(loc="lower right")


def _bland_altman(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    sets = _aged(table)
    for name, ax in _panels(canvas, list(sets)).items():
        part = sets[name]
        middle, error = (part.age + part.recorded) / 2, part.age - part.recorded
        ax.scatter(middle, error, s=8, alpha=0.5, color=COLOURS[0])
        for quantity, style in (
            (BIAS, "-"),
            ("age lower limit of agreement, years", "--"),
            ("age upper limit of agreement, years", "--"),
        ):
            found = find(figures, name, quantity)
            if found:
                ax.axhline(found.value, linestyle=style, color=COLOURS[3])
                ax.annotate(
                    f"{found.value:+.1f}", (1, found.value), xycoords=("axes fraction", "data"),
                    ha="right", va="bottom",
                )  # fmt: skip
        ax.set(xlabel="mean of estimate and record, years", ylabel="estimate - record, years")


def _coverage(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    canvas.set_size_inches(9.6, 4.4)
    left, right = canvas.subplots(1, 2)
    nominal = [float(level) / 100 for level in LEVELS]
    left.plot([0.4, 1], [0.4, 1], color=GREY, linewidth=1)
    for i, name in enumerate(_aged(table)):
        _line(left, nominal, [find(figures, name, coverage(v)) for v in LEVELS], i, name)
        _line(right, nominal, [find(figures, name, width(v)) for v in LEVELS], i, name)
    left.set(xlabel="nominal", ylabel="covered", xticks=nominal)
    right.set(xlabel="nominal", ylabel="mean width, years", xticks=nominal, ylim=(0, None))
    _legend(left)


def _reliability(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    sets = _sexed(table)
    for name, ax in _panels(canvas, list(sets)).items():
        stated, seen, counts = metrics.reliability(sets[name].p_female, sets[name].female)
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        ax.bar(stated, counts / counts.sum(), width=0.04, color=COLOURS[5], label="share of images")
        ax.plot(stated, seen, "o-", color=COLOURS[0], label="females among them")
        found = find(figures, name, "sex ECE")
        ax.text(0.04, 0.72, f"ECE {found.value:.3f}" if found else "", transform=ax.transAxes)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="P(female)", ylabel="share")
        ax.legend(loc="upper left")


def _roc(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    canvas.set_size_inches(5.2, 5)
    ax = canvas.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for i, (name, part) in enumerate(_sexed(table).items()):
        false, true, _ = roc_curve(part.female, part.p_female, drop_intermediate=False)
        found = find(figures, name, AUC)
        legend = f"{name} {found.value:.3f}" if found else name
        ax.plot(false, true, color=COLOURS[i % len(COLOURS)], label=legend)
    ax.set(xlabel="males called female", ylabel="females called female")
    _legend(ax)


def _decades(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    canvas.set_size_inches(9.6, 4.4)
    left, right = canvas.subplots(1, 2)
    right.axhline(0, color=GREY, linewidth=1)
    for i, name in enumerate(_aged(table)):
        for ax, quantity in ((left, MAE), (right, BIAS)):
            found = [
                find(figures, name, quantity, group=label("decade", decade(start)))
                for start in DECADES
            ]
            at = [start + 5 + 0.7 * i for start in DECADES]
            _line(ax, at, found, i, name)
    left.set(xlabel="recorded age, years", ylabel=MAE, ylim=(0, None))
    right.set(xlabel="recorded age, years", ylabel=BIAS)
    _legend(left)


def _risk(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    """What a share of answers costs, the surest first."""
    canvas.set_size_inches(9.6, 4.4)
    left, right = canvas.subplots(1, 2)
    for i, (name, part) in enumerate(_aged(table).items()):
        error = np.abs(part.age - part.recorded)
        left.plot(
            *answering.curve(part, answering.age_doubt(part), error),
            color=COLOURS[i % len(COLOURS)],
            label=name,
        )
    for i, (name, part) in enumerate(_sexed(table).items()):
        wrong = (~metrics.right(part.p_female, part.female)).astype(np.float64)
        right.plot(
            *answering.curve(part, -answering.sex_certainty(part), wrong),
            color=COLOURS[i % len(COLOURS)],
            label=name,
        )
    left.set(xlabel="share answered", ylabel=MAE, xlim=(0, 1), ylim=(0, None))
    right.set(xlabel="share answered", ylabel="share of wrong sexes", xlim=(0, 1), ylim=(0, None))
    _legend(left)
    _legend(right)


def _groups(canvas: Canvas, table: PredictionTable, figures: Sequence[Figure]) -> None:
    """By sex, view and source, of every data set."""
    sets = _by_name(table.where(~(np.isnan(table.recorded) & np.isnan(table.female))))
    shown = [
        (f.dataset, f.group)
        for f in figures
        if f.dataset in sets
        and f.quantity == IMAGES
        and f.group.startswith(("sex: ", "view: ", "source: "))
    ]
    canvas.set_size_inches(9.6, 0.3 * len(shown) + 1.4)
    for ax, quantity in zip(canvas.subplots(1, 2, sharey=True), (MAE, ACCURACY), strict=True):
        for row, (dataset, group) in enumerate(shown):
            found = find(figures, dataset, quantity, group=group)
            if found is None:
                continue
            colour = COLOURS[list(sets).index(dataset) % len(COLOURS)]
            ax.plot(found.value, row, "o", color=colour)
            if found.low is not None and found.high is not None:
                ax.plot([found.low, found.high], [row, row], color=colour)
        ax.set(xlabel=quantity, yticks=range(len(shown)))
        ax.set_yticklabels([f"{dataset}, {group}" for dataset, group in shown])
        ax.grid(axis="x", alpha=0.3)
    ax.invert_yaxis()  # shared by both


def _line(
    ax: Axes, at: Sequence[float], found: Sequence[Figure | None], number: int, name: str
) -> None:
    """Points with their intervals; what was not measured is left out."""
    known = [(x, f) for x, f in zip(at, found, strict=True) if f is not None]
    if not known:
        return
    values = np.array([f.value for _, f in known])
    low = np.array([f.value if f.low is None else f.low for _, f in known])
    high = np.array([f.value if f.high is None else f.high for _, f in known])
    ends = np.maximum(np.stack([values - low, high - values]), 0.0)
    ax.errorbar(
        [x for x, _ in known], values, yerr=ends, fmt="o-", markersize=4, capsize=2,
        color=COLOURS[number % len(COLOURS)], label=name,
    )  # fmt: skip


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend()


PLOTS: dict[str, tuple[str, Draw]] = {
    "age.png": ("Estimated against recorded age", _age),
    "bland-altman.png": ("Bland-Altman: bias and 95 % limits of agreement", _bland_altman),
    "coverage.png": (
        "Coverage and width of the age intervals against what they promise",
        _coverage,
    ),
    "reliability.png": ("Reliability of the sex", _reliability),
    "roc.png": ("ROC of the sex", _roc),
    "decades.png": ("Error and bias by decade, with 95 % intervals", _decades),
    "risk.png": (
        "Risk against coverage: the error of the surest, by the share that is answered",
        _risk,
    ),
    "groups.png": ("Error by sex, view and source, with 95 % intervals", _groups),
}
"""Caption and drawing of each file."""
