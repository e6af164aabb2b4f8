"""Sections of a report and of a card, as Markdown. Pure."""

from collections.abc import Sequence

from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.intervals import LEVELS
from training.data.images import EvaluationSet
from training.measure import criteria
from training.measure.answering import (
    AGE_ANSWERED,
    AGE_CERTAIN,
    AURC_AGE,
    AURC_SEX,
    CERTAINTIES,
    PERFECT,
    SEX_ANSWERED,
    SEX_CERTAIN,
    WIDTHS,
    at_least,
    at_most,
    worst_cell,
)
from training.measure.criteria import LEAK, REFERENCES, references_of
from training.measure.figures import (
    ACCURACY,
    AGE,
    AUC,
    BIAS,
    CERTAIN,
    EVERY_GATE,
    IMAGES,
    MAE,
    REFUSED,
    SEX,
    coverage,
    find,
    width,
)
from training.measure.markdown import cell, count, interval, number, table
from training.measure.table import GATES, label

Figures = Sequence[Figure]
NOT_MEASURED = "Not measured."
CELL = label("cell", "")
RISK = """\
What each threshold answers, and how well: a site that wants no wide interval or no sex near one
half sets `policy.max_age_interval` or `policy.min_sex_certainty` to one of them. Shares are of all
images, those included that a gate refuses; errors are of what is answered. Without a threshold
everything is answered that the gates let pass; `policy.certain_age_interval` (45 years) and
`policy.certain_sex` (0.8) say what may speak against a record. The last lines average the error
over all shares of answers, the surest first; beside it an order at random, and one that knows the
errors."""


def overall(figures: Figures, data_set: EvaluationSet) -> str:
    """Everything of a data set as a whole, with baseline and published figures."""
    names = list(AGE)
    names += [name(level) for level in LEVELS for name in (coverage, width)]
    names += [*SEX, CERTAIN]
    names += [*(f"passes {gate}" for gate in GATES), EVERY_GATE]
    names += [AGE_ANSWERED, SEX_ANSWERED, AGE_CERTAIN, SEX_CERTAIN]
    rows = []
    for name in names:
        every, gated = (find(figures, data_set.name, name, gated=g) for g in (False, True))
        measured = [f for f in (every, gated) if f]
        if not measured:
            continue
        sizes = "/".join(str(f.n) for f in measured)
        published = "; ".join(
            f"{r.study} {r.value}" for r in references_of(name, data_set.institution)
        )
        rows.append(
            [name, cell(every), cell(gated), number(measured[0].baseline), published, sizes]
        )
    if not rows:
        return NOT_MEASURED
    head = ["", "all images", "what every gate passes", "without an image", "published", "n"]
    return table(head, rows)


def by_group(figures: Figures, dataset: str) -> str:
    """Error, bias, coverage and sex by group; '' when the data set has no groups."""
    names = [
        f.group
        for f in figures
        if f.dataset == dataset and f.quantity == IMAGES and not f.group.startswith(CELL)
    ]
    rows = []
    for group in dict.fromkeys(names):
        cells = [group]
        cells += [count(find(figures, dataset, q, group=group)) for q in (IMAGES, REFUSED)]
        cells += [
            cell(find(figures, dataset, q, group=group, gated=gated))
            for q, gated in (
                (MAE, False),
                (BIAS, False),
                (coverage("90"), False),
                (coverage("90"), True),
                (AUC, False),
                (ACCURACY, False),
            )
        ]
        mae = find(figures, dataset, MAE, group=group)
        rows.append([*cells[:4], number(mae.baseline if mae else None), *cells[4:]])
    if not rows:
        return ""
    head = ["", "n", "refused", MAE, "of the median", BIAS, "coverage at 90 %"]
    head += ["of what passes", AUC, ACCURACY]
    return table(head, rows)


def by_cell(figures: Figures, dataset: str) -> str:
    """Coverage of every cell with enough images, the least covered first; '' where there is none.

    Of many cells some are covered less by chance alone: each has its interval.
    """
    found = [
        f
        for f in figures
        if f.dataset == dataset and f.quantity == coverage("90") and f.group.startswith(CELL)
    ]
    rows = []
    for covered in sorted(found, key=lambda one: one.value):
        others = [find(figures, dataset, name, group=covered.group) for name in (width("90"), BIAS)]
        name = covered.group.removeprefix(CELL)
        rows.append([name, str(covered.n), cell(covered), *map(cell, others)])
    return table(["cell", "n", coverage("90"), width("90"), BIAS], rows) if rows else ""


