"""What imported networks say beside the bundle's answer: for the eye, never for a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicom_ai_node import pixels
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.inference.foreign import Imported


def say(path: Path, others: Sequence[Imported], limits: Limits = DEFAULT) -> list[dict[str, Any]]:
    """Return each network's answer for the image at ``path``, as ``infer --json`` prints it.

    The image has passed the bundle's gates; these networks have none of their own.
    """
    return [_one(path, other, limits) for other in others]


def _one(path: Path, other: Imported, limits: Limits) -> dict[str, Any]:
    load = pixels.load_picture if pixels.is_picture(path) else pixels.load
    image = load(path, size=other.size, limits=limits)
    value = float(other(image[None])[0])
    manifest = other.manifest
    return {
        "name": manifest.name,
        "sha256": manifest.sha256,
        "age": round(value, 2) if manifest.answers == "age" else None,
        "probability_female": round(value, 4) if manifest.answers == "sex" else None,
        "calibrated": manifest.calibrated,
    }
