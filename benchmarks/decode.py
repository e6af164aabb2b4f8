"""From a file to what the network sees, in each transfer syntax, beside pydicom and a resize.

    python -m benchmarks.decode [--quick] [--repeats 7] [--json] [--write]

One frontal chest of the demo (5.2 megapixels, 12 of 16 bits, with noise: it compresses losslessly
to 40 %, as radiographs do) is written in each syntax. This node's side is ``pixels.load``, which
the analyser calls. The other side is what a program in Python does without it: ``dcmread``, its
``pixel_array`` with the plugins that pydicom chooses by itself (of gdcm, Pillow,
pylibjpeg-openjpeg and pyjpegls), the rescale, and Pillow's area mean of the whole image, stretched
as the contract says. The sides take turns; files are in the page cache; medians.
"""

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from benchmarks.report import Cell, Report, Table, add_options, publish
from dicom_ai_node.config.paths import models_folder
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph, set_pixels
from dicom_ai_node.dicom.syntaxes import NATIVE_SYNTAXES, TABLE
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels import load
from dicom_ai_node.pixels.normalise import stretch

ROWS, COLUMNS, BITS = 2560, 2048, 12
SYNTAXES = (
    *(ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless),
    *(JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless),
    *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K),
)
LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})
NAMES = {row.uid: row.name for row in TABLE}
NATIVE_TIMES, J2K_TIMES, YEARS = 3.0, 5.0, 0.2
NATIVE_MS, J2K_MS = 5.0, 90.0

Tensor = NDArray[np.float32]


def by_pydicom(path: Path, size: int) -> Tensor:
    """Decode and reduce as a program does that has pydicom and Pillow."""
    ds = dcmread(path)
    values = apply_rescale(ds.pixel_array, ds).astype(np.float32)
    return stretch(np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BOX)))


def by_node(path: Path, size: int) -> Tensor:
    """Call what the analyser calls."""
    return load(path, size=size)


SIDES: dict[str, Callable[[Path, int], Tensor]] = {"node": by_node, "pydicom": by_pydicom}


@dataclass
class Figures:
    """What was measured of one side and one syntax."""

    milliseconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    """Resident memory that one image took at most, beyond what was there before."""
    tensor: Tensor | None = None

    @property
    def median(self) -> float | None:
        """None where it cannot be decoded."""
        return statistics.median(self.milliseconds) if self.milliseconds else None


def write_all(folder: Path) -> dict[UID, Path]:
    """Write the image in every syntax; baseline JPEG holds the upper 8 of its bits."""
    side = max(ROWS, COLUMNS)
    left = (side - COLUMNS) // 2
    image = np.ascontiguousarray(phantom.chest(50, "F", 1, size=side)[:, left : left + COLUMNS])
    paths = {}
    for number, syntax in enumerate(SYNTAXES):
        eight = syntax == JPEGBaseline8Bit
        values: NDArray[Any] = (image >> (BITS - 8)).astype(np.uint8) if eight else image
        bits = 8 if eight else BITS
        ds = radiograph(image, study="bench", bits=bits, BitsAllocated=8 * values.itemsize)
        if syntax == RLELossless:
            ds.compress(RLELossless)  # whose encoder finds runs
        else:
            set_pixels(ds, values, syntax)
        paths[syntax] = folder / f"{number:02}.dcm"
        ds.save_as(paths[syntax], enforce_file_format=True)
    return paths


def most_memory(call: Callable[[], object]) -> float:
    """Return how many MB more than before were resident while ``call`` ran (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak
    before = _status("VmRSS")
    call()
    return (_status("VmHWM") - before) / 1000


def _status(key: str) -> int:
    """Kilobytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def measure(paths: dict[UID, Path], size: int, repeats: int) -> dict[tuple[UID, str], Figures]:
    """Time both sides of every syntax in turns."""
    found: dict[tuple[UID, str], Figures] = {}
    for syntax, path in paths.items():
        for name, side in SIDES.items():
            figures = found[syntax, name] = Figures()
            try:
                figures.tensor = side(path, size)
            except RuntimeError as error:  # as pydicom's where no plugin decodes
                if name == "node":
                    raise
                print(f"{NAMES[syntax]}: {' '.join(str(error).split())}", file=sys.stderr)
                continue
            figures.megabytes = most_memory(partial(side, path, size))
    for _ in range(repeats):
        for (syntax, name), figures in found.items():
            if figures.tensor is None:
                continue
            began = time.perf_counter()
            SIDES[name](paths[syntax], size)
            figures.milliseconds.append(1000 * (time.perf_counter() - began))
    return found


