"""The card of a bundle of findings, written from its manifest so that its numbers are measured."""

from collections.abc import Sequence

from dicom_ai_node.inference.bundle import Figure, Manifest
from training.data.images import EvaluationSet
from training.measure.boxes import HITS, LABEL_OF_RSNA, OVERLAP, RANDOM, USUAL
from training.measure.figures import EVERY_GATE, find
from training.measure.findings import (
    AUC,
    BRIER,
    ERROR,
    FEWEST,
    MEAN_AUC,
    POSITIVES,
    PUBLISHED,
    PUBLISHED_MEAN,
)
from training.measure.markdown import cell, number, table

LABELS = """\
The labels of ChestX-ray14 were mined from radiologists' reports by a program. Its authors and
others who read the images again found 10 to 30 % of them wrong, some findings more. So the network
learns what a report would have *named*, which depends on why the image was taken, and every figure
here is held against such labels: none says how often a finding is seen that is really there."""

UNFIT = """\
- **Diagnosis, triage, screening, or any decision about a patient.** Not for diagnosis: nobody has
  shown that it helps, and at any rate of false alarms that can be borne it misses much.
- **Another hospital**, until it has been measured there. All its images are of one institution.
- **Rare findings**: of several labels it has seen some dozens of images.
- **Children, lateral views, other body parts.** The gates refuse the last two, not children.
- A low probability does not say that a finding is absent; the 14 are not all that can be wrong."""


PLACES = f"""\
Grad-CAM of each boxed finding, of patients left out of this training; the weights that it started
from may have seen them. Hit rate: the largest value lies inside a box. IoU: of what exceeds a share
of the maximum, chosen on the other boxes. The boxes of RSNA are opacities that may be pneumonia;
the map of {LABEL_OF_RSNA} is asked for. `{RANDOM}` is drawn anywhere; `{USUAL}` is where other
patients' boxes of that finding lie, without a look at the image."""


def text(manifest: Manifest, sets: Sequence[EvaluationSet], chooses: str) -> str:
    """The whole card in Markdown."""
    parts = [
        f"# {manifest.name} {manifest.version}",
        f"**For research, not for diagnosis.** {manifest.intended_use}",
        f"Not for: {manifest.not_for}",
        f"## What it learnt\n{manifest.training.summary} {manifest.training.images:,} images of"
        f" {manifest.training.patients:,} patients; {manifest.architecture},"
        f" {manifest.size} x {manifest.size} pixels; SHA-256 of the weights `{manifest.sha256}`.",
        LABELS,
        *(_of_set(manifest.figures, one.name, one.title) for one in sets),
        _choosing(manifest.figures, chooses),
        _places(manifest.figures),
        _gates(manifest.figures),
        f"## Whom it is not fit for\n{UNFIT}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_set(figures: Sequence[Figure], name: str, title: str) -> str:
    labels = list(
        dict.fromkeys(f.group for f in figures if (f.dataset, f.quantity) == (name, BRIER))
    )
    if not labels:
        return ""
    head = (
        *("finding", "positives", "AUC", "age, sex, view", "published"),
        *("Brier", "of its share", "calibration error", "of the training share"),
    )
    rows = [_row(figures, name, label) for label in labels]
    mean = _mean(figures, name)
    return f"## {title}\n{mean}\n\n{table(head, rows)}\n\n{_reading(figures, name)}"


def _groups(figures: Sequence[Figure], name: str, quantity: str) -> list[str]:
    found = (f.group for f in figures if (f.dataset, f.quantity) == (name, quantity))
    return list(dict.fromkeys(found))


def _row(figures: Sequence[Figure], name: str, label: str) -> list[str]:
    counted, auc, brier, error = (
        find(figures, name, quantity, group=label) for quantity in (POSITIVES, AUC, BRIER, ERROR)
    )
    return [
        label,
        "" if counted is None else f"{counted.value:.0f} of {counted.n:,}",
        cell(auc),
        number(auc.baseline) if auc else "",
        number(PUBLISHED.get(label)),
        cell(brier),
        number(brier.baseline) if brier else "",
        cell(error),
        number(error.baseline) if error else "",
    ]


def _mean(figures: Sequence[Figure], name: str) -> str:
    found = next((f for f in figures if (f.dataset, f.quantity) == (name, MEAN_AUC)), None)
    if found is None:
        return f"No label has {FEWEST} positives: no mean."
    low, high = PUBLISHED_MEAN
    return (
        f"Mean AUC of the {found.group} with at least {FEWEST} positives:"
        f" **{cell(found)}**, n = {found.n:,}; age, sex and view alone {number(found.baseline)},"
        f" a guess 0.500. Others report {low} to {high} for all 14, trained on the whole of"
        " ChestX-ray14 and tested on its own test part."
    )


def _reading(figures: Sequence[Figure], name: str) -> str:
    few = [f.group for f in figures if (f.dataset, f.quantity) == (name, POSITIVES)
           and f.value < FEWEST]  # fmt: skip
    return (
        "Intervals are 95 %, from resampling patients. `age, sex, view`: a logistic regression on"
        " these alone. `of its share`: the Brier score of answering with the share of the measured"
        " images; `of the training share`: the calibration error of answering with that of the"
        " training images."
    ) + (f" Too few positives to say anything: {', '.join(few)}." if few else "")


def _choosing(figures: Sequence[Figure], name: str) -> str:
    found = next((f for f in figures if (f.dataset, f.quantity) == (name, MEAN_AUC)), None)
    if found is None:
        return ""
    return (
        f"On `{name}`, the patients left out of training that chose between candidates, the mean"
        f" AUC of {found.group} is {cell(found)} (n = {found.n:,}); age, sex and view alone"
        f" {number(found.baseline)}. A backbone that has seen their images makes it too good."
    )


def _gates(figures: Sequence[Figure]) -> str:
    passing = [figure for figure in figures if figure.quantity == EVERY_GATE]
    rows = [[f.dataset, f.group, f"{f.n:,}", cell(f)] for f in passing]
    return f"## What its gates let pass\n{table(('set', 'kind', 'n', 'share'), rows)}"


def _places(figures: Sequence[Figure]) -> str:
    names = list(dict.fromkeys(f.dataset for f in figures if f.quantity == HITS))
    if not names:
        return ""
    head = ("boxes", "finding", "n", HITS, RANDOM, USUAL, OVERLAP, f"{OVERLAP}, {USUAL}")
    rows = []
    for name in names:
        for group in dict.fromkeys(
            f.group for f in figures if (f.dataset, f.quantity) == (name, HITS)
        ):
            asked = (HITS, f"{HITS}, {RANDOM}", f"{HITS}, {USUAL}", OVERLAP, f"{OVERLAP}, {USUAL}")
            found = [find(figures, name, quantity, group=group) for quantity in asked]
            number_of = "" if found[0] is None else f"{found[0].n:,}"
            rows.append([name, group or "all", number_of, *map(cell, found)])
    return f"## Does it look at the right place?\n{PLACES}\n\n{table(head, rows)}"