def risk(figures: Figures, sets: Sequence[EvaluationSet]) -> str:
    """What each threshold answers of each of ``sets``, and the error of that."""
    names = [one.name for one in sets]

    def lines(quantity: str, error: str, groups: Sequence[tuple[str, str]]) -> list[list[str]]:
        return [
            [shown]
            + [
                _told(*(find(figures, name, q, group=group) for q in (quantity, error)))
                for name in names
            ]
            for shown, group in groups
        ]

    ages = [(at_most(years), at_most(years)) for years in WIDTHS]
    sexes = [(at_least(sure), at_least(sure)) for sure in CERTAINTIES]
    head = [f"`{name}`" for name in names]
    return "\n\n".join(
        [
            table(
                ["age: share answered, MAE in years", *head],
                [*lines(AGE_ANSWERED, MAE, ages), *_curves(figures, names, AURC_AGE)],
            ),
            table(
                ["sex: share answered, accuracy", *head],
                [*lines(SEX_ANSWERED, ACCURACY, sexes), *_curves(figures, names, AURC_SEX)],
            ),
        ]
    )


def _told(share: Figure | None, error: Figure | None) -> str:
    if share is None:
        return ""
    return f"{share.value:.0%}, {number(error.value)}" if error else f"{share.value:.0%}"


def _curves(figures: Figures, names: Sequence[str], quantity: str) -> list[list[str]]:
    """The mean error over the curve, of an order at random and of a perfect one."""
    own = [find(figures, name, quantity) for name in names]
    perfect = [find(figures, name, quantity, group=PERFECT) for name in names]
    return [
        ["over the curve", *map(cell, own)],
        ["at random", *(number(one.baseline if one else None) for one in own)],
        [PERFECT, *(number(one.value if one else None) for one in perfect)],
    ]


def gates(figures: Figures, sets: Sequence[EvaluationSet]) -> str:
    """Share that passes each gate, for what only the gates see: no image of ``sets``."""
    known = {data_set.name for data_set in sets}
    found = [f for f in figures if f.quantity == EVERY_GATE and f.dataset not in known]
    rows = []
    for every in found:
        if every.dataset == criteria.GATE_MATERIAL and not every.group:
            continue  # good and bad images together
        by_gate = [
            find(figures, every.dataset, f"passes {gate}", group=every.group) for gate in GATES
        ]
        cells = [number(f.value) if f else "" for f in by_gate]
        name = every.group or every.dataset
        rows.append([name, str(every.n), *cells, number(every.value), interval(every)])
    if not rows:
        return NOT_MEASURED
    head = ["images that trained nothing", "n", "chest", "frontal", "in distribution"]
    return table([*head, "every gate", "95 %"], rows)


def worst(figures: Figures, sets: Sequence[EvaluationSet]) -> str:
    """The cell of each set that is covered least, in a sentence; '' where no cell has enough."""
    found = [(one.name, worst_cell(figures, one.name)) for one in sets]
    said = [
        f"`{name}`: {least.group.removeprefix(CELL)}, {cell(least)}, {least.n} images"
        for name, least in found
        if least is not None
    ]
    return f"Least covered of sex, age and source: {'; '.join(said)}." if said else ""


def judged(figures: Figures) -> str:
    """The criteria, met or missed."""
    rows = []
    for found in criteria.judged(figures):
        criterion, figure = found.criterion, found.figure
        where = f"`{criterion.dataset}`" + (f", {criterion.group}" if criterion.group else "")
        answer = {True: "met", False: "**missed**", None: "not measured"}[found.met]
        value = _parity_cell(figure) if criterion.dataset == criteria.PARITY else cell(figure)
        rows.append(
            [criterion.name, where, criterion.limit, value, answer, _remark(figures, found)]
        )
    return table(["criterion", "on", "limit", "measured (95 %)", "", "remark"], rows)


def _remark(figures: Figures, judged: criteria.Judged) -> str:
    """What hides behind a figure: images that are refused, the encoding that is worst."""
    criterion, figure = judged.criterion, judged.figure
    if figure is None:
        return ""
    if criterion.group == criteria.LOSSLESS:
        same = [f for f in figures if (f.quantity, f.value) == (figure.quantity, figure.value)]
        return "; ".join(f.group for f in same if f.group not in criteria.POOLED)
    every = find(figures, criterion.dataset, criterion.quantity, group=criterion.group)
    if not criterion.gated or every is None:
        return ""
    return f"{every.n - figure.n} of {every.n} refused; {number(every.value)} of all images"


def references() -> str:
    """Every published reference."""
    rows = [[r.study, r.quantity, r.institution, r.value, r.material] for r in REFERENCES]
    shown = table(["study", "quantity", "measured on", "value", "material"], rows)
    return f"{shown}\n\n{LEAK}"


def parity(figures: Figures) -> str:
    """Largest differences between two ways of one image to its estimate."""
    measured = [f for f in figures if f.dataset == criteria.PARITY]
    rows = []
    for group in dict.fromkeys(f.group for f in measured):
        years, probability = (
            find(measured, criteria.PARITY, q, group=group)
            for q in (criteria.YEARS_APART, criteria.PROBABILITY_APART)
        )
        n = {f.n for f in (years, probability) if f}
        rows.append([group, str(max(n)), _parity_cell(years), _parity_cell(probability)])
    if not rows:
        return f"{NOT_MEASURED} `python -m training parity` measures it."
    return table(["", "images", criteria.YEARS_APART, criteria.PROBABILITY_APART], rows)


def _parity_cell(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.4f}"
