"""Does one image get one answer, whichever way it comes?

    python -m training parity --bundle models/chest-age-sex --out runs/report

Training side: the pixels of :mod:`training.data.project`. Node side: a DICOM file, decoded and
reduced by ``dicom_ai_node.pixels``. Then the same image in every transfer syntax, inverted, at
other depths and larger, each against the plain file of 8 bits. Exit code 1 when a limit of
:mod:`training.measure.criteria` is broken.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from dicom_ai_node.answers import Prediction
from dicom_ai_node.demo.images import ENCODERS, radiograph, set_pixels
from dicom_ai_node.dicom.syntaxes import NATIVE_SYNTAXES
from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels import load
from training.data import cache, project
from training.data import images as data
from training.data.options import (
    BUNDLE,
    CACHE,
    REPORT,
    ROOT,
    BundleFolder,
    CacheFolder,
    Report,
    Root,
)
from training.measure import criteria
from training.measure.predict import female

FILE = "parity.json"
DEPTHS = (8, 10, 12, 16)
Grey = NDArray[np.uint8]
Pixels = NDArray[np.float32]
Pair = tuple[list[Prediction], list[Prediction]]
LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to store an 8-bit image."""

    name: str
    bits: int = 8
    syntax: UID = ExplicitVRLittleEndian
    inverted: bool = False
    times: int = 1
    """How much larger each side is than the original's."""

    @property
    def lossy(self) -> bool:
        """Whether decoding does not give back what was encoded."""
        return self.syntax in LOSSY

    def dataset(self, grey: Grey) -> Dataset:
        """``grey`` stored this way."""
        if self.times > 1:
            side = (grey.shape[1] * self.times, grey.shape[0] * self.times)
            grey = np.asarray(Image.fromarray(grey).resize(side, Image.Resampling.BICUBIC))
        largest = (1 << self.bits) - 1
        scaled = np.rint(grey.astype(np.float64) * (largest / 255))
        shown = largest - scaled if self.inverted else scaled
        values = shown.astype(np.uint8 if self.bits <= 8 else np.uint16)
        ds = radiograph(
            values.astype(np.uint16),
            study="parity",
            bits=self.bits,
            BitsAllocated=8 * values.dtype.itemsize,
            PhotometricInterpretation="MONOCHROME1" if self.inverted else "MONOCHROME2",
        )
        set_pixels(ds, values, self.syntax)
        return ds


PLAIN = Variant("plain")


def variants() -> Iterator[tuple[Variant, Variant]]:
    """Every way to store an image, and the way that it is held against."""
    for bits in DEPTHS[1:]:
        yield Variant(f"{bits} bits", bits=bits), PLAIN
    for bits in DEPTHS:
        yield Variant(f"MONOCHROME1, {bits} bits", bits=bits, inverted=True), PLAIN
    for syntax in (*NATIVE_SYNTAXES, *ENCODERS):
        for bits in _depths(syntax):
            yield Variant(f"{syntax.name}, {bits} bits", bits=bits, syntax=syntax), PLAIN
    for syntax, bits in (
        (JPEG2000Lossless, 12),  # may be decoded at a reduced resolution
        (HTJ2KLossless, 12),
        (JPEGBaseline8Bit, 8),
        (JPEGLSNearLossless, 8),
    ):
        large = Variant(f"{bits} bits, 4 times larger", bits=bits, times=4)
        name = f"{syntax.name}, {large.name}"
        yield Variant(name, bits=bits, syntax=syntax, times=4), large


def _depths(syntax: UID) -> tuple[int, ...]:
    if syntax == JPEGBaseline8Bit:
        return (8,)
    return (12,) if syntax == JPEGExtended12Bit else (8, 12)


