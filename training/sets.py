"""The data sets that a bundle is measured on, and how far each is from its training images."""

from dataclasses import dataclass

from training.references import Look


@dataclass(frozen=True, slots=True)
class Set:
    """One data set, named as its role in :mod:`training.data`."""

    name: str
    title: str
    look: Look


SETS = (
    Set("val", "Internal: `val`, NIH patients in no other split", Look.INSIDE),
    Set("val_128", "Internal at low resolution: `val_128`, 128-pixel images enlarged", Look.INSIDE),
    Set(
        "external_dev",
        "External look: `external_dev`, radiographs from public articles and websites",
        Look.OUTSIDE,
    ),
    Set("hannover", "External look: `hannover`, sex only", Look.OUTSIDE),
)
