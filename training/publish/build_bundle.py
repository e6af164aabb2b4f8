"""Calibrate trained weights and pack them as a bundle; ``evaluate`` adds the figures.

python -m training build_bundle --config training/configs/second.toml --version 1.1 --tau auto
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.distances import Distances
from dicom_ai_node.inference.engine import NETWORK, Raw
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.graph import pack as pack_graph
from dicom_ai_node.inference.heads import AGE, GATES, HEADS
from dicom_ai_node.inference.network import Network, fold_norms
from dicom_ai_node.inference.torch_engine import load_network, run
from dicom_ai_node.pixels import CONTRACT, RADIOGRAPHY
from dicom_ai_node.recalibrate.pack import fewest
from training.data.images import Data, Images, LabelledImage
from training.data.options import BUNDLE, ROOT, ConfigFile, Fold, Root
from training.data.tables import DataError
from training.fit import calibrate, checkpoint, prior, start
from training.fit import config as settings
from training.fit.batches import frequencies
from training.fit.calibrate import answers, calibration_cases
from training.fit.config import RunConfig, data_of

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""As a manifest wants it; so it is checked before an hour of calibration."""

FITTED_ON = 2400
"""Training images that the spaces of content and texture are fitted on."""
ACCEPTS = {
    "sop_classes": sorted(RADIOGRAPHY.sop_classes),
    "modalities": RADIOGRAPHY.modalities,
}
"""Frontal chest radiographs, digitised ones among them."""
IN_DISTRIBUTION = 0.005
"""Smallest conformal p-value that passes the gate."""

INTENDED = (
    "Estimating age and the appearance of sex from one frontal chest radiograph of an adult, to"
    " hold against PatientAge and PatientSex of the same study. For research and data curation."
)

Tensors = dict[str, NDArray[np.float32]]


def averaged(files: Sequence[Path]) -> Tensors:
    """The mean of the weights of runs of which one started from the other.

    Such weights lie in one basin, and their mean often does better than either, most of all on
    other data (Wortsman et al. 2022, model soups).

    Raises DataError: they are weights of different networks.
    """
    runs = [start.network_tensors(file) for file in files]
    first = runs[0]
    for file, tensors in zip(files, runs, strict=True):
        if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in first.items()}:
            raise DataError(f"{file}: expected the tensors of {files[0]}")
    return {
        name: np.asarray(np.mean([each[name] for each in runs], axis=0), tensor.dtype)
        for name, tensor in first.items()
    }


def without_prior(
    trained: Tensors, network: Network, data: Data, config: RunConfig, tau: float | None
) -> tuple[Tensors, float]:
    """Take the share ``tau`` of the training ages' prior out of the head.

    None chooses it by the images that ``data`` has for that.
    """
    items = data.trained()
    seen = Images(items, np.zeros((len(items), 1, 1), np.uint8))
    drawn = frequencies(config, seen)
    density = prior.log_prior(seen.column("age")[drawn > 0], drawn[drawn > 0])
    if tau is not None:
        return prior.bake(trained, density, tau), tau
    known = data.load(config.sides[-1], data.chooses)
    years = known.column("age").astype(np.float64)
    spoken = answers(network, known)
    with torch.inference_mode():
        said = network.answer(torch.from_numpy(spoken.features))
    logits = said[AGE.name].numpy().astype(np.float64)
    points = prior.curve(logits[~np.isnan(years)], years[~np.isnan(years)], density)
    tau = prior.choose(points).tau
    print(prior.table(points, tau), flush=True)
    return prior.bake(trained, density, tau), tau


def build(
    config: RunConfig,
    data: Data,
    out: Path,
    version: str,
    tau: float | None,
    caution: float = 1.0,
    others: Sequence[Path] = (),
) -> None:
    """Write weights.safetensors and manifest.json of a training run into ``out``.

    With the mean of its weights and those of the runs in the folders ``others``, of which a bundle
    is trusted as a start is: what it was trained with is not asked.

    Raises DataError: a run was trained with other images than those of ``data``, or too few can
    calibrate it.
    """
    folders = [Path(config.out), *others]
    for folder in folders:
        if not (folder / bundle.MANIFEST).exists():
            checkpoint.check_images(folder, data.trained())
    runs = [start.weights_of(folder) for folder in folders]
    trained = {NETWORK + name: tensor for name, tensor in averaged(runs).items()}
    network = asked(config, trained, runs[0])
    trained, prior_tau = without_prior(trained, network, data, config, tau)
    network = asked(config, trained, runs[0])
    fitted, spaces, calibrated_on = calibration(network, data, config.sides[-1], caution)
    about = data.about(start.history(config))
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(t) for name, t in (trained | spaces).items()}
    save_file(tensors, out / bundle.WEIGHTS)
    (out / bundle.WEIGHTS).chmod(0o644)
    manifest = {
        "name": out.name,
        "version": version,
        "architecture": config.architecture,
        "accepts": {**ACCEPTS, "contract": CONTRACT, "size": config.sides[-1]},
        "sha256": bundle.sha256(out / bundle.WEIGHTS),
        "calibration": fitted.model_dump(),
        "heads": HEADS,
        "gates": GATES,
        "in_distribution": IN_DISTRIBUTION,
        "training": stated(
            data.trained(), about.summary, runs, calibrated_on, fewest(IN_DISTRIBUTION)
        )
        | {"prior_tau": prior_tau, "caution": caution},
        "intended_use": INTENDED,
        "not_for": about.not_for,
    }
    text = bundle.Manifest.model_validate(manifest).model_dump(mode="json")
    (out / bundle.MANIFEST).write_text(json.dumps(text, indent=1) + "\n")
    bundle.verify(out)


