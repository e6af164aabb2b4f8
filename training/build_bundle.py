"""Calibrate trained weights and pack them as a bundle; ``training.evaluate`` adds the figures.

python -m training.build_bundle --config training/configs/second.toml --version 1.1 --tau auto
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import NETWORK, Raw, load_network, run
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.network import AGES, Network
from dicom_ai_node.pixels.normalise import CONTRACT
from training import calibrate, data, prior, shift
from training import config as settings
from training.config import Config
from training.sampling import frequencies

FITTED_ON = 2400
"""Training images that the in-distribution score is fitted on."""
CHANGED_COPIES = 8
"""Changed copies of each calibration image that the widening is fitted on."""
INTENDED = (
    "Estimating age and the appearance of sex from one frontal chest radiograph of an adult, to"
    " hold against PatientAge and PatientSex of the same study. For research and data curation."
)
NOT_FOR = (
    "Diagnosis, treatment, identification of persons, forensic or legal age assessment, children,"
    " people over 85, lateral views, other body parts. Not a medical device."
)
SUMMARY = (
    "MobileNetV2 from ImageNet weights, fine-tuned whole on frontal chest radiographs of one"
    " institution (NIH Clinical Center) at 448 and 128 pixels; the gates also on other body parts,"
    " laterals and frontal radiographs from public articles, without their ages and sexes. Up to 16"
    " patients of external_dev have a lateral among them."
)


def floats(images: data.Images) -> NDArray[np.float32]:
    """Pixels as the network sees them."""
    return images.pixels.astype(np.float32) / np.float32(np.iinfo(images.pixels.dtype).max)


Measure = Callable[[NDArray[np.float32]], tuple[Raw, NDArray[np.float64]]]
Tensors = dict[str, NDArray[np.float32]]


def calibration_cases(measure: Measure, images: data.Images, changed: bool = False) -> Cases:
    """What a network says of ``images``, or of :data:`CHANGED_COPIES` changed copies of each.

    Of the changed ones only those that still pass for upright frontal chests: the others get no
    answer, so nothing is to be learnt from how wrong it would be.
    """
    labels = (images.column("age"), images.column("female"))
    patients = [item.patient for item in images.items]
    if not changed:
        return calibrate.cases(*measure(floats(images)), *labels, patients)
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(CHANGED_COPIES):
        raw, distances = measure(shift.shifted(floats(images), rng))
        passed = (raw.chest >= 0) & (raw.frontal >= 0)
        parts.append(calibrate.cases(raw, distances, *labels, patients).at(passed))
    return Cases.joined(parts)


def without_prior(
    trained: Tensors, network: Network, root: Path, config: Config, tau: float | None
) -> tuple[Tensors, float]:
    """Take the share ``tau`` of the training ages' prior out of the head; None asks ``val_128``."""
    items = data.items(root)
    seen = data.Images(items, np.zeros((len(items), 1, 1), np.uint8))
    drawn = frequencies(config, seen)
    density = prior.log_prior(seen.column("age")[drawn > 0], drawn[drawn > 0])
    if tau is not None:
        return prior.bake(trained, density, tau), tau
    known = data.load(root, Path(config.cache), config.sides[-1], "val_128")
    years = known.column("age").astype(np.float64)
    features = run(network, floats(known)).features
    weight, bias = trained[f"{NETWORK}head.weight"], trained[f"{NETWORK}head.bias"]
    logits = (features @ weight[:AGES].T + bias[:AGES]).astype(np.float64)
    points = prior.curve(logits[~np.isnan(years)], years[~np.isnan(years)], density)
    tau = prior.choose(points).tau
    print(prior.table(points, tau), flush=True)
    return prior.bake(trained, density, tau), tau


def sources(used: list[data.Item]) -> list[dict[str, object]]:
    """Each source with its number of images and its licences."""
    by_name: dict[str, list[data.Item]] = defaultdict(list)
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


