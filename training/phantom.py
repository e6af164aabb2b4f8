"""Fit the linear models behind ``dicom_ai_node.demo.phantom`` to training images.

    python -m training.phantom --out models/phantom.safetensors

Prints the hash that belongs into ``dicom_ai_node/demo/phantom.py``.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dicom_ai_node.demo.phantom import MIDDLE_AGE
from dicom_ai_node.inference.bundle import sha256
from training import data

SIDE = 224
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of phantom is fitted."""

    name: str
    components: int
    calm: float
    """The random coefficients' standard deviation, as a share of the images'."""
    grain: float
    """The texture's, as a share of what the components leave over."""


CHEST = Kind("chest", 72, 0.8, 0.5)
LATERAL = Kind("lateral", 10, 0.8, 0.3)
HAND = Kind("hand", 16, 0.8, 0.3)


def fit(kind: Kind, images: Floats, effects: Floats) -> dict[str, NDArray[np.generic]]:
    """Model of ``images`` (N, P) in 0 to 255 whose coefficients follow ``effects`` (N, E)."""
    mean = images.mean(axis=0)
    centred = images - mean
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    top = np.argsort(values)[::-1][: kind.components]
    basis = (vectors[:, top].T.astype(np.float32) @ centred) / np.sqrt(values[top, None])
    coefficients = centred @ basis.T.astype(np.float32)
    solved, *_ = np.linalg.lstsq(effects, coefficients, rcond=None)
    rest = coefficients - effects @ solved
    covariance = np.cov(rest.T) + 1e-6 * np.eye(kind.components)
    grain = (centred - coefficients @ basis.astype(np.float32)).std(axis=0)
    largest = np.abs(basis).max(axis=1)
    return {
        f"{kind.name}.mean": mean.astype(np.float16),
        f"{kind.name}.components": np.rint(basis / largest[:, None] * 127).astype(np.int8),
        f"{kind.name}.scale": (largest / 127).astype(np.float32),
        f"{kind.name}.effects": solved.astype(np.float32),
        f"{kind.name}.spread": (kind.calm * np.linalg.cholesky(covariance)).astype(np.float32),
        f"{kind.name}.grain": (kind.grain * grain).astype(np.float16),
    }


def chests(root: Path, cache: Path, count: int) -> tuple[Floats, Floats]:
    """Up to ``count`` PA images of adults of the training split, and their effects."""
    train = data.load(root, cache, SIDE, "train")
    age, female = train.column("age"), train.column("female")
    pa = np.array([item.view == "PA" for item in train.items])
    chosen = np.flatnonzero(pa & (age >= 18) & ~np.isnan(female))
    chosen = chosen[:: max(len(chosen) // count, 1)][:count]
    effects = np.stack(
        [np.ones(len(chosen)), (age[chosen] - MIDDLE_AGE) / 10, 2 * female[chosen] - 1], axis=1
    )
    return _flat(train.pixels[chosen]), effects.astype(np.float32)


def others(root: Path, cache: Path) -> tuple[Floats, Floats]:
    """Hands (at their own 64 pixels) and laterals of the gates' training part."""
    gate = data.load(root, cache, SIDE, "gate")
    small = data.load(root, cache, 64, "gate")
    hands = [i for i, item in enumerate(gate.items) if item.source == "mednist_Hand"]
    laterals = [i for i, item in enumerate(gate.items) if item.frontal == 0]
    return _flat(small.pixels[hands]), _flat(gate.pixels[laterals])


def _flat(pixels: NDArray[np.uint8]) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float32)


def main() -> None:
    """Fit and store."""
    parser = argparse.ArgumentParser(description="fit the phantoms")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--out", type=Path, default=Path("models/phantom.safetensors"))
    parser.add_argument("--count", type=int, default=1800)
    given = parser.parse_args()
    images, effects = chests(given.data, given.cache, given.count)
    tensors = fit(CHEST, images, effects)
    hands, laterals = others(given.data, given.cache)
    for kind, part in ((HAND, hands), (LATERAL, laterals)):
        tensors |= fit(kind, part, np.ones((len(part), 1), dtype=np.float32))
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(contiguous, given.out)
    given.out.chmod(0o644)
    print(f"{len(images)} chests, {len(hands)} hands, {len(laterals)} laterals")
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(given.out)}")


if __name__ == "__main__":
    main()
