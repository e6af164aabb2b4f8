"""The model card, written from a manifest so that its numbers are the measured ones."""

from dicom_ai_node.inference.bundle import Figure, Manifest

TITLES = {
    "val": "Internal: `val`, NIH patients in no other split (also the calibration set)",
    "val_128": "Internal at low resolution: `val_128`, 128-pixel images enlarged",
    "external_dev": "External look: `external_dev`, radiographs from public articles and websites",
    "hannover": "External look: `hannover`, sex only",
}


def text(manifest: Manifest) -> str:
    """CARD.md for ``manifest``."""
    t = manifest.training
    low, high = t.age_range
    gates = manifest.thresholds
    parts = [
        f"# {manifest.name} {manifest.version}",
        "Estimates age and the appearance of sex from a frontal chest radiograph."
        " **Not a medical device.**",
        f"**Intended use.** {manifest.intended_use}",
        f"**Not for.** {manifest.not_for}",
        "## What it is",
        f"- Architecture `{manifest.architecture}`, input contract `{manifest.input.contract}` at"
        f" {manifest.size} px, weights SHA-256 `{manifest.sha256}`.\n"
        f"- {t.summary}\n"
        f"- Age and sex: {t.images:,} images of about {t.patients:,} patients (for some images the"
        f" patient is not known, so fewer), 98 % of them {low:.0f} to {high:.0f} years old.\n"
        "- Age: a distribution over 0 to 100 years (DLDL-v2); its 90 % interval is split conformal,"
        " normalised by the predicted spread, asymmetric, in bands of predicted age.\n"
        f"- Gates: `chest` (at least {gates.chest}; an upright chest radiograph with bright bones:"
        " turned and inverted copies were negatives), `frontal`"
        f" (at least {gates.frontal}), `in_distribution` (conformal p-value of a Mahalanobis"
        f" distance in feature space, at least {gates.in_distribution}).",
        "## What was measured",
        "Intervals are 95 %, from resampling patients. `val` chose no weights and no"
        " hyper-parameter, but it calibrates the temperature, the intervals and the in-distribution"
        " score: coverage on it is therefore cross-fitted (calibrated on one half of the patients,"
        " measured on the other, both ways, 50 splits). Nothing was tuned to the external sets;"
        " frontal images of the sources of `external_dev` (other patients, without age and sex)"
        " trained the gates. The in-distribution gate passes about 99 % of `val` by construction.",
        *(_section(TITLES[name], _of(manifest, name)) for name in TITLES),
        _gates(manifest),
        "## Limits",
        "- All training ages and sexes come from one institution, in images squashed to a square"
        " and stored with 8 bits. Expect larger errors elsewhere, and intervals that cover less"
        " than they say, until they are recalibrated on the site's own trusted headers.\n"
        "- Few children and few people over 80: estimates tend towards the middle of the range, and"
        " people over 70 are estimated too young (see the bias by decade).\n"
        "- AP images (bedside, supine) get larger errors than PA.\n"
        "- The certainty of the sex is calibrated on NIH only. Elsewhere it promises too much: hold"
        " the last line of each external table against 0.95 before a disagreement with a header is"
        " taken for an error of the header.\n"
        "- The labels are what the source recorded, with errors; nine images known to be inverted,"
        " upside down or mostly abdomen were left out.\n"
        "- Some patients of one training source may occur in another under another name; the"
        " evaluation sets share no known patient with training.\n"
        "- The lateral and non-chest material is small, and much of it has 64 pixels a side.\n"
        "- Sex means the appearance of the chest as recorded in binary labels, nothing else.",
        "## Sources and licences",
        "Several sources allow non-commercial use only. The weights carry no image, but whoever"
        " uses them commercially has to judge that for themselves.",
        "\n".join(f"- `{s.name}`: {s.images:,} images. {s.licence}" for s in t.sources),
        "- ImageNet weights to start from: MobileNetV2 1.0, Apache-2.0.",
    ]
    return "\n\n".join(parts) + "\n"


def _of(manifest: Manifest, dataset: str) -> list[Figure]:
    return [figure for figure in manifest.figures if figure.dataset == dataset]


def _section(title: str, figures: list[Figure]) -> str:
    rows = [f"| {f.quantity} | {_number(f.value)} | {_interval(f)} | {f.n} |" for f in figures]
    head = ["| | value | 95 % | n |", "|---|---:|---|---:|"]
    return "\n".join([f"### {title}", "", *head, *rows])


def _gates(manifest: Manifest) -> str:
    """One table of everything that only the gates see: share that passes."""
    names = [f.dataset for f in manifest.figures if f.dataset not in TITLES]
    rows = []
    for name in dict.fromkeys(names):
        found = {f.quantity.removeprefix("passes "): f for f in _of(manifest, name)}
        every = found["every gate"]
        cells = [
            f"{found[gate].value:.3f}" if gate in found else ""
            for gate in ("chest", "frontal", "in_distribution")
        ]
        rows.append(f"| {name} | {every.n} | {' | '.join(cells)} | {every.value:.3f} |")
    head = [
        "| images that trained nothing | n | chest | frontal | in distribution | every gate |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    return "\n".join(["### Gates: share that passes", "", *head, *rows])


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1.05 else f"{value:.3f}"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{_number(figure.low)} to {_number(figure.high)}"