def trained_with(items: list[data.Item]) -> dict[str, object]:
    """What the manifest says of the training data."""
    used = [item for item in items if item.role in ("train", "train_128", "gate")]
    aged = [item for item in used if item.role != "gate"]
    low, high = np.nanpercentile(np.array([item.age for item in aged]), [1, 99])
    return {
        "summary": SUMMARY,
        "images": len(aged),
        "patients": len({item.patient for item in aged}),
        "age_range": [float(low), float(high)],
        "sources": sources(used),
    }


def build(
    config: Config, out: Path, root: Path, version: str, tau: float | None, caution: float = 1.0
) -> None:
    """Write weights.safetensors and manifest.json of a training run into ``out``."""
    size, cache = config.sides[-1], Path(config.cache)
    weights = Path(config.out) / "ema.safetensors"
    trained = {NETWORK + name: tensor for name, tensor in load_file(weights).items()}
    network = load_network(config.architecture, trained, weights)
    trained, prior_tau = without_prior(trained, network, root, config, tau)
    network = load_network(config.architecture, trained, weights)
    train = data.load(root, cache, size, "train")
    every = slice(None, None, max(len(train.items) // FITTED_ON, 1))
    some = floats(data.Images(train.items[every], train.pixels[every]))
    around = calibrate.distance(run(network, some).features)

    def measure(images: NDArray[np.float32]) -> tuple[Raw, NDArray[np.float64]]:
        raw = run(network, images)
        return raw, around.of(raw.features)

    val = data.load(root, cache, size, "val")
    plain = calibration_cases(measure, val).labelled
    changed = calibration_cases(measure, val, changed=True)
    calibrated = calibrate.calibration(plain, changed, caution=caution)
    out.mkdir(parents=True, exist_ok=True)
    extra = {
        "distance.mean": around.mean,
        "distance.projection": around.projection,
        "distance.residual": around.residual,
        "distance.reference": plain.reference.astype(np.float32),
    }
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in (trained | extra).items()}
    save_file(tensors, out / bundle.WEIGHTS)
    (out / bundle.WEIGHTS).chmod(0o644)
    manifest = {
        "name": out.name,
        "version": version,
        "architecture": config.architecture,
        "input": {"contract": CONTRACT, "size": size},
        "sha256": bundle.sha256(out / bundle.WEIGHTS),
        "calibration": calibrated.model_dump(),
        "thresholds": {"chest": 0.5, "frontal": 0.5, "in_distribution": 0.01},
        "training": trained_with(data.items(root)) | {"prior_tau": prior_tau, "caution": caution},
        "intended_use": INTENDED,
        "not_for": NOT_FOR,
    }
    text = bundle.Manifest.model_validate(manifest).model_dump(mode="json")
    (out / bundle.MANIFEST).write_text(json.dumps(text, indent=1) + "\n")
    bundle.verify(out)


def share(text: str) -> float | None:
    """Read the option ``--tau``; None stands for ``auto``."""
    if text == "auto":
        return None
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to 1, or 'auto'")
    return value


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="pack a bundle")
    parser.add_argument("--config", type=Path, required=True, help="of the run that is packed")
    parser.add_argument("--bundle", type=Path, default=Path("models/chest-age-sex"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--version", required=True)
    parser.add_argument(
        "--tau", type=share, default=0.0, help="of the age prior to take out: 0 to 1, or 'auto'"
    )
    parser.add_argument(
        "--caution", type=float, default=1.0, help="least factor of sigma far away, 1 to 2.5"
    )
    given = parser.parse_args()
    if not 1 <= given.caution <= calibrate.AGE_CAP:
        parser.error(f"--caution {given.caution}: expected 1 to {calibrate.AGE_CAP}")
    config = settings.read(given.config)
    build(config, given.bundle, given.data, given.version, given.tau, given.caution)


if __name__ == "__main__":
    main()
