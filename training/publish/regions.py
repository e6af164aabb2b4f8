"""Train, cross-validate, calibrate, measure and pack a network of body regions, in one command.

    python -m training regions site/regions.csv --config training/configs/ct-mr-region.toml \\
        --bundle models/site-region --version 1.0

A network is trained for each of five folds of patients, and one with all images, which is packed.
What the five say of what they never saw (:mod:`training.publish.region_folds`) measures the way of
training, calibrates the packed network and tells how far unknown images lie from known ones: the
packed one has seen everything, and can be asked about nothing. What is trained is not trained
again.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydicom import uid as uids
from safetensors.numpy import save_file
from torch.nn import functional

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.bundle import Figure, Manifest
from dicom_ai_node.inference.engine import NETWORK
from dicom_ai_node.inference.graph import pack as pack_graph
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import run
from dicom_ai_node.pixels.contracts import WINDOWS
from training.data.options import ROOT, ConfigFile, Root
from training.data.regions import FOLDS, Slice, patients, read_index, with_stated
from training.data.slices import Values, inputs, values
from training.data.tables import DataError, write_table
from training.fit import config as settings
from training.fit import gate, start
from training.fit.config import WEIGHTS, RunConfig, below
from training.fit.regions import CHANNELS, Batches, Regions
from training.fit.train import trained
from training.measure import regions as measure
from training.measure.regions import RegionTable, joined, nearest_centroid
from training.publish import region_card
from training.publish.build_bundle import IN_DISTRIBUTION, NAME
from training.publish.region_folds import Held, calibration, folds, spaces_of, tabled

SECTIONS = (
    uids.CTImageStorage,
    uids.EnhancedCTImageStorage,
    uids.LegacyConvertedEnhancedCTImageStorage,
    uids.MRImageStorage,
    uids.EnhancedMRImageStorage,
    uids.LegacyConvertedEnhancedMRImageStorage,
)
"""SOP classes of slices of CT and MR."""
ALL = "all"
"""Folder of the run with every image."""
SAMPLE = 16
"""Images of a series that are read: a slice every five centimetres of a body, or denser."""
AT_ONCE = 256
COARSE = 16
"""Pixels a side of what the baseline sees."""
ANSWERS = "out-of-fold.csv"

INTENDED = (
    "Telling which region of the body a slice of CT or MR shows, to hold against BodyPartExamined"
    " of the same series and to propose it where it is missing. For research and data curation."
)
NOT_FOR = (
    "Diagnosis, treatment, dose, choice of a protocol, identification of persons. Not a medical"
    " device. Laterality, organs, findings, animals, phantoms, projections of a whole series."
)


def baselines(
    config: RunConfig, root: Path, slices: Sequence[Slice], pixels: Values, held: Held,
    regions: Regions,
) -> list[Figure]:  # fmt: skip
    """What the nearest centroid would get: of coarse pixels, of features before any training.

    Centroids are of the other folds' images. And what is left of the accuracy where the margins of
    every image are black.
    """
    batches = Batches(config, slices, pixels, regions)
    network = start.network(config, root, batches.for_norms, regions.rows, CHANNELS).eval()
    coarse, features = list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    for first in range(0, len(held.slices), AT_ONCE):
        seen = inputs(held.slices[first : first + AT_ONCE], config.sides[-1]).astype(np.float32)
        features.append(run(network, seen).features)
        small = functional.adaptive_avg_pool2d(torch.from_numpy(seen), COARSE)
        coarse.append(small.flatten(1).numpy())
    targets = regions.targets(held.slices)
    found = {
        measure.BY_PIXELS: nearest_centroid(np.concatenate(coarse), targets, held.folds),
        measure.UNMARKED: held.unmarked,
        measure.BY_FEATURES: nearest_centroid(np.concatenate(features), targets, held.folds),
    }
    asked = targets.sum(axis=1) > 0
    table = RegionTable(
        held.slices, regions.values, targets.astype(np.float64), targets, np.ones(len(asked)) == 1
    )
    modalities = sorted({one.modality for one in held.slices})
    return [
        measure.of_baseline(table.where(chosen), answer[chosen], f"folds: {name}", quantity)
        for name in modalities
        for quantity, answer in found.items()
        for chosen in [asked & np.array([one.modality == name for one in held.slices])]
    ]


def measured(table: RegionTable, name: str) -> list[Figure]:
    """Figures of each modality."""
    return [
        figure
        for modality, part in by_modality(table)
        for figure in measure.figures(part, f"{name}: {modality or 'unknown'}")
    ]


def against_captions(table: RegionTable, regions: Regions, name: str) -> list[Figure]:
    """The same answers held against the labels that came with the images."""
    kept = table.where(np.array([bool(one.stated) for one in table.slices]))
    labelled = with_stated(kept.slices)
    if not labelled:
        return []
    targets = regions.targets(labelled)
    other = RegionTable(labelled, kept.values, kept.probabilities, targets, kept.passed)
    return in_all(other.where(targets.sum(axis=1) > 0), f"{name}, by what came with")


def in_all(table: RegionTable, name: str) -> list[Figure]:
    """Figures of each modality, without those of its groups."""
    return [
        figure
        for modality, part in by_modality(table)
        for figure in measure.figures(part, f"{name}: {modality}", grouped=False)
        if not figure.group
    ]


def refused(held: Held) -> list[Figure]:
    """What is no slice and passes the gates all the same, of each sort."""
    return [
        measure.passing(seen.passed(held.reference), f"folds: {name}")
        for name, seen in held.others.items()
    ]


def by_modality(table: RegionTable) -> Iterator[tuple[str, RegionTable]]:
    """The images of each modality."""
    for name in sorted({one.modality for one in table.slices}):
        yield name, table.where(np.array([one.modality == name for one in table.slices]))


def pack(
    config: RunConfig, slices: Sequence[Slice], regions: Regions, held: Held, network: Network,
    others: Sequence[Figure], out: Path, version: str,
) -> Manifest:  # fmt: skip
    """Write weights.safetensors, manifest.json and CARD.md into ``out``."""
    fitted, reference = calibration(held, regions), held.reference
    folder = Path(below(config, ALL).out)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    spaces = spaces_of(network, slices, config.sides[-1]).tensors(reference)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {NETWORK + name: tensor for name, tensor in weights.items()} | spaces
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, out / bundle.WEIGHTS)
    (out / bundle.WEIGHTS).chmod(0o644)
    table = tabled(held, held.seen, fitted, regions)
    changed = joined([tabled(held, seen, fitted, regions) for seen in held.changed])
    write_answers(table, Path(config.out) / ANSWERS)
    manifest = Manifest.model_validate(
        {
            "name": out.name,
            "version": version,
            "architecture": config.architecture,
            "accepts": {
                "sop_classes": sorted(SECTIONS),
                "modalities": ["CT", "MR"],
                "contract": WINDOWS,
                "sample": SAMPLE,
                "size": config.sides[-1],
            },
            "sha256": bundle.sha256(out / bundle.WEIGHTS),
            "heads": (regions.head,),
            "gates": (regions.gate,),
            "in_distribution": IN_DISTRIBUTION,
            "calibration": fitted.model_dump(),
            "training": stated(config, slices, folder / WEIGHTS),
            "intended_use": INTENDED,
            "not_for": NOT_FOR,
            "figures": [
                *measured(table, "folds"),
                *others,
                *refused(held),
                *in_all(changed, "folds, changed"),
                *against_captions(table, regions, "folds"),
            ],
        }
    )
    write(manifest, out)
    bundle.verify(out)
    return manifest


def write_answers(table: RegionTable, path: Path) -> None:
    """What is said of each slice by the network that had not seen it, for who looks at misses."""
    header = ("path", "modality", "terms", "stated", "answer", "certainty", "right", "area")
    rows = (
        (s.name, s.modality, " ".join(sorted(s.terms)), s.stated, table.values[a], f"{c:.4f}", r, k)
        for s, a, c, r, k in zip(
            table.slices,
            table.answer,
            table.certainty,
            table.right.astype(int),
            table.area.astype(int),
            strict=True,
        )
    )
    write_table(path, header, rows)


def write(manifest: Manifest, out: Path) -> None:
    """Write manifest.json and CARD.md."""
    text = manifest.model_dump(mode="json")
    (out / bundle.MANIFEST).write_text(json.dumps(text, indent=1) + "\n")
    (out / bundle.CARD).write_text(region_card.text(manifest))


def stated(config: RunConfig, slices: Sequence[Slice], weights: Path) -> dict[str, object]:
    """What the manifest says of the images that trained."""
    shown = [one for one in slices if one.shown]
    ages = np.array([float(one.age) for one in shown if one.age] or [0.0, 120.0])
    others = len(slices) - len(shown)
    return {
        "summary": f"{start.history(config)}, on {len(shown):,} slices of CT and MR; {others:,}"
        " images of something else trained the gate, and montages, pages of text and phantoms that"
        " were made.",
        "images": len(shown),
        "patients": len({one.person for one in shown}),
        "age_range": [float(x) for x in np.percentile(ages, [1, 99])],
        "sources": [
            {
                "name": name,
                "images": sum(one.source == name for one in slices),
                "licence": " / ".join(sorted({s.licence for s in slices if s.source == name})),
            }
            for name in sorted({one.source for one in slices})
        ],
        "runs_sha256": [bundle.sha256(weights)],
    }


def main(
    index: Annotated[Path, typer.Argument(help="Index of slices (region_index).")],
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--bundle", help="Folder of the bundle.")],
    version: Annotated[str, typer.Option(help="Of the bundle.")],
    root: Root = ROOT,
    minutes: Annotated[float | None, typer.Option(help="For each network.")] = None,
    held_out: Annotated[
        int, typer.Option(min=1, max=FOLDS, help="Folds to hold out: fewer measure fewer patients.")
    ] = FOLDS,
) -> None:
    """Train, measure and pack a network of body regions."""
    out = out.resolve()
    if not NAME.fullmatch(out.name):
        raise typer.BadParameter(f"{out.name}: expected a-z, 0-9, dot, _, -", param_hint="--bundle")
    run_config = settings.read(config, minutes=minutes)
    slices = [one for one in read_index(index) if one.use != "test"]
    regions = Regions.of(slices)
    if len(regions.values) < 3:
        raise DataError(f"{index}: expected slices of three regions or more, got {regions.values}")
    for term, people in sorted(patients(slices).items()):
        into = regions.into.get(term, "left out")
        print(f"{term:12}{len(people):>6} patients{'' if into == term else f', in {into}'}")
    pixels = values(slices, run_config.pixels)
    parts = folds(run_config, root, slices, pixels, regions, held_out)
    held = Held.joined(list(parts))
    whole = below(run_config, ALL)
    network = trained(whole, root, Batches(whole, slices, pixels, regions))
    gate.refit(network, regions.gate, slices, run_config.sides[-1])
    plain = baselines(run_config, root, slices, pixels, held, regions)
    manifest = pack(run_config, slices, regions, held, network, plain, out, version)
    pack_graph(out)
    print(region_card.figures(manifest.figures))
