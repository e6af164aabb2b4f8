"""Calibrate and pack a run that asked for findings; measure it, and write its card.

    python -m training findings --config training/configs/findings.toml --version 0.2

``val`` and ``val_128`` (of an archive the fold that is held out) calibrate each label by a
temperature and a bias. Probabilities that are measured on them are calibrated by other patients,
ten parts in turn; an AUC is of logits. ``val`` alone tells how far an image may lie from those that
trained. The report, with every figure, is printed and written as the card of the bundle.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dicom_ai_node.inference import bundle, fitting
from dicom_ai_node.inference.bundle import Figure, Manifest
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.coverage import FOLDS
from dicom_ai_node.inference.distances import Distances, Space, p_value
from dicom_ai_node.inference.engine import NETWORK, Raw
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.graph import pack as pack_graph
from dicom_ai_node.inference.intervals import Widening
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.saliency import explain
from dicom_ai_node.inference.torch_engine import load_network
from dicom_ai_node.pixels.normalise import CONTRACT
from dicom_ai_node.recalibrate.pack import fewest
from training.data.chest_findings import NOT_FOR, FindingsData
from training.data.findings import NAMES, targets
from training.data.images import GATE_TEST, Data, Images, Institution, LabelledImage
from training.data.options import ROOT, ConfigFile, Fold, Root
from training.data.project import items, with_pixels
from training.fit import calibrate, checkpoint, start
from training.fit import config as settings
from training.fit.calibrate import answers
from training.fit.config import WEIGHTS, RunConfig, data_of
from training.fit.questions import CHEST_FINDINGS, FINDINGS, QUESTIONS
from training.measure import boxes
from training.measure import findings as figures
from training.measure.boxes import Boxed, Pointed
from training.measure.figures import EVERY_GATE
from training.measure.findings import FindingsTable
from training.measure.metrics import estimate, mean, resamples
from training.measure.predict import kind_of
from training.publish import findings_card
from training.publish.build_bundle import ACCEPTS, IN_DISTRIBUTION, Tensors, stated

BUNDLE = Path("models/chest-findings")

INTENDED = (
    "Research into findings of frontal chest radiographs of adults: the probability that a report"
    " would have named each of NIH's 14 labels. Not for diagnosis."
)
FITTED_ON = 1000
"""Training images, or up to twice as many, that the spaces of content and texture are fitted on."""

UNKNOWN = Widening()
"""No probability is drawn to one half far from the calibration images, as others are: that would
invent findings which are rare everywhere. What lies too far is refused by the gates."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the network says of N images, and what is known of them."""

    items: list[LabelledImage]
    cases: Cases
    """Of the findings."""
    upright: NDArray[np.bool_]
    """Whether the gates of the network let each image pass, shape (N,)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A network, and what it says of each data set."""

    network: Network
    tensors: Tensors
    """Of the network and its spaces, as they are packed."""
    sets: dict[str, Answered]
    """Those whose findings are known, and :data:`GATE_TEST`."""
    fitted: Calibration
    held_out: int
    """How many images tell how far one may lie from those that trained."""


def measured(config: RunConfig, data: Data) -> Measured:
    """Fit spaces and calibration of the run in ``config.out``.

    Raises DataError: the run was trained with other images than those of ``data``.
    """
    folder = Path(config.out)
    checkpoint.check_images(folder, data.trained())
    weights = folder / WEIGHTS
    tensors = {NETWORK + name: tensor for name, tensor in load_file(weights).items()}
    rows = QUESTIONS[config.bundle].rows
    network = load_network(config.architecture, tensors, weights, rows)
    side = config.sides[-1]
    seen = answers(network, data.load(side, "train").some(FITTED_ON))
    spaces = {
        name: calibrate.space(getattr(seen, of), calibrate.COMPONENTS[name])
        for name, of in (("content", "features"), ("texture", "texture"))
    }
    sets = {}
    for name in (*_known_sets(data), GATE_TEST):
        images = data.load(side, name)
        print(f"{name}: {len(images):,} images", flush=True)
        if len(images):
            raw = answers(network, images)
            upright = (raw["chest"] >= 0) & (raw["frontal"] >= 0)
            sets[name] = Answered(images.items, _cases(raw, spaces, images), upright)
    usual = sets[data.calibrates].cases
    for name, space in spaces.items():
        tensors |= {f"{name}.{part}": tensor for part, tensor in asdict(space).items()}
        tensors[f"{name}.reference"] = getattr(usual.reference, name).astype(np.float32)
    fitted = _fit(Cases.joined([sets[name].cases for name in _calibrating(data)]))
    return Measured(network, tensors, sets, fitted, len(usual))


