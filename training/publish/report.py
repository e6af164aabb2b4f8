"""The report of an evaluation, as Markdown and as a JSON document. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dicom_ai_node.inference.bundle import Figure, Manifest
from training.data.images import PROJECT_SETS, EvaluationSet
from training.measure import criteria
from training.measure.criteria import REFERENCES
from training.publish import sections, tried
from training.publish.tried import Experiment

METHOD = """\
- Intervals are 95 %, the percentiles of 1,000 resamples of patients. An interval of 1.000 to 1.000
  only says that no image failed: with n images, up to 3/n may.
- `without an image` is the median age, the central range of ages and the share of females of the
  training images; for accuracy the larger sex of the measured images, for the AUC one half.
- `what every gate passes` are the images that the node would answer. The others are refused.
- Data sets that calibrate the bundle ({calibrated}) get age intervals that are cross-fitted: each
  tenth of their patients together from a calibration on the other nine. The temperature of the
  sex and the in-distribution score, one number and one reference, are the shipped ones.
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
    experiments: Sequence[Experiment] = ()
    plots: Sequence[tuple[str, str]] = ()
    """File name and what it shows."""
    sets: Sequence[EvaluationSet] = PROJECT_SETS
    """What was measured; criteria, parity and what was tried are of the project's sets alone."""

    @property
    def of_project(self) -> bool:
        """Whether this project's data sets were measured."""
        return self.sets == PROJECT_SETS


def text(evaluation: Evaluation) -> str:
    """report.md."""
    m, figures = evaluation.manifest, evaluation.figures
    parts = [
        f"# Evaluation of {m.name} {m.version}",
        f"Architecture `{m.architecture}` at {m.size} px, weights SHA-256 `{m.sha256}`."
        " Every figure comes from `predictions.csv`; `report.json` holds them all.",
        *(("## Criteria", sections.judged(figures)) if evaluation.of_project else ()),
        "## How it was measured",
        METHOD.format(calibrated=", ".join(evaluation.calibrated) or "none of these"),
    ]
    for data_set in evaluation.sets:
        parts += [f"## {data_set.title}", sections.overall(figures, data_set)]
        grouped = sections.by_group(figures, data_set.name)
        if grouped:
            parts += ["### By group", grouped]
        covered = sections.by_cell(figures, data_set.name)
        if covered:
            parts += ["### Coverage by sex, age and source", covered]
    parts += [
        "## Risk and coverage",
        sections.RISK,
        sections.risk(figures, evaluation.sets),
        "## Gates: share that passes",
        sections.gates(figures, evaluation.sets),
        *(("## Parity", sections.parity(figures)) if evaluation.of_project else ()),
        "## Plots",
        "\n\n".join(f"![{caption}]({file})\n\n{caption}." for file, caption in evaluation.plots),
        "## Published references",
        sections.references(),
        *(
            ("## What was tried", tried.table_of(evaluation.experiments))
            if evaluation.of_project
            else ()
        ),
    ]
    return "\n\n".join(parts) + "\n"


def document(evaluation: Evaluation) -> dict[str, Any]:
    """report.json."""
    return {
        "model": asdict(evaluation.manifest.identity),
        "calibrated_on": list(evaluation.calibrated),
        "marks": [
            {
                **asdict(judged.criterion),
                "met": judged.met,
                "figure": judged.figure.model_dump(mode="json") if judged.figure else None,
            }
            for judged in (criteria.judged(evaluation.figures) if evaluation.of_project else ())
        ],
        "figures": [figure.model_dump(mode="json") for figure in evaluation.figures],
        "references": [asdict(reference) for reference in REFERENCES],
        "tried": [run.model_dump(mode="json") for run in evaluation.experiments],
        "plots": [{"file": file, "caption": caption} for file, caption in evaluation.plots],
    }
