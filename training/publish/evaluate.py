"""Measure a bundle on images that did not train it; write a report, and with --write the card.

    python -m training evaluate --bundle models/chest-age-sex --out runs/report [--write]

    python -m training evaluate --bundle models/site --config site.toml --out runs/site/report

What calibrates a bundle gives its figures too, so its age intervals are cross-fitted: ``val`` and
``val_128`` of this project's images (name with ``--calibrated`` whatever calibrates), or with the
configuration of a run on an archive the fold that was held out. The other sets are looks to which
nothing was tuned. The report quotes what ``parity`` left in the same folder, and links
the figure of :mod:`training.measure.montage`, drawn with the predictions of this project's images;
``--predictions`` measures an earlier table again, without the network.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.bundle import Figure, Manifest
from dicom_ai_node.inference.engine import Estimator
from training.data.images import GATE_TEST, PROJECT_SETS, Data, EvaluationSet
from training.data.options import (
    BUNDLE,
    CACHE,
    REPORT,
    ROOT,
    BundleFolder,
    CacheFolder,
    Fold,
    Report,
    Root,
)
from training.data.project import ProjectData
from training.data.tables import DataError
from training.fit import checkpoint
from training.fit import config as settings
from training.fit.config import data_of
from training.measure import answering, criteria, montage, parity, plots
from training.measure.figures import AUC, MAE, Baseline, baseline, coverage, find, measure
from training.measure.markdown import cell
from training.measure.predict import cross_fitted, predict, spoilt
from training.measure.table import PredictionTable, joined, read_csv, write_csv
from training.publish import card, report, tried
from training.publish.report import Evaluation
from training.publish.tried import Experiment


def predictions(estimator: Estimator, data: Data, calibrated: Sequence[str]) -> PredictionTable:
    """One table of every image that the bundle is measured on."""
    parts = {name: data.load(estimator.size, name) for name in calibrated}
    known = cross_fitted(estimator, parts) if parts else {}
    tables = []
    for name in (data_set.name for data_set in data.sets):
        images = parts[name] if name in parts else data.load(estimator.size, name)
        tables.append(known[name] if name in known else predict(estimator, images, name))
        print(f"{name}: {len(images.items)} images", flush=True)
        if name == data.calibrates:
            tables += spoilt(estimator, images, name)
    material = data.load(estimator.size, GATE_TEST)
    if len(material):
        tables.append(predict(estimator, material, criteria.GATE_MATERIAL))
    return joined(tables)


def without_an_image(data: Data) -> Baseline:
    """The baseline of the images that train age and sex."""
    images = [item for item in data.trained() if item.role != "gate"]
    return baseline(np.array([i.age for i in images]), np.array([i.female for i in images]))


def size_of(path: Path) -> Figure:
    """What the bundle adds to a repository."""
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file()) / 1e6
    return Figure(dataset=criteria.BUNDLE, quantity=criteria.SIZE, value=round(size, 2), n=1)


def write_report(
    out: Path,
    manifest: Manifest,
    table: PredictionTable,
    figures: Sequence[Figure],
    *,
    calibrated: Sequence[str],
    runs: Sequence[Experiment],
    sets: Sequence[EvaluationSet] = PROJECT_SETS,
) -> None:
    """Write predictions.csv, the plots, report.json and report.md into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "predictions.csv", table)
    drawn = plots.draw_all(out, table, figures)
    if montage.is_of(out, manifest.sha256):
        drawn.append((montage.FILE, montage.CAPTION))
    done = Evaluation(manifest, figures, calibrated, runs, drawn, sets)
    (out / "report.json").write_text(json.dumps(report.document(done), indent=1) + "\n")
    (out / "report.md").write_text(report.text(done))


def write_bundle(
    path: Path,
    manifest: Manifest,
    figures: Sequence[Figure],
    runs: Sequence[Experiment],
    sets: Sequence[EvaluationSet] = PROJECT_SETS,
) -> None:
    """Write the figures that the card quotes into the manifest, and the card."""
    quoted = tuple(figure for figure in figures if card.quotes(figure))
    measured = manifest.model_copy(update={"figures": quoted})
    document = measured.model_dump(mode="json")
    document["figures"] = [f.model_dump(mode="json", exclude_defaults=True) for f in quoted]
    (path / bundle.MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
    written = card.text(measured, runs) if sets == PROJECT_SETS else card.site_text(measured, sets)
    (path / bundle.CARD).write_text(written)


def check_images(path: Path, manifest: Manifest, data: Data) -> None:
    """Raise DataError unless the bundle was trained with the images that ``data`` trains with.

    Others may be among those that measure it: another fold's network has seen what this one held
    out.
    """
    wanted, stated = checkpoint.images(data.trained()), manifest.training.images_sha256
    if stated != wanted:
        raise DataError(
            f"{path / bundle.MANIFEST}: training.images_sha256: expected {wanted}, of the images"
            f" that the configuration trains with, got {stated or 'nothing'};"
            " --fold names the fold that was held out"
        )


def print_summary(sets: Sequence[EvaluationSet], figures: Sequence[Figure]) -> None:
    """Print whether the criteria are met, or of an archive the most important figures."""
    if sets == PROJECT_SETS:
        for judged in criteria.judged(figures):
            answer = {True: "met", False: "MISSED", None: "not measured"}[judged.met]
            criterion = judged.criterion
            name = f"{criterion.name}, {criterion.dataset}"
            print(f"{answer:12} {name}: {cell(judged.figure)}, {criterion.limit}")
        return
    for name in (MAE, coverage("90"), AUC):
        for data_set in sets:
            print(f"{data_set.name:12} {name}: {cell(find(figures, data_set.name, name)) or '-'}")


def main(
    path: BundleFolder = BUNDLE,
    config: Annotated[
        Path | None, typer.Option(help="Of the bundle's run, if it has an archive.")
    ] = None,
    fold: Fold = None,
    root: Root = ROOT,
    cache: CacheFolder = CACHE,
    out: Report = REPORT,
    experiments: Path = tried.FILE,
    calibrated: Annotated[
        list[str] | None,
        typer.Option(help="Sets (may be repeated). Default: those that calibrate."),
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option("--predictions", help="An earlier predictions.csv to measure."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Card and figures, too.")] = False,
) -> None:
    """Measure, write the report, and with --write manifest and card."""
    manifest = bundle.verify(path)
    data: Data = ProjectData(root, cache)
    if config:
        run = settings.read(config, fold=fold)
        data = data_of(run, root)
        if run.archive or manifest.training.images_sha256:
            check_images(path, manifest, data)
    calibrated = calibrated or [data.calibrates, *data.beside]
    if earlier:
        table = read_csv(earlier)
    else:
        estimator = Estimator(path, device="cpu", batch=32)
        table = predictions(estimator, data, calibrated)
        if isinstance(data, ProjectData):
            montage.write(out, estimator, table, root)
    found = measure(table, without_an_image(data)) + answering.measure(table)
    of_project = data.sets == PROJECT_SETS
    if of_project:
        found += [*parity.read(out, manifest.sha256), size_of(path)]
    runs = tried.read_experiments(experiments) if of_project else ()
    write_report(out, manifest, table, found, calibrated=calibrated, runs=runs, sets=data.sets)
    if write:
        write_bundle(path, manifest, found, runs, data.sets)
    print_summary(data.sets, found)
