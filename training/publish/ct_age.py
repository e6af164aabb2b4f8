"""Train, cross-validate, calibrate, measure and pack an age from CT, in one command.

    python -m training ct-age site/ages.csv --config training/configs/ct-age.toml \\
        --bundle models/ct-age --version 1.0

The table has the columns ``series`` (a folder of DICOM files, or a NIfTI file), ``patient``,
``age`` and ``sex``. An index of body regions (``python -m training region_index``) in its place
gives an age from its single axial sections of the trunk, another bundle.

A network is trained for each of five folds of patients, and one with all images, which is packed.
What the five say of what they never saw measures the way of training, calibrates the packed network
and tells how far unknown images lie from known ones (cross-conformal, Vovk 2015): the packed one
has seen everything. What is trained is not trained again. The bundle is marked ``research`` unless
it is better than the median by what :mod:`training.measure.ages` asks for; the card says why.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.bundle import Manifest
from dicom_ai_node.inference.distances import Distances
from dicom_ai_node.inference.engine import NETWORK, Raw
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.graph import pack as pack_graph
from dicom_ai_node.inference.network import Network
from dicom_ai_node.pixels.contracts import PROJECTIONS, WINDOWS
from training.data import ages
from training.data.ages import Aged
from training.data.options import ROOT, ConfigFile, Root
from training.data.regions import read_index
from training.data.slices import inputs, values
from training.data.tables import columns
from training.fit import calibrate, ridge, start
from training.fit import config as settings
from training.fit.ages import AGE, Batches, Looked, Pictures, Projections, Sections
from training.fit.config import WEIGHTS, RunConfig, below
from training.fit.train import trained
from training.measure import ages as measure
from training.measure.ages import OutOfFold
from training.publish import ct_age_card
from training.publish.build_bundle import IN_DISTRIBUTION, NAME
from training.readers import series

ALL = "all"
"""Folder of the run with every image."""
SAMPLE = 256
"""Images of a series that are read: one for each pixel along the body."""
SECTIONS = 16
"""Single sections of a series that are read, where each is an input."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is made of one kind of table."""

    contract: str
    takes: str
    sample: int
    what: str
    """What is looked at, in words."""


OF_SERIES = Kind(PROJECTIONS, "series", SAMPLE, "series of CT of the trunk")
OF_SECTIONS = Kind(WINDOWS, "image", SECTIONS, "axial sections of CT of the trunk")


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """What trains and measures: images with an age, in one order."""

    rows: list[Aged]
    pictures: Pictures
    fold: NDArray[np.int64]

    @classmethod
    def of(cls, rows: list[Aged], pictures: Pictures, table: Path) -> "Set":
        """Deal ``rows`` to folds; DataError where ``table`` has too few patients."""
        ages.enough(rows, table)
        return cls(rows, pictures, ages.dealt(rows))

    def at(self, positions: NDArray[np.int64]) -> "Set":
        """Some of them."""
        rows = [self.rows[at] for at in positions.tolist()]
        return Set(rows, self.pictures.at(positions), self.fold[positions])


def read(table: Path, config: RunConfig) -> tuple[Set, Kind]:
    """The images of ``table``, of series or an index of body regions; prints what is left out.

    Raises DataError: the table is not as it should be, or too few patients are left.
    """
    tally: Counter[str] = Counter()
    if "series" in columns(table):
        known, kind = _series(table, config, tally), OF_SERIES
    else:
        known, kind = _sections(table, config, tally), OF_SECTIONS
    for reason, number in sorted(tally.items()):
        print(f"left out: {number:>5}  {reason}")
    return known, kind


def _series(table: Path, config: RunConfig, tally: Counter[str]) -> Set:
    rows = ages.read(table, tally)
    cache = Path(config.cache) / "series"
    pixels, refused = series.projections(rows, cache, config.sides[-1], SAMPLE)
    for name, reason in refused.items():
        print(f"left out: {name}: {reason}")
    kept = [row for row in rows if row.name not in refused]
    return Set.of(kept, Projections(pixels), table)


def _sections(table: Path, config: RunConfig, tally: Counter[str]) -> Set:
    found = ages.sections(read_index(table), tally)
    rows, slices = [row for row, _ in found], [one for _, one in found]
    pictures = Sections(values(slices, config.pixels), inputs(slices, config.sides[-1]))
    return Set.of(rows, pictures, table)


def out_of_folds(config: RunConfig, root: Path, known: Set, looked: Looked) -> OutOfFold:
    """Train a network for each fold; what each says of patients that it has not seen."""
    parts: list[Cases] = []
    medians: list[float] = []
    left_out: list[Aged] = []
    for number in range(int(known.fold.max()) + 1):
        print(f"fold {number}", flush=True)
        inside, outside = (
            np.flatnonzero(chosen) for chosen in (known.fold != number, known.fold == number)
        )
        network = network_of(below(config, f"fold-{number}"), root, known, inside, looked)
        raw = looked.through(network)
        spaces = calibrate.Spaces.around(raw.at(inside))
        trained_with, rows = known.at(inside).rows, known.at(outside).rows
        parts.append(cases(raw.at(outside), spaces.distances(raw.at(outside)), rows))
        medians += [float(np.median(ages.years(trained_with)))] * len(rows)
        left_out += rows
    kinds = {
        name: np.array([getattr(row, name) for row in left_out])
        for name in ("source", "sex", "region")
    }
    return OutOfFold(Cases.joined(parts), np.array(medians), kinds)


