"""The model card of a bundle of body regions, written from its manifest."""

from collections.abc import Sequence

from dicom_ai_node.inference.bundle import Figure, Manifest
from training.data.regions import PARENTS
from training.measure.figures import find
from training.measure.markdown import cell, interval, number, table
from training.measure.regions import (
    ACCURACY,
    ALERTS,
    AREA,
    BY_FEATURES,
    BY_PIXELS,
    CERTAIN,
    ECE,
    PASSES,
    PRECISION,
    RECALL,
    UNMARKED,
    accuracy_at,
    answered,
    doubted_at,
    found_at,
)
from training.publish.card import closing

PUBLISHED = (
    "Published for networks of the same kind, trained on thousands of studies and measured on"
    " other hospitals' images: 91.9 % (90.2 to 92.1) of CT and 94.2 % (92.0 to 95.6) of MR images."
)

READ_THE_TABLES = (
    "Intervals are 95 %, from resampling patients. An answer is right if it is one of the regions"
    " that the image shows; its *area* is right if answer and label have a part of the body in"
    " common, which is what a header is judged by. Recall is of images with a single right answer."
    " `baseline` is what the commonest region would get. What J6 *doubts* and *finds* is of each"
    " image alone: of headers that name what it shows, and of those that name a value elsewhere on"
    " the body, each of these counted alike. `changed` are copies of the slices as another scanner,"
    " archive or screen might have left them."
)

LIMITS = """\
- Few patients of teaching cases and of three small collections: what is rare here is rare for the
  network. A hospital's own images are measured before its answers are acted on.
- The labels were seen once, on contact sheets of about 100 pixels a side, by no radiologist; where
  several regions are shown, each counts as right.
- Almost all CT were pictures, whose window is burnt in: HU of DICOM are known from few series.
- Most pictures carry the mark of their source, which is hidden at random in training.
- What is no slice were radiographs, and montages, screens of text and phantoms that were made: of
  real phantoms and scouts the gate is measured on four."""


def text(manifest: Manifest) -> str:
    """CARD.md."""
    trained = manifest.training
    parts = [
        f"# {manifest.name} {manifest.version}",
        "Tells which region of the body a slice of CT or MR shows. **Not a medical device.**",
        f"**Intended use.** {manifest.intended_use}",
        f"**Not for.** {manifest.not_for}",
        "## What it is",
        f"- Architecture `{manifest.architecture}`, input contract `{manifest.accepts.contract}` at"
        f" {manifest.accepts.size} px, weights SHA-256 `{manifest.sha256}`.\n"
        f"- {trained.summary}\n"
        f"- {trained.images:,} slices of {trained.patients:,} patients.\n"
        f"- Gates: `slice` (at least {manifest.thresholds['slice']}: no scout, montage, screen,"
        " phantom or radiograph), `in_distribution` (conformal p-value, at least"
        f" {manifest.in_distribution}).",
        "### Regions",
        terms(manifest),
        "## What was measured",
        f"{READ_THE_TABLES} `folds` are networks of their own, each asked about patients that it"
        " was not trained with: n says of how many images. The packed one is trained on all of"
        " them, and its temperature is fitted to these answers; it grows with the distance of the"
        " content from what is known. `test` sets chose"
        " nothing; they were measured for each version that was packed.",
        PUBLISHED,
        figures(manifest.figures),
        "## Limits",
        LIMITS,
        *closing(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def terms(manifest: Manifest) -> str:
    """A line for each region: its term, its code, and the terms that are counted to it."""
    codes = manifest.terms.concepts
    values = [value for head in manifest.heads for value in getattr(head, "values", ())]
    lines = []
    for value in values:
        code = codes[f"region.{value}"]
        below = sorted(term for term in PARENTS if value in above(term) and term not in values)
        lines.append((value, f"{code.code} ({code.scheme})", code.meaning, ", ".join(below)))
    return table(("BodyPartExamined", "SNOMED CT", "Meaning", "Counted to it"), lines)


def above(term: str) -> list[str]:
    """The parents of a term, the nearest first."""
    found = list[str]()
    while term in PARENTS:
        term = PARENTS[term]
        found.append(term)
    return found


def figures(found: Sequence[Figure]) -> str:
    """Every table: of each data set as a whole, by region, by group."""
    names = list(dict.fromkeys(figure.dataset for figure in found))
    parts = [overall(found, names)]
    for name in names:
        by_region = regions(found, name)
        by_group = grouped(found, name)
        parts += [f"### {name}", by_region] if by_region else []
        parts += [by_group] if by_group else []
    return "\n\n".join(parts)


def overall(found: Sequence[Figure], names: Sequence[str]) -> str:
    """A line for each data set and figure."""
    quantities = [ACCURACY, BY_FEATURES, BY_PIXELS, UNMARKED, AREA, ECE, PASSES]
    quantities += [q for level in ALERTS for q in (doubted_at(level), found_at(level))]
    quantities += [q for level in CERTAIN for q in (answered(level), accuracy_at(level))]
    lines = []
    for name in names:
        for quantity in quantities:
            one = find(found, name, quantity)
            if one is not None:
                numbers = (number(one.value), interval(one), number(one.baseline))
                lines.append((name, quantity, *numbers, f"{one.n:,}"))
    return table(("Data", "Figure", "Value", "95 %", "Baseline", "n"), lines)


def regions(found: Sequence[Figure], name: str) -> str:
    """Recall and precision of each region; '' where none is measured."""
    groups = dict.fromkeys(
        f.group for f in found if f.dataset == name and f.group.startswith("region: ")
    )
    lines = []
    for group in groups:
        recall, precision = (find(found, name, q, group=group) for q in (RECALL, PRECISION))
        counts = (str(f.n) if f else "0" for f in (recall, precision))
        shown, said = counts
        lines.append((group.removeprefix("region: "), cell(recall), shown, cell(precision), said))
    head = ("Region", "Recall", "Shown", "Precision", "Answered")
    return table(head, lines) if lines else ""


def grouped(found: Sequence[Figure], name: str) -> str:
    """Accuracy of each group of patients or images; '' where none is measured."""
    groups = dict.fromkeys(
        f.group for f in found
        if f.dataset == name and f.group and not f.group.startswith("region: ")
    )  # fmt: skip
    lines = []
    for group in groups:
        right, area = (find(found, name, q, group=group) for q in (ACCURACY, AREA))
        baseline = number(right.baseline) if right else ""
        lines.append((group, cell(right), cell(area), baseline, str(right.n) if right else ""))
    return table(("Group", ACCURACY, AREA, "Baseline", "n"), lines) if lines else ""