def compare(
    estimator: Estimator, greys: Sequence[Grey], trained: Mapping[str, Pixels]
) -> list[Figure]:
    """Largest differences over ``greys``, by variant.

    ``trained`` holds the same images as training sees them, shape (N, S, S), for each of its ways.
    The groups are the names of these, ``criteria.VARIANTS`` and ``criteria.LOSSLESS``, and one for
    each variant.
    """
    known = {PLAIN: _node_side(estimator, greys, PLAIN)}
    figures: list[Figure] = []
    for name, pixels in trained.items():
        figures += _largest(name, [(estimator.predict(pixels), known[PLAIN])])
    pairs: dict[Variant, Pair] = {}
    for variant, other in variants():
        if other not in known:
            known[other] = _node_side(estimator, greys, other)
        pairs[variant] = (_node_side(estimator, greys, variant), known[other])
    figures += _largest(criteria.VARIANTS, list(pairs.values()))
    figures += _largest(criteria.LOSSLESS, [pair for v, pair in pairs.items() if not v.lossy])
    for variant, pair in pairs.items():
        figures += _largest(variant.name, [pair])
    return figures


def _node_side(estimator: Estimator, greys: Sequence[Grey], variant: Variant) -> list[Prediction]:
    """What the node answers when the images come as ``variant``."""
    with TemporaryDirectory() as folder:
        file, seen = Path(folder) / "image.dcm", []
        for grey in greys:
            variant.dataset(grey).save_as(file, enforce_file_format=True)
            seen.append(load(file, size=estimator.size))
            file.unlink()  # the pixels may be a view of it
    return estimator.predict(np.stack(seen))


def _largest(group: str, pairs: Sequence[Pair]) -> list[Figure]:
    both = [(p, q) for first, second in pairs for p, q in zip(first, second, strict=True)]
    differences = {
        criteria.YEARS_APART: [abs(p.quantity("age").mu - q.quantity("age").mu) for p, q in both],
        criteria.PROBABILITY_APART: [abs(female(p) - female(q)) for p, q in both],
    }
    return [
        Figure(
            dataset=criteria.PARITY, group=group, quantity=name, value=round(max(values), 6),
            n=len(pairs[0][0]),
        )
        for name, values in differences.items()
    ]  # fmt: skip


def training_side(root: Path, images: data.Images, size: int) -> dict[str, Pixels]:
    """``images`` as they are measured, as they are trained on before augmentation, and uncached."""
    seen = np.stack([cache.tensor(root / item.path, size) for item in images.items])
    eight = np.rint(seen * 255) / 255
    return {
        criteria.SIDES: np.concatenate([*images.floats()]),
        criteria.EIGHT: eight.astype(np.float32),
        criteria.UNCACHED: seen,
    }


def write(out: Path, figures: Sequence[Figure], sha256: str) -> None:
    """Write parity.json into ``out``; ``sha256`` is that of the bundle's weights."""
    out.mkdir(parents=True, exist_ok=True)
    document = {"sha256": sha256, "figures": [f.model_dump(mode="json") for f in figures]}
    (out / FILE).write_text(json.dumps(document, indent=1) + "\n")


def read(out: Path, sha256: str) -> list[Figure]:
    """Figures of parity.json in ``out``; none when it is missing or of other weights."""
    file = out / FILE
    if not file.exists():
        return []
    document: dict[str, Any] = json.loads(file.read_text())
    if document["sha256"] != sha256:
        return []
    return [Figure.model_validate(figure) for figure in document["figures"]]


def main(
    bundle: BundleFolder = BUNDLE,
    root: Root = ROOT,
    cache_folder: CacheFolder = CACHE,
    out: Report = REPORT,
    count: Annotated[int, typer.Option("--images", help="That are compared.")] = 6,
) -> None:
    """Compare and print."""
    estimator = Estimator(bundle, device="cpu")
    images = project.load(root, cache_folder, estimator.size, "val")
    at = np.linspace(0, len(images.items) - 1, count).astype(int)
    chosen = data.Images([images.items[i] for i in at], images.pixels[at])
    greys = [project.read(root / item.path) for item in chosen.items]
    figures = compare(estimator, greys, training_side(root, chosen, estimator.size))
    write(out, figures, estimator.identity.sha256)
    for years, probability in zip(figures[::2], figures[1::2], strict=True):
        print(f"{years.group:60} {years.value:9.4f} years {probability.value:9.5f} P(female)")
    broken = [judged.criterion for judged in criteria.judged(figures) if judged.met is False]
    for criterion in broken:
        print(f"{criterion.name}: {criterion.limit} expected", file=sys.stderr)
    sys.exit(1 if broken else 0)
