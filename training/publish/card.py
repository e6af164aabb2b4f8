"""The model card, written from a manifest so that its numbers are the measured ones.

A bundle of this project's images has one, a bundle of a site's archive another.
"""

from collections.abc import Sequence

from dicom_ai_node.inference.bundle import Figure, Manifest
from training.data.images import PROJECT_SETS, EvaluationSet
from training.measure import criteria
from training.measure.answering import PERFECT
from training.measure.figures import AUC, BIAS, CERTAIN, GROUPED, IMAGES, MAE, coverage, find, width
from training.measure.markdown import cell, number
from training.measure.table import CHILDREN, OLD, OLDEST, YOUNG, label
from training.publish import sections, tried
from training.publish.tried import Experiment

LEFT_TO_THE_REPORT = ("view and sex: ", "source: ")
"""Groups that the card does not quote."""
OF_ANSWERS = ("interval at most ", "certainty at least ", PERFECT, sections.CELL)
"""Groups of :mod:`training.measure.answering`."""

READ_THE_TABLES = (
    "Intervals are 95 %, from resampling patients; an interval of 1.000 to 1.000 only says that no"
    " image failed. `without an image` is what the median age and the sexes of the training images"
    " give."
)

PEOPLE = (
    "- **Transgender and intersex people, and anyone whose record is right and whose chest looks"
    " otherwise.** It knows two labels, as recorded. A disagreement is a question to the record,"
    " never a finding about a person.",
    "- **Anyone for whom a decision hangs on it.** No diagnosis, no treatment, no proof of age or"
    " identity, in court or at a border.",
)
"""Lines of every card on whom it is not fit for."""

LIMITS = """\
- The images were squashed to a square and stored with 8 bits before publication.
- The certainty of the sex is calibrated inside only. Elsewhere it promises too much: hold the line
  "where 95 % certain" of each external table against 0.95 before a disagreement with a header is
  taken for an error of the header.
- The labels are what the source recorded, with errors; nine images known to be inverted, upside
  down or mostly abdomen were left out.
- Some patients of one training source may occur in another under another name; the evaluation sets
  share no known patient with training.
- Every figure is of sets that are apart from the training images. Patient-left-out folds of the
  sources whose patients are known had minutes of training, not hours (docs/training.md): they say
  nothing of these weights.
- The gates for chest and view accept from a probability of 0.5, which nothing was fitted to; the
  in-distribution gate refuses what lies farther than all but 0.5 % of `val`, so far as its few
  images can tell: about the farthest of them.
- The lateral and non-chest material is small, and much of it has 64 pixels a side.
- Sex means the appearance of the chest as recorded in binary labels, nothing else."""

SITE_UNFIT = (
    "- **A hospital that it has not been recalibrated on.** Another one's images and patients are"
    " not those that it was calibrated on.",
    *PEOPLE,
)

CHOSEN = "; the bias over 70 of `val` and `val_128` together chose that"
"""How the share of the prior that the shipped bundle is without was chosen."""

SITE_LIMITS = """\
- The certainty of the sex is calibrated on the held-out fold only. Elsewhere it promises too much:
  hold the line "where 95 % certain" of each external table against 0.95 before a disagreement with
  a header is taken for an error of the header.
- Patients are told apart by the identifiers in the indexes: who has two counts as two, and may
  stand on both sides.
- If the weights that it started from had seen images of the held-out fold, its figures are too
  good.
- The labels are what headers and tables recorded, with their errors.
- Sex means the appearance of the chest as recorded in binary labels, nothing else."""


def quotes(figure: Figure) -> bool:
    """Whether the card quotes ``figure``, so that a manifest has to hold it."""
    if figure.dataset == criteria.PARITY and figure.group not in criteria.POOLED:
        return figure.quantity == criteria.YEARS_APART and figure.value > criteria.VARIANT_LIMIT
    if figure.group.startswith(LEFT_TO_THE_REPORT):
        return False
    if figure.group.startswith(OF_ANSWERS):
        return figure.quantity not in (width("90"), IMAGES)
    if figure.group and (figure.gated or figure.quantity == width("90")):
        return figure.gated and figure.quantity == coverage("90")
    return not figure.gated or figure.quantity in (*GROUPED, CERTAIN)


