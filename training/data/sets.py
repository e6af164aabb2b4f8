"""The data sets that a bundle is measured on, and how far each is from its training images."""

from dataclasses import dataclass
from enum import StrEnum


class Look(StrEnum):
    """How far the measured images are from the training images."""

    INSIDE = "same institution"
    OUTSIDE = "another institution"


@dataclass(frozen=True, slots=True)
class Set:
    """One data set, named as the role of its images in :mod:`training.data.images`."""

    name: str
    title: str
    look: Look


OWN = (
    Set("val", "Internal: `val`, NIH patients in no other split", Look.INSIDE),
    Set("val_128", "Internal at low resolution: `val_128`, 128-pixel images enlarged", Look.INSIDE),
    Set(
        "external_dev",
        "External look: `external_dev`, radiographs from public articles and websites",
        Look.OUTSIDE,
    ),
    Set("hannover", "External look: `hannover`, sex only", Look.OUTSIDE),
)
"""Those of this project's own images, whose marks are in :mod:`training.measure.criteria`."""
