"""Small files that ask for huge images: what ``infer`` spends on them.

    python -m tests.acceptance.attack_pixels [--files 8] [--side 10000] [--coding jpeg2000 rle ...]

Each file holds side x side RGB pixels of one repeated pattern in some hundred kilobytes. For every
coding it prints the size of a file, the seconds of processor time and the peak memory of one
``infer --json`` over all of them, and what it answered. A run over files of 256 x 256 comes first,
to compare: Python, torch and the network take their part. At last the JPEG 2000 ones are sent to a
running node as one study, while C-ECHO and a good image are timed.
"""

import argparse
import json
import resource
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from dicom_ai_node.demo.images import set_codestream
from tests.builders.pixels import UID, radiograph, write
from tests.builders.receiving import encoded

LIMIT_SECONDS = 600
LIMIT_BYTES = 12 << 30
TILE = 1024
"""A power of two: the blocks that are coded lie the same way in every tile."""


def jpeg2000(side: int) -> bytes:
    """One encoded tile, as many times as the image needs: a ramp, or grey where tiles are cut."""
    tile = min(TILE, side)
    ramp = np.linspace(0, 255, tile).astype(np.uint8)
    if side % tile:
        ramp[:] = 128  # without a coefficient, so that a tile is coded the same at every place
    picture = np.dstack([np.tile(ramp, (tile, 1))] * 3)
    code = bytes(imagecodecs.jpeg2k_encode(picture, codecformat="j2k", level=0, reversible=True))
    start = code.index(b"\xff\x90")
    head, part = bytearray(code[:start]), bytearray(code[start:].removesuffix(b"\xff\xd9"))
    struct.pack_into(">LL", head, 8, side, side)
    parts = bytearray()
    for number in range((-(-side // tile)) ** 2):
        struct.pack_into(">HL", part, 4, number, len(part))
        parts += part
    return bytes(head + parts) + b"\xff\xd9"


def jpeg_ls(side: int) -> bytes:
    """White, with a black band."""
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[: side // 3] = 0
    return bytes(imagecodecs.jpegls_encode(picture))


def rle(side: int) -> bytes:
    """Runs of 128 bytes, white and black by turns."""
    runs = -(-side * side // 128)
    segment = (b"\x81\xff\x81\x00" * (runs // 2 + 1))[: 2 * runs]
    starts = [64 + i * len(segment) for i in range(3)]
    return struct.pack("<16L", 3, *starts, *([0] * 12)) + segment * 3


def jpeg(side: int) -> bytes:
    """White, with a black band."""
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[: side // 3] = 0
    return bytes(imagecodecs.jpeg8_encode(picture, level=50))


CODINGS: dict[str, tuple[UID, Callable[[int], bytes]]] = {
    "jpeg2000": (JPEG2000Lossless, jpeg2000),
    "jpeg-ls": (JPEGLSLossless, jpeg_ls),
    "rle": (RLELossless, rle),
    "jpeg": (JPEGBaseline8Bit, jpeg),
}


def write_dicom(path: Path, coding: str, side: int, *, stated: int = 0) -> Path:
    """Write a DX image of ``side``; its header says ``stated`` where that is another."""
    syntax, encoded = CODINGS[coding]
    ds = radiograph(np.zeros((1, 1, 3), np.uint8))
    ds.Rows = ds.Columns = stated or side
    set_codestream(ds, encoded(side))
    return write(path, ds, syntax)


def write_png(path: Path, side: int) -> Path:
    """Write a PNG of ``side``, RGB."""
    picture = Image.new("RGB", (side, side), "white")
    picture.paste("black", (0, 0, side, side // 3))
    picture.save(path)
    return path


def fill(folder: Path, coding: str, side: int, files: int) -> int:
    """Write ``files`` files into ``folder``; return how large one is."""
    first = folder / f"0.{'png' if coding == 'png' else 'dcm'}"
    if coding == "png":
        write_png(first, side)
    else:
        write_dicom(first, coding, side)
    for number in range(1, files):
        first.with_stem(str(number)).write_bytes(first.read_bytes())
    return first.stat().st_size


def attack(folder: Path) -> tuple[float, float, Counter[str]]:
    """Run ``infer --json`` over ``folder``: seconds, peak MB, and how often it answered what."""
    # A process of its own measures it: the peak of children never falls again.
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.attack_pixels", "--measure", str(folder)],
        capture_output=True,
        check=True,
        timeout=LIMIT_SECONDS,
    )
    *lines, last = done.stdout.decode().splitlines()
    seconds, peak = map(float, last.split())
    return seconds, peak, Counter(_answer(json.loads(line)) for line in lines)


def _answer(document: dict[str, dict[str, str] | str]) -> str:
    reason = document["reason"]
    return reason["text"] if isinstance(reason, dict) else str(document["outcome"])


def measure(folder: str) -> None:
    """Run ``infer`` in a child, and print its answers, then its seconds and its peak in MB."""
    command = [sys.executable, "-m", "dicom_ai_node", "infer", "--json", folder]
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    subprocess.run(command, check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def attack_node(side: int, files: int) -> None:
    """Send one study of ``files`` to a node of its own, and print what that cost it."""
    # Not at the top: the process that is measured would carry them.
    from tests.acceptance.attack_headers import attack as attacked
    from tests.acceptance.harness import Node

    study, codestream = generate_uid(), jpeg2000(side)
    objects = {}
    for _ in range(files):
        ds = radiograph(np.zeros((1, 1, 3), np.uint8), StudyInstanceUID=study)
        ds.SeriesInstanceUID, ds.Rows, ds.Columns = study, side, side
        set_codestream(ds, codestream)
        objects[str(ds.SOPInstanceUID)] = encoded(ds)
    with TemporaryDirectory() as folder, Node(Path(folder, "node"), destinations={}) as node:
        attacked(node, "pixels", objects, study, str(JPEG2000Lossless))


def main() -> None:
    """Attack with every coding, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--coding", nargs="*", choices=[*CODINGS, "png"], default=list(CODINGS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure)
        return
    for coding, side in [("jpeg2000", 256), *((coding, given.side) for coding in given.coding)]:
        with TemporaryDirectory() as folder:
            size = fill(Path(folder), coding, side, given.files)
            seconds, peak, answers = attack(Path(folder))
        print(
            f"{given.files} x {coding:8} {side} x {side}, {size / 1024:.0f} kB each:"
            f" {seconds:.1f} s of processor, {peak:.0f} MB: {dict(answers)}",
            flush=True,
        )
    attack_node(given.side, given.files)


if __name__ == "__main__":
    main()
