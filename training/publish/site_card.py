"""The model card of a bundle that was trained on an archive of one's own."""

from collections.abc import Sequence

from dicom_ai_node.inference.bundle import Manifest
from training.data.sets import Set
from training.measure.strata import CHILDREN, OLD, OLDEST, YOUNG, label
from training.publish import card, sections


def text(manifest: Manifest, sets: Sequence[Set]) -> str:
    """CARD.md for ``manifest``, whose figures are of ``sets``."""
    figures = manifest.figures
    parts = [
        card.head(manifest),
        _unfit(manifest, sets),
        "## What it is",
        card.nature(manifest, "the training images"),
        "## What was measured",
        f"{card.READ_THE_TABLES} `held_out` trained nothing, but it calibrates: its age intervals"
        " are therefore cross-fitted (each tenth of the patients from a calibration on the other"
        " nine). The in-distribution gate passes more than 99 % of it by construction."
        " External sets hold no known patient of the training images.",
        *card.measured(figures, sets),
        "### Gates: share that passes",
        sections.gates(figures, sets),
        "### Published references",
        sections.references(),
        "## Limits",
        LIMITS,
        "## Sources and licences",
        "Of the images that trained it; what trained the weights that it started from is not among"
        " them.",
        card.sources(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _unfit(manifest: Manifest, sets: Sequence[Set]) -> str:
    low, high = manifest.training.age_range
    lines = [f"- **Ages below {low:.0f} and over {high:.0f}.** Hardly any trained it."]
    for one in sets:
        ages = (label("age", name) for name in (CHILDREN, YOUNG, OLD, OLDEST))
        views = (label("view", name) for name in ("AP", "PA"))
        known = "; ".join(card.of_group(manifest.figures, one.name, x) for x in (*ages, *views))
        lines.append(f"- On `{one.name}`: {known}.")
    return "\n".join([*lines, *ALWAYS])


ALWAYS = (
    "- **A hospital that it has not been recalibrated on.** Another one's images and patients are"
    " not those that it was calibrated on.",
    *card.PEOPLE,
)
LIMITS = """\
- The certainty of the sex is calibrated on the held-out fold only. Elsewhere it promises too much:
  hold the line "where 95 % certain" of each external table against 0.95 before a disagreement with
  a header is taken for an error of the header.
- Patients are told apart by the identifiers in the indexes: who has two counts as two, and may
  stand on both sides.
- If the weights that it started from had seen images of the held-out fold, its figures are too
  good.
- The labels are what headers and tables recorded, with their errors.
- Sex means the appearance of the chest as recorded in binary labels, nothing else."""
