"""Sections that the report and the card share, each from figures to Markdown. Pure."""

from collections.abc import Sequence

from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.calibration import LEVELS
from training.data.sets import Set
from training.measure import criteria as marks
from training.measure import figures as of
from training.measure.markdown import cell, count, interval, number, table
from training.measure.predicted import GATES
from training.measure.references import LEAK, REFERENCES, beside
from training.publish.tried import Tried

Figures = Sequence[Figure]

NOT_MEASURED = "Not measured."


def overall(figures: Figures, one: Set) -> str:
    """Everything of one data set as a whole, beside baseline and published figures."""
    names = list(of.AGE)
    names += [name(level) for level in LEVELS for name in (of.coverage, of.width)]
    names += [*of.SEX, of.CERTAIN]
    names += [*(f"passes {gate}" for gate in GATES), of.EVERY_GATE]
    rows = []
    for name in names:
        every, gated = (of.find(figures, one.name, name, gated=g) for g in (False, True))
        measured = [f for f in (every, gated) if f]
        if not measured:
            continue
        sizes = "/".join(str(f.n) for f in measured)
        published = "; ".join(f"{r.study} {r.value}" for r in beside(name, one.look))
        rows.append(
            [name, cell(every), cell(gated), number(measured[0].baseline), published, sizes]
        )
    if not rows:
        return NOT_MEASURED
    head = ["", "all images", "what every gate passes", "without an image", "published", "n"]
    return table(head, rows)


def by_group(figures: Figures, dataset: str) -> str:
    """Error, bias, coverage and sex by group; '' when the data set has no groups."""
    names = [f.group for f in figures if f.dataset == dataset and f.quantity == of.IMAGES]
    rows = []
    for group in dict.fromkeys(names):
        cells = [group]
        cells += [count(of.find(figures, dataset, q, group=group)) for q in (of.IMAGES, of.REFUSED)]
        cells += [
            cell(of.find(figures, dataset, q, group=group, gated=gated))
            for q, gated in (
                (of.MAE, False),
                (of.BIAS, False),
                (of.coverage("90"), False),
                (of.coverage("90"), True),
                (of.AUC, False),
                (of.ACCURACY, False),
            )
        ]
        mae = of.find(figures, dataset, of.MAE, group=group)
        rows.append([*cells[:4], number(mae.baseline if mae else None), *cells[4:]])
    if not rows:
        return ""
    head = ["", "n", "refused", of.MAE, "of the median", of.BIAS, "coverage at 90 %"]
    head += ["of what passes", of.AUC, of.ACCURACY]
    return table(head, rows)


def gates(figures: Figures, sets: Sequence[Set]) -> str:
    """Share that passes each gate, for what only the gates see: no image of ``sets``."""
    known = {one.name for one in sets}
    found = [f for f in figures if f.quantity == of.EVERY_GATE and f.dataset not in known]
    rows = []
    for every in found:
        if every.dataset == marks.GATE_MATERIAL and not every.group:
            continue  # good and bad images together
        by_gate = [
            of.find(figures, every.dataset, f"passes {gate}", group=every.group) for gate in GATES
        ]
        cells = [number(f.value) if f else "" for f in by_gate]
        name = every.group or every.dataset
        rows.append([name, str(every.n), *cells, number(every.value), interval(every)])
    if not rows:
        return NOT_MEASURED
    head = ["images that trained nothing", "n", "chest", "frontal", "in distribution"]
    return table([*head, "every gate", "95 %"], rows)


def held(figures: Figures) -> str:
    """The marks, met or missed."""
    rows = []
    for one in marks.held(figures):
        where = f"`{one.mark.dataset}`" + (f", {one.mark.group}" if one.mark.group else "")
        answer = {True: "met", False: "**missed**", None: "not measured"}[one.met]
        beyond = _parity_cell(one.figure) if one.mark.dataset == marks.PARITY else cell(one.figure)
        rows.append([one.mark.name, where, one.mark.limit, beyond, answer, _remark(figures, one)])
    return table(["mark", "on", "limit", "measured (95 %)", "", "remark"], rows)


def _remark(figures: Figures, one: marks.Held) -> str:
    """What hides behind a figure: images that are refused, the encoding that is worst."""
    mark, figure = one.mark, one.figure
    if figure is None:
        return ""
    if mark.group == marks.VARIANTS:
        same = [f for f in figures if (f.quantity, f.value) == (figure.quantity, figure.value)]
        return "; ".join(f.group for f in same if f.group not in marks.POOLED)
    every = of.find(figures, mark.dataset, mark.quantity, group=mark.group)
    if not mark.gated or every is None:
        return ""
    return f"{every.n - figure.n} of {every.n} refused; {number(every.value)} of all images"


def references() -> str:
    """Every published reference."""
    rows = [[r.study, r.quantity, r.look, r.value, r.material] for r in REFERENCES]
    shown = table(["study", "quantity", "measured on", "value", "material"], rows)
    return f"{shown}\n\n{LEAK}"


def tried(runs: Sequence[Tried]) -> str:
    """The table of what was tried."""
    if not runs:
        return "Nothing is noted yet."
    rows = [
        [r.name, r.what]
        + [number(v) for v in (r.val_mae, r.val_auc, r.external_mae, r.external_auc)]
        + [number(r.hannover_auc), r.note]
        for r in runs
    ]
    head = ["run", "what", "`val` MAE", "`val` AUC", "`external_dev` MAE", "`external_dev` AUC"]
    return table([*head, "`hannover` AUC", "note"], rows)


def parity(figures: Figures) -> str:
    """Largest differences between two ways of one image to its estimate."""
    own = [f for f in figures if f.dataset == marks.PARITY]
    rows = []
    for group in dict.fromkeys(f.group for f in own):
        years, probability = (
            of.find(own, marks.PARITY, q, group=group)
            for q in (marks.YEARS_APART, marks.PROBABILITY_APART)
        )
        n = {f.n for f in (years, probability) if f}
        rows.append([group, str(max(n)), _parity_cell(years), _parity_cell(probability)])
    if not rows:
        return f"{NOT_MEASURED} `python -m training.parity` measures it."
    return table(["", "images", marks.YEARS_APART, marks.PROBABILITY_APART], rows)


def _parity_cell(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.4f}"