def text(manifest: Manifest, experiments: Sequence[Experiment] = ()) -> str:
    """CARD.md for ``manifest``."""
    figures = manifest.figures
    parts = [
        head(manifest),
        _unfit(manifest),
        "## What it is",
        nature(manifest, "those of the training institution", CHOSEN),
        "## Criteria",
        sections.judged(figures),
        "## What was measured",
        f"{READ_THE_TABLES} `val` calibrates, with `val_128` beside it for"
        " the age: their age intervals are therefore cross-fitted (each tenth of the patients from"
        " a calibration on the other nine); the ECE, the Brier score and the line 'where 95 %"
        " certain' of `val` are of the temperature that was fitted on it."
        " Nothing was fitted to the external sets. Chosen knowing them, `val` and `val_128` were"
        " the runs whose weights are packed, the part of the network whose maps are the texture (by"
        " how well it tells `external_dev` from `val`), and how far intervals widen at the least"
        " (by the coverage of `external_dev`)."
        " Frontal images of the sources of `external_dev` (other patients, without age and sex)"
        " trained the gates, and laterals of up to 16 of its patients; `external_dev2` are other"
        " patients of the source that the images of other institutions are of."
        " The in-distribution gate"
        " passes more than 99 % of `val` by construction. Near-duplicates between training and"
        " evaluation sets were looked for by perceptual hash: there is none in the sets of"
        " patients, and the gates are measured without those found in their material.",
        *measured(figures, PROJECT_SETS),
        *filter(None, [sections.worst(figures, PROJECT_SETS)]),
        "### Risk and coverage",
        sections.RISK,
        sections.risk(figures, PROJECT_SETS),
        "### Gates: share that passes",
        sections.gates(figures, PROJECT_SETS),
        "### Parity",
        sections.parity(figures),
        "### Published references",
        sections.references(),
        "## What was tried",
        tried.table_of(experiments),
        "## Limits",
        LIMITS,
        *closing(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def head(manifest: Manifest) -> str:
    """Name and purpose, up to the heading under which a card says for whom it is not fit."""
    return (
        f"# {manifest.name} {manifest.version}\n\n"
        "Estimates age and the appearance of sex from a frontal chest radiograph."
        " **Not a medical device.**\n\n"
        f"**Intended use.** {manifest.intended_use}\n\n"
        f"**Not for.** {manifest.not_for}\n\n"
        "## For whom it is not fit"
    )


def measured(figures: Sequence[Figure], sets: Sequence[EvaluationSet]) -> list[str]:
    """The tables of each data set."""
    parts: list[str] = []
    for data_set in sets:
        grouped = sections.by_group(figures, data_set.name)
        overall = sections.overall(figures, data_set)
        parts += filter(None, [f"### {data_set.title}", overall, grouped])
    return parts


def closing(manifest: Manifest) -> tuple[str, ...]:
    """The last parts of every card of a bundle of this project's images."""
    return (
        "## Sources and licences",
        "Several sources allow non-commercial use only. The weights carry no image, but whoever"
        " uses them commercially has to judge that for themselves.",
        sources(manifest),
        "- ImageNet weights to start from: MobileNetV2 1.0, Apache-2.0.",
    )


def sources(manifest: Manifest) -> str:
    """Where training images came from, a line each."""
    return "\n".join(
        f"- `{s.name}`: {s.images:,} images. {s.licence}" for s in manifest.training.sources
    )


def nature(manifest: Manifest, near: str, chosen: str = "") -> str:
    """What the weights are; ``near``: whose images; ``chosen``: how the share of the prior was."""
    t, gates = manifest.training, manifest.thresholds
    low, high = t.age_range
    return (
        f"- Architecture `{manifest.architecture}`, input contract `{manifest.accepts.contract}` at"
        f" {manifest.size} px, weights SHA-256 `{manifest.sha256}`.\n"
        f"- {t.summary}\n"
        f"- Age and sex: {t.images:,} images of about {t.patients:,} patients (for some images the"
        f" patient is not known, so fewer), 98 % of them {low:.0f} to {high:.0f} years old.\n"
        "- Age: a distribution over 0 to 100 years (DLDL-v2); its 90 % interval is split conformal,"
        " normalised by the predicted spread, asymmetric, by what is usual at each recorded age,"
        " and wider the further the"
        f" texture of an image (maps in the middle of the network) lies from {near}: by a factor of"
        f" at least {t.caution:g} far away, which is a decision, not a fit. The temperature of the"
        " sex rises by as much.\n"
        f"- {_prior(t.prior_tau)}{chosen}.\n"
        f"- Gates: `chest` (at least {gates['chest']}; an upright chest radiograph with bright"
        " bones: turned and inverted copies were negatives), `frontal`"
        f" (at least {gates['frontal']}), `in_distribution` (conformal p-value of a Mahalanobis"
        f" distance in feature space, at least {gates['in_distribution']})."
    )


def _prior(tau: float) -> str:
    if not tau:
        return (
            "The training ages' own distribution stays in the age head whole, and draws the old and"
            " the young to the middle"
        )
    return (
        f"Of the training ages' own distribution a share of {tau:g} is taken out of the age head,"
        " so that the old and the young are drawn to the middle less"
    )


def _unfit(manifest: Manifest) -> str:
    """People, images and uses that get a wrong answer or none, with what was measured of them."""
    figures = manifest.figures
    low, high = manifest.training.age_range

    def ages(dataset: str, name: str) -> str:
        return of_group(figures, dataset, label("age", name))

    external = find(figures, "external_dev", coverage("90"))
    covered = f" On `external_dev` the 90 % interval covers {cell(external)}." if external else ""
    certain = find(figures, "hannover", CERTAIN, gated=True)
    sure = f" On `hannover` {cell(certain)} of what it is 95 % certain of." if certain else ""
    auc = find(figures, "val_128", AUC, group=label("age", CHILDREN))
    young = f", sex AUC {cell(auc)}" if auc else ""
    return "\n".join(
        [
            f"- **Children and the young.** {ages('val', CHILDREN)}, {ages('val', YOUNG)};"
            f" `val_128`: {ages('val_128', CHILDREN)}{young}. All of the training institution:"
            f" elsewhere they have not been measured. Hardly any below {low:.0f} whose age is known"
            " trained it, and before puberty a chest says little of sex.",
            f"- **The old.** {ages('val', OLD)}, {ages('val', OLDEST)};"
            f" `external_dev`: {ages('external_dev', OLD)}. Few over {high:.0f} trained it;"
            " estimates tend towards the middle.",
            f"- **The very sick, imaged lying.** {of_group(figures, 'val', label('view', 'AP'))},"
            f" beside {of_group(figures, 'val', label('view', 'PA'))}.",
            "- **A hospital that it has not been recalibrated on.** Nearly all training ages and"
            f" sexes are of one institution, the others of public cases.{covered}{sure}",
            *PEOPLE,
            "- **Images** that are lateral, of another body part, or cropped to a part of the"
            " chest; photographs and screenshots get larger errors.",
        ]
    )


def of_group(figures: Sequence[Figure], dataset: str, group: str) -> str:
    """What is known of a group, in words."""
    n, mae, bias = (find(figures, dataset, q, group=group) for q in (IMAGES, MAE, BIAS))
    name = group.partition(": ")[2]
    if n is None:
        return f"{name}: not measured"
    if mae is None or bias is None:
        return f"{name}: {n.n} image{'' if n.n == 1 else 's'}, too few to measure"
    return f"{name}: MAE {number(mae.value)}, bias {cell(bias)}, {n.n} images"


def site_text(manifest: Manifest, sets: Sequence[EvaluationSet]) -> str:
    """CARD.md for ``manifest``, whose figures are of ``sets``."""
    figures = manifest.figures
    parts = [
        head(manifest),
        _unfit_of_site(manifest, sets),
        "## What it is",
        nature(manifest, "the training images"),
        "## What was measured",
        f"{READ_THE_TABLES} `held_out` trained nothing, but it calibrates: its age intervals"
        " are therefore cross-fitted (each tenth of the patients from a calibration on the other"
        " nine). The in-distribution gate passes more than 99 % of it by construction."
        " External sets hold no known patient of the training images.",
        *measured(figures, sets),
        *filter(None, [sections.worst(figures, sets)]),
        "### Risk and coverage",
        sections.RISK,
        sections.risk(figures, sets),
        "### Gates: share that passes",
        sections.gates(figures, sets),
        "### Published references",
        sections.references(),
        "## Limits",
        SITE_LIMITS,
        "## Sources and licences",
        "Of the images that trained it; what trained the weights that it started from is not among"
        " them.",
        sources(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _unfit_of_site(manifest: Manifest, sets: Sequence[EvaluationSet]) -> str:
    low, high = manifest.training.age_range
    lines = [f"- **Ages below {low:.0f} and over {high:.0f}.** Hardly any trained it."]
    for data_set in sets:
        ages = (label("age", name) for name in (CHILDREN, YOUNG, OLD, OLDEST))
        views = (label("view", name) for name in ("AP", "PA"))
        known = "; ".join(of_group(manifest.figures, data_set.name, x) for x in (*ages, *views))
        lines.append(f"- On `{data_set.name}`: {known}.")
    return "\n".join([*lines, *SITE_UNFIT])
