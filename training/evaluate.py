"""Measure a bundle on images that did not train it; write a report, and with --write the card.

    python -m training.evaluate --bundle models/chest-age-sex --out runs/report [--write]

``val`` calibrates and gives the figures, so its age intervals are cross-fitted (name with
``--calibrated`` whatever calibrates); the other sets are looks to which nothing was tuned. The
report quotes what ``training.parity`` left in the same folder, and links the figure of
:mod:`training.montage`, which is drawn with the predictions; ``--predictions`` measures an earlier
table again, without the network, and links what was drawn with the same weights.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.bundle import Figure, Manifest
from dicom_ai_node.inference.engine import Estimator
from training import card, data, marks, montage, parity, plots, report, tried
from training.baseline import Baseline, baseline
from training.figures import measure
from training.markdown import cell
from training.predict import predict, spoilt
from training.predicted import Table, joined, read_csv, write_csv
from training.report import Evaluation
from training.sets import SETS


def predictions(estimator: Estimator, root: Path, cache: Path, calibrated: Sequence[str]) -> Table:
    """One table of every image that the bundle is measured on."""
    tables = []
    for one in SETS:
        images = data.load(root, cache, estimator.size, one.name)
        tables.append(predict(estimator, images, one.name, calibrated=one.name in calibrated))
        print(f"{one.name}: {len(images.items)} images", flush=True)
        if one.name == "val":
            tables += spoilt(estimator, images, one.name)
    material = data.load(root, cache, estimator.size, "gate_test")
    tables.append(predict(estimator, material, marks.GATE_MATERIAL))
    return joined(tables)


def without_an_image(root: Path) -> Baseline:
    """The baseline of the images that train age and sex."""
    images = [item for item in data.items(root) if item.role in ("train", "train_128")]
    return baseline(np.array([i.age for i in images]), np.array([i.female for i in images]))


def size_of(path: Path) -> Figure:
    """What the bundle adds to a repository."""
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file()) / 1e6
    return Figure(dataset=marks.BUNDLE, quantity=marks.SIZE, value=round(size, 2), n=1)


def write_report(
    out: Path,
    manifest: Manifest,
    table: Table,
    figures: Sequence[Figure],
    *,
    calibrated: Sequence[str],
    runs: Sequence[tried.Tried],
) -> None:
    """Write predictions.csv, the plots, report.json and report.md into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "predictions.csv", table)
    drawn = plots.draw_all(out, table, figures)
    if montage.is_of(out, manifest.sha256):
        drawn.append((montage.FILE, montage.CAPTION))
    done = Evaluation(manifest, figures, calibrated, runs, drawn)
    (out / "report.json").write_text(json.dumps(report.document(done), indent=1) + "\n")
    (out / "report.md").write_text(report.text(done))


def write_bundle(
    path: Path, manifest: Manifest, figures: Sequence[Figure], runs: Sequence[tried.Tried]
) -> None:
    """Write the figures that the card quotes into the manifest, and the card."""
    quoted = tuple(figure for figure in figures if card.quotes(figure))
    measured = manifest.model_copy(update={"figures": quoted})
    document = measured.model_dump(mode="json")
    document["figures"] = [f.model_dump(mode="json", exclude_defaults=True) for f in quoted]
    (path / bundle.MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
    (path / bundle.CARD).write_text(card.text(measured, runs))


def main() -> None:
    """Read the command line, measure, write the report, and with --write manifest and card."""
    parser = argparse.ArgumentParser(description="measure a bundle")
    parser.add_argument("--bundle", type=Path, default=Path("models/chest-age-sex"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--out", type=Path, default=Path("runs/report"))
    parser.add_argument("--tried", type=Path, default=tried.FILE)
    parser.add_argument("--calibrated", nargs="*", default=["val"])
    parser.add_argument("--predictions", type=Path, help="an earlier predictions.csv to measure")
    parser.add_argument("--write", action="store_true", help="figures and card into the bundle")
    given = parser.parse_args()
    runs = tried.read(given.tried)
    manifest = bundle.verify(given.bundle)
    if given.predictions:
        table = read_csv(given.predictions)
    else:
        estimator = Estimator(given.bundle, device="cpu", batch=32)
        table = predictions(estimator, given.data, given.cache, given.calibrated)
        montage.write(given.out, estimator, table, given.data)
    figures = measure(table, without_an_image(given.data))
    figures += [*parity.read(given.out, manifest.sha256), size_of(given.bundle)]
    write_report(given.out, manifest, table, figures, calibrated=given.calibrated, runs=runs)
    if given.write:
        write_bundle(given.bundle, manifest, figures, runs)
    for one in marks.held(figures):
        answer = {True: "met", False: "MISSED", None: "not measured"}[one.met]
        print(f"{answer:12} {one.mark.name}: {cell(one.figure)}, {one.mark.limit}")


if __name__ == "__main__":
    main()
