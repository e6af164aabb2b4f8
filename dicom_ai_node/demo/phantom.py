"""Radiographs of nobody: random points of a linear model of many public radiographs.

Each kind of image is a mean, principal components stored as int8, and coefficients that are drawn
at random; a chest's also follow age and sex linearly. The pictures look like a chest through
frosted glass, which is enough for the shipped network to take them for one. Fitted by
``training.publish.phantom`` with that network in the loop: what it says of a phantom is no evidence
of its accuracy.
"""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dicom_ai_node.config.paths import models_folder
from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.bundle import sha256

FILE = "phantom.safetensors"
SHA256 = "6da5e4f7f3a0b69831dfbe356c75c7f821179f09ffb0e688b72ea871da242505"
LARGEST = 4095  # 12 bits
MIDDLE_AGE = 50.0

Floats = NDArray[np.float32]


def chest(age: float, sex: str, seed: int, size: int = 1024) -> NDArray[np.uint16]:
    """Frontal chest of a person of ``age`` years and ``sex`` (``F`` or ``M``).

    Returns 12-bit grey of shape (size, size), brighter for denser (MONOCHROME2). The same seed at
    another age or sex is the same random draw around another mean.
    """
    if sex not in ("F", "M"):
        raise ValueError(f"sex {sex!r} is neither 'F' nor 'M'")
    decades = (float(np.clip(age, 18.0, 90.0)) - MIDDLE_AGE) / 10
    effects = np.array([1.0, decades, 1.0 if sex == "F" else -1.0], dtype=np.float32)
    return _image("chest", effects, seed, size)


def lateral(seed: int, size: int = 1024) -> NDArray[np.uint16]:
    """Lateral chest, otherwise like :func:`chest`."""
    return _image("lateral", np.ones(1, dtype=np.float32), seed, size)


def hand(seed: int, size: int = 1024) -> NDArray[np.uint16]:
    """Hand, otherwise like :func:`chest`."""
    return _image("hand", np.ones(1, dtype=np.float32), seed, size)


def _image(kind: str, effects: Floats, seed: int, size: int) -> NDArray[np.uint16]:
    model = load(models_folder() / FILE)
    rng = np.random.default_rng(seed)
    components = model[f"{kind}.components"]
    drawn = np.clip(rng.standard_normal(len(components)), -2.0, 2.0).astype(np.float32)
    coefficients = effects @ model[f"{kind}.effects"] + model[f"{kind}.spread"] @ drawn
    scaled = coefficients * model[f"{kind}.scale"]
    flat = model[f"{kind}.mean"] + scaled @ components
    side = round(len(flat) ** 0.5)
    small = flat.reshape(side, side)
    grey = np.clip(small, 0.0, 255.0).astype(np.float32)
    large = Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC)
    noisy = np.asarray(large) + rng.standard_normal((size, size), dtype=np.float32)
    grey12: NDArray[np.uint16] = np.clip(noisy * (LARGEST / 255), 0, LARGEST).astype(np.uint16)
    return grey12


@cache
def load(file: Path) -> dict[str, Floats]:
    """Float32 tensors of the phantoms' file; BundleError when it is missing or altered."""
    try:
        found = sha256(file)
        if found != SHA256:
            raise BundleError(f"{file}: SHA-256 is {found}, expected {SHA256}")
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{file}: expected the phantoms ({error})") from error
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