def network_of(
    config: RunConfig, root: Path, known: Set, inside: NDArray[np.int64], looked: Looked
) -> Network:
    """The network of the images ``inside``, trained where it is not yet."""
    some = known.at(inside)
    lesson = Batches(config, some.rows, some.pictures)
    if not config.ridge:
        return trained(config, root, lesson)

    def begin(network: Network) -> None:
        features = looked.through(network).features[inside]
        ridge.begin(network, AGE, features, ages.years(some.rows), ages.patients(some.rows))

    return trained(config, root, lesson, begin)


def cases(raw: Raw, distances: Distances, rows: Sequence[Aged]) -> Cases:
    """Put answers and ages together."""
    return Cases(
        heads=(AGE,),
        raw={AGE.name: raw[AGE.name].astype(np.float64)},
        truth={AGE.name: ages.years(rows)},
        content=distances.content,
        texture=distances.texture,
        patients=ages.patients(rows),
    )


def pack(
    config: RunConfig,
    root: Path,
    known: Set,
    looked: Looked,
    said: OutOfFold,
    kind: Kind,
    out: Path,
    version: str,
) -> Manifest:
    """Train with every image; write weights.safetensors, manifest.json and CARD.md into ``out``."""
    print("all", flush=True)
    whole = below(config, ALL)
    network = network_of(whole, root, known, np.arange(len(known.rows)), looked)
    weights = Path(whole.out) / WEIGHTS
    spaces = calibrate.Spaces.around(looked.through(network)).tensors(said.cases.reference)
    tensors = {NETWORK + name: tensor for name, tensor in load_file(weights).items()} | spaces
    out.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, out / bundle.WEIGHTS)
    (out / bundle.WEIGHTS).chmod(0o644)
    found = measure.figures(said)
    why = measure.unworthy(found)
    manifest = Manifest.model_validate(
        {
            "name": out.name,
            "version": version,
            "architecture": config.architecture,
            "accepts": {
                "sop_classes": sorted(series.SERIES.sop_classes),
                "modalities": ["CT"],
                "takes": kind.takes,
                "sample": kind.sample,
                "contract": kind.contract,
                "size": config.sides[-1],
            },
            "sha256": bundle.sha256(out / bundle.WEIGHTS),
            "heads": (AGE,),
            "gates": (),
            "in_distribution": IN_DISTRIBUTION,
            "calibration": measure.calibration(said.cases).model_dump(),
            "training": stated(config, known.rows, kind, weights),
            "finding_site": ct_age_card.TRUNK,
            "intended_use": ct_age_card.INTENDED.format(what=kind.what),
            "not_for": ct_age_card.NOT_FOR,
            "figures": found,
            "research": bool(why),
        }
    )
    text = manifest.model_dump(mode="json")
    (out / bundle.MANIFEST).write_text(json.dumps(text, indent=1) + "\n")
    (out / bundle.CARD).write_text(ct_age_card.text(manifest, why))
    bundle.verify(out)
    return manifest


def stated(config: RunConfig, rows: Sequence[Aged], kind: Kind, weights: Path) -> dict[str, object]:
    """What the manifest says of the images that trained."""
    low, high = np.percentile(ages.years(rows), [1, 99])
    return {
        "summary": f"{start.history(config)}, on {len(rows):,} {kind.what}.",
        "images": len(rows),
        "patients": len(set(ages.patients(rows).tolist())),
        "age_range": [float(low), float(high)],
        "sources": [
            {
                "name": name,
                "images": sum(row.source == name for row in rows),
                "licence": " / ".join(sorted({r.licence for r in rows if r.source == name})),
            }
            for name in sorted({row.source for row in rows})
        ],
        "images_sha256": ages.digest(rows),
        "runs_sha256": [bundle.sha256(weights)],
    }


def main(
    table: Annotated[
        Path, typer.Argument(help="CSV: series, patient, age, sex; or an index of regions.")
    ],
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--bundle", help="Folder of the bundle.")],
    version: Annotated[str, typer.Option(help="Of the bundle.")],
    root: Root = ROOT,
    minutes: Annotated[float | None, typer.Option(help="For each network.")] = None,
) -> None:
    """Train, measure and pack an age from CT."""
    out = out.resolve()
    if not NAME.fullmatch(out.name):
        raise typer.BadParameter(f"{out.name}: expected a-z, 0-9, dot, _, -", param_hint="--bundle")
    run_config = settings.read(config, minutes=minutes)
    known, kind = read(table, run_config)
    looked = Looked(known.pictures)
    said = out_of_folds(run_config, root, known, looked)
    manifest = pack(run_config, root, known, looked, said, kind, out, version)
    pack_graph(out)
    print(ct_age_card.table(manifest.figures))
    why = measure.unworthy(manifest.figures)
    print(f"\n{out}: " + (f"for research alone: {why}" if why else "may be used"))
