"""Calibrate trained weights and pack them as a bundle; ``training.evaluate`` adds the figures.

python -m training.build_bundle --run runs/first --bundle models/chest-age-sex --version 1.0
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference import calibration as fitted
from dicom_ai_node.inference.engine import NETWORK, load_network, run
from dicom_ai_node.pixels.normalise import CONTRACT
from training import calibrate, data

SIZE = 224
FITTED_ON = 2400
"""Training images that the in-distribution score is fitted on."""
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
    " laterals and frontal radiographs from public articles, without their ages and sexes."
)


def floats(images: data.Images) -> NDArray[np.float32]:
    """Pixels as the network sees them."""
    return images.pixels.astype(np.float32) / np.float32(255)


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


def build(
    weights: Path, out: Path, root: Path, cache: Path, version: str, architecture: str
) -> None:
    """Write weights.safetensors and manifest.json into ``out``."""
    trained = {NETWORK + name: tensor for name, tensor in load_file(weights).items()}
    network = load_network(architecture, trained, weights)
    train = data.load(root, cache, SIZE, "train")
    some = floats(train)[:: max(len(train.items) // FITTED_ON, 1)]
    around = calibrate.distance(run(network, some).features)
    val = data.load(root, cache, SIZE, "val")
    raw = run(network, floats(val))
    distances = fitted.distance(
        raw.features, around.mean, around.projection, float(around.residual[0])
    )
    out.mkdir(parents=True, exist_ok=True)
    extra = {
        "distance.mean": around.mean,
        "distance.projection": around.projection,
        "distance.residual": around.residual,
        "distance.reference": np.sort(distances).astype(np.float32),
    }
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in (trained | extra).items()}
    save_file(tensors, out / bundle.WEIGHTS)
    (out / bundle.WEIGHTS).chmod(0o644)
    used = [i for i in data.items(root) if i.role in ("train", "train_128", "gate")]
    aged = [item for item in used if item.role != "gate"]
    ages = np.array([item.age for item in aged])
    low, high = np.nanpercentile(ages, [1, 99])
    calibrated = calibrate.calibration(raw, val.column("age"), val.column("female"))
    manifest = {
        "name": out.name,
        "version": version,
        "architecture": architecture,
        "input": {"contract": CONTRACT, "size": SIZE},
        "sha256": bundle.sha256(out / bundle.WEIGHTS),
        "calibration": calibrated.model_dump(),
        "thresholds": {"chest": 0.5, "frontal": 0.5, "in_distribution": 0.01},
        "training": {
            "summary": SUMMARY,
            "images": len(aged),
            "patients": len({item.patient for item in aged}),
            "age_range": [float(low), float(high)],
            "sources": sources(used),
        },
        "intended_use": INTENDED,
        "not_for": NOT_FOR,
    }
    text = bundle.Manifest.model_validate(manifest).model_dump(mode="json")
    (out / bundle.MANIFEST).write_text(json.dumps(text, indent=1) + "\n")
    bundle.verify(out)


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="pack a bundle")
    parser.add_argument("--run", type=Path, default=Path("runs/first"))
    parser.add_argument("--bundle", type=Path, default=Path("models/chest-age-sex"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--version", default="1.0")
    parser.add_argument("--architecture", default="mobilenet_v2")
    given = parser.parse_args()
    build(
        given.run / "ema.safetensors", given.bundle, given.data, given.cache, given.version,
        given.architecture,
    )  # fmt: skip


if __name__ == "__main__":
    main()
