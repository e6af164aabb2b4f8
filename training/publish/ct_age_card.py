"""The card of an age from CT, written from its manifest so that its numbers are the measured ones.

``python -m training ct-age`` writes it.
"""

from collections.abc import Sequence

from dicom_ai_node.answers import Concept
from dicom_ai_node.inference.bundle import Figure, Manifest
from training.measure import markdown
from training.measure.ages import COVERED, GAIN, PUBLISHED, WORTH
from training.measure.figures import BIAS, MAE, coverage, width

TRUNK = Concept("22943007", "SCT", "Trunk structure")
INTENDED = (
    "Estimating the age of an adult from {what}, beside PatientAge of the same study. For research"
    " and data curation."
)
NOT_FOR = (
    "Diagnosis, treatment, proof of age or identity, children. Not a medical device. Heads, limbs,"
    " phantoms and animals; a hospital whose own series did not train or calibrate it."
)
QUANTITIES = (MAE, GAIN, BIAS, coverage("90"), width("90"))


def table(figures: Sequence[Figure]) -> str:
    """The figures of all and of each group, a line each."""
    groups = list(dict.fromkeys(figure.group for figure in figures))
    rows = []
    for group in groups:
        of_group = {figure.quantity: figure for figure in figures if figure.group == group}
        mae = of_group[MAE]
        cells = [markdown.cell(of_group[quantity]) for quantity in QUANTITIES]
        cells.insert(1, markdown.number(mae.baseline))
        rows.append([group or "all", f"{mae.n:,}", *cells])
    head = ["patients left out", "images", MAE, "of the median", *QUANTITIES[1:]]
    return markdown.table(head, rows)


def published() -> str:
    """MAE of the method's paper."""
    return markdown.table(
        ["published", MAE], [[name, markdown.number(mae)] for name, mae in PUBLISHED]
    )


def text(manifest: Manifest, why: str) -> str:
    """CARD.md; ``why`` it is for research alone, '' where it is not."""
    t = manifest.training
    low, high = t.age_range
    use = f"**For research alone**: {why}." if why else "Its answers are held against the header."
    parts = [
        f"# {manifest.name} {manifest.version}",
        f"Estimates the age from CT. **Not a medical device.** {use}",
        f"**Intended use.** {manifest.intended_use}",
        f"**Not for.** {manifest.not_for}",
        "## What it is",
        f"- Architecture `{manifest.architecture}`, input contract `{manifest.accepts.contract}` at"
        f" {manifest.size} px, weights SHA-256 `{manifest.sha256}`.\n"
        f"- {t.summary}\n"
        f"- {t.images:,} images of {t.patients:,} patients, 98 % of them {low:.0f} to {high:.0f}"
        " years old.\n"
        "- Mean and variance of a normal distribution (Kendall & Gal 2017; Kerber et al. 2023); the"
        " interval is split conformal, in units of its sigma,"
        " calibrated by what five networks say of patients that they were not trained with.",
        "## What was measured",
        "Five folds of patients; every answer is of a network that has not seen the patient, every"
        " interval by a calibration on other patients. Intervals in brackets are 95 %, from"
        " resampling patients. `of the median` is the MAE of the median age of the images that"
        " trained. The packed network has seen all of these patients: no figure is of it.",
        table(manifest.figures),
        f"A bundle is for research alone unless its gain over the median is more than {WORTH:g}"
        f" years at the lower end of its interval, and its intervals of 90 % cover {COVERED[0]:.0%}"
        f" to {COVERED[1]:.0%}.",
        published(),
        "## Sources and licences",
        "\n".join(f"- `{s.name}`: {s.images:,} images. {s.licence}" for s in t.sources),
    ]
    return "\n\n".join(parts) + "\n"
