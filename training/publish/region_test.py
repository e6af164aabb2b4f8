"""Measure a packed network of body regions on the test sets of an index; write manifest and card.

    python -m training region_test regions.csv --bundle models/ct-mr-region --write

Test sets choose nothing: this is done once, when all else is settled. Beside each figure stands, as
in the folds, what the commonest region would get.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dicom_ai_node.answers import Prediction
from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.engine import Estimator
from training.data.options import BundleFolder
from training.data.regions import PARENTS, TEST, Slice, read_index
from training.data.slices import inputs
from training.data.tables import DataError
from training.fit.regions import Regions
from training.measure import regions as measure
from training.measure.regions import RegionTable
from training.publish import region_card
from training.publish.regions import write


def asked(estimator: Estimator) -> Regions:
    """The regions that a bundle answers, with every term that is counted to one of them."""
    values = estimator.manifest.heads[0].model_dump()["values"]
    into = {value: value for value in values} | {"HEAD": "HEAD"}
    for term in PARENTS:
        near = next((to for to in (term, *region_card.above(term)) if to in into), None)
        if near:
            into[term] = into[near]
    return Regions(into, tuple(values))


def table_of(estimator: Estimator, slices: list[Slice]) -> RegionTable:
    """The answers to test images, of those that show one of the bundle's regions."""
    regions = asked(estimator)
    found = estimator.predict(inputs(slices, estimator.size).astype(np.float32))
    passed = [passes(estimator, prediction) for prediction in found]
    targets = regions.targets(slices)
    table = RegionTable(
        slices,
        regions.values,
        np.array([[*p.category("region").probabilities.values()] for p in found]),
        targets,
        np.array(passed),
    )
    return table.where(targets.sum(axis=1) > 0)


def refused(estimator: Estimator, others: list[Slice], source: str) -> Figure:
    """The share of what is no slice that passes the gates all the same."""
    found = estimator.predict(inputs(others, estimator.size).astype(np.float32))
    passed = np.array([passes(estimator, one) for one in found])
    return measure.passing(passed, f"test, {source}: no slices")


def passes(estimator: Estimator, prediction: Prediction) -> bool:
    """Whether every gate lets an image pass."""
    scores = {**prediction.gates, "in_distribution": prediction.in_distribution}
    return all(scores[gate] >= least for gate, least in estimator.manifest.thresholds.items())


def main(
    index: Annotated[Path, typer.Argument(help="Index of slices, with test sets.")],
    folder: BundleFolder,
    write_it: Annotated[bool, typer.Option("--write", help="Into manifest and card.")] = False,
) -> None:
    """Measure a bundle of body regions on test sets."""
    estimator = Estimator(folder, device="cpu")
    sources = sorted({one.source for one in read_index(index) if one.use == TEST})
    if not sources:
        raise DataError(f"{index}: expected images whose use is {TEST!r}, got none")
    found: list[Figure] = []
    for source in sources:
        tested = [one for one in read_index(index) if one.use == TEST and one.source == source]
        others = [one for one in tested if not one.shown]
        if others:
            found.append(refused(estimator, others, source))
        table = table_of(estimator, [one for one in tested if one.shown])
        for modality in sorted({one.modality for one in table.slices}):
            part = table.where(np.array([one.modality == modality for one in table.slices]))
            found += measure.figures(part, f"test, {source}: {modality}")
            for one, answer, certainty in zip(
                part.slices, part.answer, part.certainty, strict=True
            ):
                if part.values[answer] not in one.terms:
                    shown = " ".join(sorted(one.terms))
                    print(f"{one.name}: {shown}, answered {part.values[answer]} {certainty:.2f}")
    print(region_card.figures(found))
    if write_it:
        manifest = bundle.load_manifest(folder)
        kept = tuple(f for f in manifest.figures if not f.dataset.startswith("test, "))
        write(manifest.model_copy(update={"figures": (*kept, *found)}), folder)
