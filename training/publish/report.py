"""The report of an evaluation, as Markdown and as a JSON document. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dicom_ai_node.inference.bundle import Figure, Manifest
from training.data.sets import OWN, Set
from training.measure import criteria as marks
from training.measure.references import REFERENCES
from training.publish import sections
from training.publish.tried import Tried

METHOD = """\
- Intervals are 95 %, the percentiles of 1,000 resamples of patients. An interval of 1.000 to 1.000
  only says that no image failed: with n images, up to 3/n may.
- `without an image` is the median age, the central range of ages and the share of females of the
  training images; for accuracy the larger sex of the measured images, for the AUC one half.
- `what every gate passes` are the images that the node would answer. The others are refused.
- Data sets that calibrate the bundle ({calibrated}) get age intervals that are cross-fitted: each
  tenth of the patients from a calibration on the other nine. The temperature of the sex and the
  in-distribution score, one number and one reference, are the shipped ones.
- A group with fewer than 8 images gets its number alone. Ages are completed years: `70 and over` is
  everyone over 70.
- Bias is estimate minus recorded. ECE is over ten equal bins of P(female); resampling finds more of
  it, never less, so its interval leans upwards."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that a report says."""

    manifest: Manifest
    figures: Sequence[Figure]
    calibrated: Sequence[str]
    """Data sets that the bundle was calibrated on."""
    tried: Sequence[Tried] = ()
    plots: Sequence[tuple[str, str]] = ()
    """File name and what it shows."""
    sets: Sequence[Set] = OWN
    """What was measured; marks, parity and what was tried are of the own sets alone."""

    @property
    def own(self) -> bool:
        """Whether this project's own sets were measured."""
        return self.sets == OWN


def text(one: Evaluation) -> str:
    """report.md."""
    m, figures = one.manifest, one.figures
    parts = [
        f"# Evaluation of {m.name} {m.version}",
        f"Architecture `{m.architecture}` at {m.size} px, weights SHA-256 `{m.sha256}`."
        " Every figure comes from `predictions.csv`; `report.json` holds them all.",
        *(("## Marks", sections.held(figures)) if one.own else ()),
        "## How it was measured",
        METHOD.format(calibrated=", ".join(one.calibrated) or "none of these"),
    ]
    for data_set in one.sets:
        parts += [f"## {data_set.title}", sections.overall(figures, data_set)]
        grouped = sections.by_group(figures, data_set.name)
        if grouped:
            parts += ["### By group", grouped]
    parts += [
        "## Gates: share that passes",
        sections.gates(figures, one.sets),
        *(("## Parity", sections.parity(figures)) if one.own else ()),
        "## Plots",
        "\n\n".join(f"![{caption}]({file})\n\n{caption}." for file, caption in one.plots),
        "## Published references",
        sections.references(),
        *(("## What was tried", sections.tried(one.tried)) if one.own else ()),
    ]
    return "\n\n".join(parts) + "\n"


def document(one: Evaluation) -> dict[str, Any]:
    """report.json."""
    return {
        "model": asdict(one.manifest.identity),
        "calibrated_on": list(one.calibrated),
        "marks": [
            {
                **asdict(held.mark),
                "met": held.met,
                "figure": held.figure.model_dump(mode="json") if held.figure else None,
            }
            for held in (marks.held(one.figures) if one.own else ())
        ],
        "figures": [figure.model_dump(mode="json") for figure in one.figures],
        "references": [asdict(reference) for reference in REFERENCES],
        "tried": [run.model_dump(mode="json") for run in one.tried],
        "plots": [{"file": file, "caption": caption} for file, caption in one.plots],
    }