def ages(estimator: Estimator, tensors: list[Tensor]) -> list[float]:
    return [one.quantity("age").mu for one in estimator.predict(np.stack(tensors))]


def tabulate(
    found: dict[tuple[UID, str], Figures], paths: dict[UID, Path], estimator: Estimator
) -> Table:
    """One row for each syntax; differences are those from the node's native little endian."""
    tensors = [found[syntax, "node"].tensor for syntax in paths]
    plain = found[ExplicitVRLittleEndian, "node"].tensor
    assert plain is not None
    seen = ages(estimator, [one for one in tensors if one is not None])
    table = Table(
        f"{ROWS} x {COLUMNS}, {BITS} bits, to {estimator.size} x {estimator.size}",
        [
            *("transfer syntax", "MB", "node, ms", "pydicom, ms", "times faster"),
            *("node, MB more", "pydicom, MB more", "input apart", "years apart"),
        ],
    )
    for syntax, age in zip(paths, seen, strict=True):
        ours, theirs = (found[syntax, name] for name in SIDES)
        assert ours.tensor is not None
        assert ours.median is not None
        theirs_ms = theirs.median
        table.rows.append(
            [
                *(NAMES[syntax], paths[syntax].stat().st_size / 1e6),
                *(ours.median, theirs_ms, theirs_ms / ours.median if theirs_ms else None),
                *(ours.megabytes, theirs.megabytes if theirs_ms else None),
                float(np.abs(ours.tensor - plain).mean()),
                abs(age - seen[0]),
            ]
        )
    return table


def marks(table: Table) -> list[str]:
    """Say which marks are met."""
    rows = dict(zip(SYNTAXES, table.rows, strict=True))

    def number(syntax: UID, column: int) -> float:
        value: Cell = rows[syntax][column]
        assert isinstance(value, float)
        return value

    native = [one for one in SYNTAXES if one in NATIVE_SYNTAXES]
    lossless = [one for one in SYNTAXES if one not in LOSSY]
    plain, j2k = ExplicitVRLittleEndian, JPEG2000Lossless
    notes = []
    for words, value, limit, least in (
        ("native little endian, times pydicom", number(plain, 4), NATIVE_TIMES, True),
        ("JPEG 2000, times pydicom", number(j2k, 4), J2K_TIMES, True),
        ("header and native reduction, ms", number(plain, 2), NATIVE_MS, False),
        ("JPEG 2000, ms", number(j2k, 2), J2K_MS, False),
        ("lossless, years apart", max(number(one, 8) for one in lossless), YEARS, False),
    ):
        met = value >= limit if least else value <= limit
        word = "at least" if least else "at most"
        notes.append(f"{words}: {value:.3g}, mark {word} {limit:g}: {'met' if met else 'missed'}")
    slowest = min(number(one, 4) for one in native)
    notes.append(f"of the native syntaxes the least gain is {slowest:.2g} times (deflate is zlib)")
    return notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    estimator = Estimator(models_folder() / "chest-age-sex", device="cpu")
    with TemporaryDirectory(prefix="bench-decode-") as name:
        paths = write_all(Path(name))
        found = measure(paths, estimator.size, 1 if options.quick else options.repeats)
        table = tabulate(found, paths, estimator)
    question = " ".join(__doc__.partition("[--write]")[2].split())
    publish(Report("decode", question, [table], marks(table)), options)


if __name__ == "__main__":
    main()