def asked(config: RunConfig, tensors: Tensors, file: Path) -> Network:
    """The network of ``tensors``, as the node asks it."""
    network = load_network(config.architecture, tensors, file)
    fold_norms(network)
    return network


def calibration(
    network: Network, data: Data, size: int, caution: float
) -> tuple[Calibration, Tensors, int]:
    """Fit the spaces on training images, everything else on those that trained nothing.

    Returns
    -------
    The calibration; the spaces, and the distances of the calibration images in them; how many have
    calibrated it.

    Raises DataError: none of them has both an age and a sex.
    """
    seen = answers(network, data.load(size, "train").some(FITTED_ON))
    texture = calibrate.space(seen.texture, calibrate.COMPONENTS["texture"])
    if any(item.role == "train_other" for item in data.trained()):  # of another texture, chests too
        seen = Raw.joined([seen, answers(network, data.load(size, "train_other"))])
    content = calibrate.space(seen.features, calibrate.COMPONENTS["content"])

    def measure(images: NDArray[np.float32]) -> tuple[Raw, Distances]:
        raw = run(network, images)
        return raw, Distances(content.distance(raw.features), texture.distance(raw.texture))

    held_out = data.load(size, data.calibrates)
    plain = calibration_cases(measure, held_out).labelled
    if not len(plain):
        raise DataError(f"{data.calibrates}: expected images with both an age and a sex, got none")
    changed = calibration_cases(measure, held_out, changed=True)
    others = [calibration_cases(measure, data.load(size, role)).labelled for role in data.beside]
    beside = Cases.joined(others) if others else None
    tensors = {f"content.{name}": tensor for name, tensor in asdict(content).items()}
    tensors |= {f"texture.{name}": tensor for name, tensor in asdict(texture).items()}
    tensors |= {
        f"{name}.reference": known.astype(np.float32)
        for name, known in asdict(plain.reference).items()
    }
    fitted = calibrate.calibration(plain, changed, beside=beside, caution=caution)
    return fitted, tensors, len(plain)


def share(text: str) -> float | None:
    """Read the option ``--tau``; None stands for ``auto``."""
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{text}: expected 0 to 1, or 'auto'", param_hint="--tau")
    return value


def stated(
    used: list[LabelledImage], summary: str, runs: Sequence[Path], calibrated_on: int, enough: int
) -> dict[str, object]:
    """What the manifest says of the images ``used`` to train, and of the weights of ``runs``.

    ``enough`` images have to calibrate it for the in-distribution gate to refuse anything.
    """
    aged = [item for item in used if item.role != "gate"]
    low, high = np.nanpercentile(np.array([item.age for item in aged]), [1, 99])
    return {
        "summary": summary + _mean_of(len(set(runs))) + _open_gate(calibrated_on, enough),
        "images": len(aged),
        "patients": len({item.patient for item in aged}),
        "age_range": [float(low), float(high)],
        "sources": sources(used),
        "images_sha256": checkpoint.images(used),
        "runs_sha256": [bundle.sha256(weights) for weights in runs],
    }


def _mean_of(runs: int) -> str:
    return f" The weights are a mean of those of {runs} runs." if runs > 1 else ""


def _open_gate(calibrated_on: int, enough: int) -> str:
    if calibrated_on >= enough:
        return ""
    return (
        f" Only {calibrated_on} images calibrated it: with fewer than {enough} the in-distribution"
        " gate refuses nothing."
    )


def sources(used: list[LabelledImage]) -> list[dict[str, object]]:
    """Each source with its number of images and its licences."""
    by_name: dict[str, list[LabelledImage]] = defaultdict(list)
    for item in used:
        by_name[item.source].append(item)
    return [
        {
            "name": name,
            "images": len(part),
            "licence": " / ".join(sorted({item.licence for item in part})),
        }
        for name, part in sorted(by_name.items())
    ]


def main(
    config: ConfigFile,
    version: Annotated[str, typer.Option(help="Of the bundle.")],
    fold: Fold = None,
    out: Annotated[
        Path, typer.Option("--bundle", help="Folder; has to be given for an archive.")
    ] = BUNDLE,
    root: Root = ROOT,
    tau: Annotated[
        str, typer.Option(help="Share of the age prior to take out: 0 to 1, or 'auto'.")
    ] = "0",
    caution: Annotated[
        float,
        typer.Option(
            min=1, max=calibrate.AGE_CAP, help="Least factor of sigma and temperature far away."
        ),
    ] = 1.0,
    average_with: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of another run with the same images, or of a bundle that the run went on"
            " from (may be repeated): pack the mean of the weights."
        ),
    ] = None,
) -> None:
    """Build a bundle."""
    run = settings.read(config, fold=fold)
    if run.archive and out == BUNDLE:
        raise typer.BadParameter("expected a folder, such as models/site", param_hint="--bundle")
    out = out.resolve()
    if not NAME.fullmatch(out.name):
        expected = "expected a name of a-z, 0-9, dot, _ and -"
        raise typer.BadParameter(f"{out.name}: {expected}", param_hint="--bundle")
    build(run, data_of(run, root), out, version, share(tau), caution, average_with or ())
    pack_graph(out)