def _known_sets(data: Data) -> list[str]:
    chooses = [data.chooses] if data.chooses != data.calibrates else []
    return [*(one.name for one in data.sets), *chooses]


def _calibrating(data: Data) -> list[str]:
    return [one.name for one in data.sets if one.institution is Institution.SAME]


def _cases(raw: Raw, spaces: dict[str, Space], images: Images) -> Cases:
    far = Distances(
        spaces["content"].distance(raw.features), spaces["texture"].distance(raw.texture)
    )
    return Cases(
        heads=(FINDINGS,),
        raw={FINDINGS.name: raw[FINDINGS.name].astype(np.float64)},
        truth={FINDINGS.name: targets(images.items)[:, 1:].astype(np.float64)},
        content=far.content,
        texture=far.texture,
        patients=np.array([item.patient for item in images.items], np.str_),
    )


def _fit(cases: Cases) -> Calibration:
    return fitting.fit(cases, {FINDINGS.name: UNKNOWN})


def tables(found: Measured, data: Data) -> Iterator[FindingsTable]:
    """What is measured of each data set, each image calibrated by others' patients alone."""
    together = Cases.joined([found.sets[name].cases for name in _calibrating(data)])
    names, person = np.unique(together.patients, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[person] % FOLDS
    of_patient = dict(zip(together.patients.tolist(), fold.tolist(), strict=True))
    by_fold = [_fit(together.at(fold != one)) for one in range(FOLDS)]
    trained = [item for item in data.trained() if item.role != "gate"]
    usual = np.nanmean(targets(trained)[:, 1:], axis=0).astype(np.float64)
    for name in _known_sets(data):
        cases = found.sets[name].cases
        logits, near = cases.raw[FINDINGS.name], np.zeros(len(cases))
        said = np.empty(logits.shape)
        for at, patient in enumerate(cases.patients.tolist()):
            here = of_patient.get(patient)
            fitted = found.fitted if here is None else by_fold[here]
            one = slice(at, at + 1)
            said[one] = fitted.findings(FINDINGS.name).probabilities(logits[one], near[one])
        yield FindingsTable(
            dataset=name,
            patients=cases.patients,
            known=cases.truth[FINDINGS.name],
            score=logits,
            probability=said,
            without_image=figures.without_image(trained, found.sets[name].items),
            usual=usual,
        )


def passing(found: Measured, reference: Distances) -> Iterator[Figure]:
    """How many images of each data set pass every gate; of what tests the gates by kind."""
    for name, said in found.sets.items():
        near = p_value(said.cases.content, reference.content) >= IN_DISTRIBUTION
        passes = (said.upright & near).astype(np.float64)
        kinds = np.array([kind_of(item) if name == GATE_TEST else "" for item in said.items])
        for kind in dict.fromkeys(kinds.tolist()):
            at = kinds == kind
            share = estimate(mean, resamples(said.cases.patients[at].tolist()), passes[at])
            yield Figure(
                dataset=name, group=kind, quantity=EVERY_GATE, value=round(share.value, 4),
                low=round(share.low, 4), high=round(share.high, 4), n=int(at.sum()),
            )  # fmt: skip


def pointed(network: Network, root: Path, cache: Path, side: int) -> Iterator[Pointed]:
    """Grad-CAM of every boxed finding of this project's images."""
    by_name = {Path(item.path).stem: item for item in items(root)}
    for name, every in (
        ("boxes of NIH", boxes.boxes_of_nih(root / "labels")),
        ("boxes of RSNA", boxes.boxes_of_rsna(root / "labels")),
    ):
        boxed = [one for one in every if one.image in by_name]
        chosen = list({one.image: by_name[one.image] for one in boxed}.values())
        images = with_pixels(root, cache, side, chosen, bits=16)
        place = {Path(item.path).stem: at for at, item in enumerate(images.items)}
        (pixels,) = [np.concatenate(list(images.floats()))]
        maps = [_map(network, pixels[place[one.image]], one) for one in boxed]
        patients = [images.items[place[one.image]].patient for one in boxed]
        yield Pointed(name, boxed, patients, np.array(maps))


def _map(network: Network, pixels: boxes.Map, one: Boxed) -> boxes.Map:
    found = explain(network, pixels, heads=[FINDINGS.name], labels={FINDINGS.name: one.label})
    return found[FINDINGS.name].values


def pack(
    config: RunConfig, data: Data, found: Measured, of: Sequence[Figure], out: Path, version: str
) -> Manifest:
    """Write weights.safetensors and manifest.json into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: np.ascontiguousarray(tensor) for name, tensor in found.tensors.items()}
    save_file(weights, out / bundle.WEIGHTS)
    (out / bundle.WEIGHTS).chmod(0o644)
    about, asked = data.about(start.history(config)), QUESTIONS[config.bundle]
    runs = [Path(config.out) / WEIGHTS]
    manifest = Manifest.model_validate(
        {
            "name": out.name,
            "version": version,
            "architecture": config.architecture,
            "accepts": {**ACCEPTS, "contract": CONTRACT, "size": config.sides[-1]},
            "sha256": bundle.sha256(out / bundle.WEIGHTS),
            "calibration": found.fitted.model_dump(),
            "heads": asked.heads,
            "gates": asked.gates,
            "in_distribution": IN_DISTRIBUTION,
            "training": stated(
                data.trained(), about.summary, runs, found.held_out, fewest(IN_DISTRIBUTION)
            ),
            "intended_use": INTENDED,
            "not_for": NOT_FOR,
            "research": True,
            "figures": of,
        }
    )
    document = manifest.model_dump(mode="json")
    document["figures"] = [f.model_dump(mode="json", exclude_defaults=True) for f in of]
    (out / bundle.MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
    bundle.verify(out)
    return manifest


def build(config: RunConfig, data: Data, root: Path, out: Path, version: str) -> str:
    """Make the bundle of a trained run in the folder ``out``; return its card."""
    found = measured(config, data)
    done = [figure for table in tables(found, data) for figure in figures.measure(table, NAMES)]
    done += passing(found, found.sets[data.calibrates].cases.reference)
    if isinstance(data, FindingsData):
        nih, rsna = pointed(found.network, root, Path(config.cache), config.sides[-1])
        done += [*boxes.measure(nih, rsna), *boxes.measure(rsna, nih)]
    manifest = pack(config, data, found, done, out, version)
    card = findings_card.text(manifest, data.sets, data.chooses)
    (out / bundle.CARD).write_text(card)
    return card


def main(
    config: ConfigFile,
    version: Annotated[str, typer.Option(help="Of the bundle.")],
    fold: Fold = None,
    out: Annotated[
        Path, typer.Option("--bundle", help="Folder; has to be given for an archive.")
    ] = BUNDLE,
    root: Root = ROOT,
) -> None:
    """Calibrate, measure and pack findings."""
    run = settings.read(config, fold=fold)
    if run.bundle != CHEST_FINDINGS:
        raise typer.BadParameter(f"expected bundle = {CHEST_FINDINGS!r}", param_hint="--config")
    if run.archive and out == BUNDLE:
        raise typer.BadParameter("expected a folder, such as models/site", param_hint="--bundle")
    print(build(run, data_of(run, root), root, out.resolve(), version))
    pack_graph(out)
