"""The model bundles: ``model list``, ``show``, ``verify``, ``export`` and ``compare``."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dicom_ai_node.cli.commands import PLACES, Bundle, ConfigFile, Weeks
from dicom_ai_node.cli.common import check_folder, configuration, open_database
from dicom_ai_node.cli.printing import Block, Output, cut_left, pairs, table
from dicom_ai_node.config import load_config
from dicom_ai_node.monitor.measures import spoken
from dicom_ai_node.output import escaped_json
from dicom_ai_node.report.words import unit_words
from dicom_ai_node.terminal import console

if TYPE_CHECKING:
    from dicom_ai_node.inference.bundle import Figure, Manifest, Route
    from dicom_ai_node.inference.heads import Head

_WEEK = 7 * 86400.0
_FIGURES = (
    *("age MAE, years", "age coverage at 90 %", "sex accuracy", "region accuracy", "mean AUC"),
)
"""What one looks for first; a mean is over the labels that its group counts."""
_MOST_FIGURES = 12
_THRESHOLDS = (
    ("interval at most ", "age answered", "age MAE, years", "max_age_interval"),
    ("certainty at least ", "sex answered", "sex accuracy", "min_sex_certainty"),
)
"""Groups of figures that are thresholds, what of them is told, and their keys of ``[policy]``."""
_SHOWN = slice(2, None, 3)
"""Of the thresholds of each: a screen has no more; the card and ``--json`` have all."""
_CPU = "ONNX Runtime computes it, by network.onnx"
_CPU_TORCH = "torch computes it: the bundle has no network.onnx"
_RESEARCH = "for research: reported and marked so, never held against the header nor proposed"


def list_(config: ConfigFile = None) -> Output:
    """List the shipped bundles, and those that the configuration names.

    "In use" says as what: as the first bundle, a further one, or in shadow.

    Example: dicom-ai-node model list
    """
    from dicom_ai_node.config.bundles import default_bundle
    from dicom_ai_node.config.paths import shipped_bundles
    from dicom_ai_node.inference.bundle import load_manifest

    used = _in_use(config)
    rows = []
    for path in dict.fromkeys([*shipped_bundles().values(), *used]):
        identity = load_manifest(path).identity
        default = path == default_bundle()
        rows.append({**asdict(identity), "default": default, "path": str(path)})
        rows[-1]["in_use"] = used.get(path)
    room = max(18, console.width - 48 - max(len(row["name"]) for row in rows))
    cells = [
        (
            row["name"],
            row["version"],
            row["sha256"][:12],
            "yes" if row["default"] else "",
            row["in_use"] or "",
            cut_left(row["path"], room),
        )
        for row in rows
    ]
    columns = ("Name", "Version", "SHA-256", "Default", "In use", "Folder")
    return Output(rows, blocks=[table(columns, cells)])


def _in_use(config: Path | None) -> dict[Path, str]:
    """Return the bundles that a configuration names, and as what; the default without one."""
    from dicom_ai_node.config.bundles import reporting_bundles, resolve_bundle

    found = config or next((place for place in PLACES if place.is_file()), None)
    model = load_config(found).model
    first, *further = reporting_bundles(model)
    shadow = [resolve_bundle(model.shadow)] if model.shadow else []
    named = {"shadow": shadow, "further": further, "bundle": [first]}
    return {path: key for key, paths in named.items() for path in paths}


def _used_as(path: Path, used: dict[Path, str]) -> str | None:
    """Return as what a bundle is used, however its folder is written."""
    return {one.resolve(): key for one, key in used.items()}.get(path.resolve())


def show(name: Bundle = "default", config: ConfigFile = None) -> Output:
    """Show a bundle: what it is for, what it was trained on, how well it does.

    The whole manifest, with its calibration and every figure, is in --json.

    Example: dicom-ai-node model show default
    """
    from dicom_ai_node.config.bundles import resolve_bundle
    from dicom_ai_node.inference.bundle import load_manifest

    path = resolve_bundle(name)
    manifest = load_manifest(path)
    return Output(
        [manifest],
        json=lambda whole: escaped_json(whole.model_dump_json(indent=2)),
        blocks=_bundle_blocks(manifest, path, _used_as(path, _in_use(config))),
    )


def verify(name: Bundle = "default") -> Output:
    """Check that a bundle is complete and that its weights are the ones it was made with.

    Example: dicom-ai-node model verify default
    """
    from dicom_ai_node.config.bundles import resolve_bundle
    from dicom_ai_node.inference.bundle import verify as verify_bundle

    path = resolve_bundle(name)
    identity = verify_bundle(path).identity
    return Output(
        [{"path": str(path), "sha256": identity.sha256, "valid": True}],
        blocks=[f"{identity.name} {identity.version}: weights {identity.sha256} as expected"],
    )


def export(
    onnx: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    name: Bundle = "default",
    opset: Annotated[int, typer.Option(min=18, max=23, help="ONNX operator set.")] = 18,
) -> Output:
    """Write a bundle's network as ONNX, and check that it answers as before.

    Needs the packages of dicom-ai-node[onnx]. docs/interoperability.md says what the network
    expects and how its raw answers are to be read.

    Example: dicom-ai-node model export default --onnx chest.onnx
    """
    from dicom_ai_node.config.bundles import resolve_bundle
    from dicom_ai_node.inference.export import export as write

    if onnx.parent.is_dir():
        check_folder("--onnx", onnx.parent)
    difference = write(resolve_bundle(name), onnx, opset=opset)
    found = Text(f"largest relative difference to torch {difference:.1e}")
    return Output(
        [{"path": str(onnx), "difference": difference}],
        blocks=[
            Text.assemble(f"{onnx}: ", found),
            Text("Its answers are raw, uncalibrated. Not a medical device.", style="dim"),
        ],
    )


def compare(weeks: Weeks = 12, config: ConfigFile = None) -> Output:
    """Say which bundle did better on the site's own trusted headers: the live one or the shadow.

    Differences are paired, shadow minus live, with 95 % intervals; a patient counts once a week.
    Exit code 1 when there is nothing to compare.

    Example: dicom-ai-node model compare --weeks 8
    """
    from dicom_ai_node.monitor.compare import compare as differences
    from dicom_ai_node.monitor.compare import verdict
    from dicom_ai_node.monitor.observation import Role
    from dicom_ai_node.store.monitor import load_observations, newest_bundle

    settings = configuration(config)
    db = open_database(settings)
    bundles = {role: newest_bundle(db, role)[0] for role in Role}
    since = time.time() - weeks * _WEEK
    # By bundle, not by role: one of them may have changed places meanwhile.
    live, shadow = (
        load_observations(db, since=since, model_sha256=bundles[role]) if bundles[role] else []
        for role in (Role.LIVE, Role.SHADOW)
    )
    found = differences(live, shadow)
    rows = []
    for difference in found:
        interval = (
            "" if difference.low is None else f" ({difference.low:+.3f} to {difference.high:+.3f})"
        )
        values = (
            f"{difference.live:.3f}",
            f"{difference.shadow:.3f}",
            f"{difference.difference:+.3f}{interval}",
        )
        rows.append((difference.quantity, str(difference.n), *values))
    columns = ("", "Studies", "Live", "Shadow", "Difference (95 % interval)")
    blocks: list[Block] = [*([table(columns, rows)] if rows else []), verdict(found)]
    if not found and not settings.model.shadow:
        blocks.append(Text("[model] shadow names no second bundle", style="yellow"))
    record = {
        "live": bundles[Role.LIVE] or None,
        "shadow": bundles[Role.SHADOW] or None,
        "weeks": weeks,
        "differences": [asdict(difference) for difference in found],
        "verdict": verdict(found),
    }
    return Output([record], blocks=blocks, ok=bool(found))


def _bundle_blocks(manifest: "Manifest", path: Path, in_use: str | None) -> Iterator[Block]:
    """A screen; the whole manifest is in ``--json``."""
    training = manifest.training
    low, high = training.age_range
    gates = [f"{spoken(name)} >= {least:g}" for name, least in manifest.thresholds.items()]
    rows = [
        ("name", f"{manifest.name} {manifest.version}, {manifest.architecture}"),
        ("folder", str(path)),
        ("in use", f"as model.{in_use}" if in_use else "no"),
        ("weights", manifest.sha256),
        ("on a CPU", _CPU if manifest.onnx_sha256 else _CPU_TORCH),
        *(("use", line) for line in [_RESEARCH] if manifest.research),
        ("sees", _accepted(manifest.accepts)),
        ("", f"{manifest.size} x {manifest.size} pixels, contract {manifest.accepts.contract}"),
        *zip(("answers", *[""] * len(manifest.heads)), map(_asked, manifest.heads), strict=False),
        ("", f"when {', '.join(gates)}"),
        (
            "trained on",
            f"{training.images} images of {training.patients} patients of"
            f" {len(training.sources)} sources, ages {low:.0f} to {high:.0f}",
        ),
        ("", training.summary),
        ("intended use", manifest.intended_use),
        ("not for", manifest.not_for),
    ]
    if (own := manifest.recalibration) is not None:
        words = f"on {own.date}, {own.images} images of {own.patients} patients of this site"
        rows.append(("recalibrated", f"{words}; before: version {own.base_version}"))
        for found in own.moved:
            gain = (
                f"gain {found.of_all.gain:.3g} ({found.of_all.low:.3g} to {found.of_all.high:.3g})"
            )
            rows.append(("", f"{found.head}: {'moved' if found.packed else 'not moved'}, {gain}"))
    yield pairs(rows)
    if figures := list(_main(manifest.figures))[:_MOST_FIGURES]:
        gated = all(figure.gated for figure in figures)
        title = "Figures of whole data sets" + (", images that every gate lets pass" * gated)
        columns = ("Measured on", "What", "Value (95 %)", "Baseline", "Images")
        yield table(columns, map(_figure_cells, figures), title=title)
    for prefix, share, error, key in _THRESHOLDS:
        told = list(_risk_rows(manifest.figures, prefix, share, error))[_SHOWN]
        sets = list(dict.fromkeys(name for row in told for name in row if name))
        cells = [(f"{key} = {row['']}", *(row.get(name, "") for name in sets)) for row in told]
        if cells:
            yield table(("With", *sets), cells, title=f"Share answered, {error}")
    yield Text("whole: dicom-ai-node model show --json; figures in CARD.md", style="dim")


def _figure_cells(figure: "Figure") -> tuple[str, ...]:
    baseline = "" if figure.baseline is None else f"{figure.baseline:.3g}"
    value = f"{figure.value:.3g}{_interval(figure)}"
    quantity = ", ".join(filter(None, (figure.quantity, figure.group)))
    return figure.dataset, quantity, value, baseline, str(figure.n)


def _risk_rows(
    figures: Sequence["Figure"], prefix: str, share: str, error: str
) -> Iterator[dict[str, str]]:
    """Yield of each threshold what it answers of each data set, and how large the error is."""
    for group in dict.fromkeys(one.group for one in figures if one.group.startswith(prefix)):
        row = {"": group.removeprefix(prefix).split()[0]}
        of_group = [one for one in figures if one.group == group]
        errors = {one.dataset: one.value for one in of_group if one.quantity == error}
        for one in of_group:
            if one.quantity == share:
                missed = errors.get(one.dataset)
                row[one.dataset] = f"{one.value:.0%}" + (
                    "" if missed is None else f", {missed:.3g}"
                )
        yield row


def _interval(figure: "Figure") -> str:
    return "" if figure.low is None else f" ({figure.low:.3g} to {figure.high:.3g})"


def _main(figures: Sequence["Figure"]) -> Iterator["Figure"]:
    """The figures that one looks for first: of whole data sets, not of their parts.

    Of images that every gate lets pass where there are such figures; without any of ``_FIGURES``
    all, in the manifest's order.
    """
    whole = [one for one in figures if not one.group or one.quantity == "mean AUC"]
    gated = any(one.gated for one in whole)
    wanted = [one for one in whole if one.gated == gated and one.quantity in _FIGURES]
    yield from sorted(wanted, key=lambda one: _FIGURES.index(one.quantity)) or whole


def _accepted(route: "Route") -> str:
    """Say which images a bundle is shown."""
    modalities = ", ".join(modality or "none stated" for modality in route.modalities)
    takes = "a series as one input" if route.takes == "series" else "each image"
    if route.sample and route.takes == "image":
        takes = f"at most {route.sample} images of a series"
    return f"{takes} of modality {modalities}, in {len(route.sop_classes)} SOP classes"


def _asked(head: "Head") -> str:
    """Say what a head answers, and what that is held against."""
    if head.kind == "quantity":
        words = f"{spoken(head.name)}, {unit_words(head.unit)}"
    elif head.kind == "category":
        words = f"{spoken(head.name)}: {', '.join(head.values)}"
    else:
        return f"{spoken(head.name)}: {', '.join(map(spoken, head.labels))}"
    return f"{words}; held against {head.attribute}" if head.attribute else words
