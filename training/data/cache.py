"""Decoded and reduced images on disk: what serving would compute, once, in 16 bits.

    python -m training cache nih/index.csv --side 320 --threads 8

Writes ``NAME.npy``, uint16 of shape (images, side, side) in the order of the index, and
``NAME.json``: contract, side, hash of the index, how many are done, and why a file could not be
read (its pixels are zero). Started again after an interrupt it goes on where it was. A training run
makes the caches that it finds missing; where it looks for them is :func:`place`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from dicom_ai_node import pixels
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from training.data.index import PICTURES, IndexRow, files, read_index
from training.data.options import CACHE, Index
from training.data.tables import DataError

WHITE = 65535
SAVE_EVERY = 256

Encoded = NDArray[np.uint16] | str
"""Pixels, or why there are none."""


def tensor(path: Path, side: int) -> NDArray[np.float32]:
    """The image at ``path`` as the networks see it, by the functions that serve.

    Returns
    -------
    Array of shape (side, side), float32, in [0, 1].

    Raises UnreadableInstance: the file is neither DICOM nor a picture; PixelsRefused: the image
    must not be shown to the network.
    """
    if path.suffix.lower() not in PICTURES:
        return pixels.load(path, size=side)
    return pixels.load_picture(path, size=side)


def encode(path: Path, side: int) -> Encoded:
    """The image in 16 bits, or the reason why it cannot be had."""
    try:
        return np.rint(tensor(path, side) * WHITE).astype(np.uint16)
    except (UnreadableInstance, PixelsRefused) as error:
        return str(error)


@dataclass(frozen=True, slots=True)
class Cache:
    """The images of an index, in its order, ready to be drawn from."""

    stored: NDArray[np.uint16]
    """Shape (images, side, side); mapped from the file, not in memory."""
    usable: NDArray[np.bool_]
    """Which images could be read."""
    faults: dict[str, str] = field(default_factory=dict)
    """Why the others could not, by the image's name in the index."""

    def tensors(self, positions: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Images as the networks see them: (N, side, side), float32 in [0, 1].

        They differ from what serving computes by rounding to 16 bits, at most 8e-6.
        """
        chosen = self.stored[np.asarray(positions, dtype=np.int64)]
        scaled: NDArray[np.float32] = chosen.astype(np.float32) / np.float32(WHITE)
        return scaled


def index_hash(rows: Sequence[IndexRow]) -> str:
    """SHA-256 of the images in their order; labels may change without decoding again."""
    return hashlib.sha256("\n".join(row.image for row in rows).encode()).hexdigest()


def open_cache(out: Path, rows: Sequence[IndexRow]) -> Cache:
    """Open the finished cache of ``rows`` at ``out`` (without suffix).

    Raises DataError: it is not there, not finished, or of another contract or index.
    """
    state = _read_state(_named(out, ".json"))
    if state is None:
        raise DataError(
            f"{_named(out, '.json')}: expected a cache; make it with python -m training cache"
        )
    _check(out, state, {"contract": pixels.CONTRACT, "index": index_hash(rows)})
    if state["done"] != len(rows):
        raise DataError(f"{_named(out, '.json')}: done: expected {len(rows)}, got {state['done']}")
    stored = np.load(_named(out, ".npy"), mmap_mode="r")
    faults = dict(state["faults"])
    return Cache(stored, np.array([row.image not in faults for row in rows], np.bool_), faults)


def build(
    rows: Sequence[IndexRow],
    paths: Sequence[Path],
    out: Path,
    side: int,
    *,
    threads: int = 1,
    tell: Callable[[int], None] = lambda done: None,
) -> Cache:
    """Decode the images of ``rows`` at ``paths`` into ``out`` (without suffix), or go on doing so.

    ``tell`` hears how many images are done. DataError when a cache of something else is there.
    """
    if not rows:
        raise DataError(f"{out}: expected an index with images, got none")
    wanted = {"contract": pixels.CONTRACT, "side": side, "index": index_hash(rows)}
    begin: dict[str, Any] = {**wanted, "done": 0, "faults": {}}
    state = _read_state(_named(out, ".json")) or begin
    _check(out, state, wanted)
    if state["done"] == len(rows):
        return open_cache(out, rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    begun = int(state["done"])
    stored: NDArray[np.uint16] = np.lib.format.open_memmap(
        _named(out, ".npy"),
        mode="r+" if begun else "w+",
        dtype=None if begun else np.uint16,
        shape=None if begun else (len(rows), side, side),
    )

    def save() -> None:
        stored.flush()  # type: ignore[attr-defined]
        _write_state(_named(out, ".json"), state)

    try:
        with _encoded(paths[begun:], side, threads) as images:
            for position, image in enumerate(images, start=begun):
                if isinstance(image, str):
                    state["faults"][rows[position].image] = image
                    stored[position] = 0
                else:
                    stored[position] = image
                state["done"] = position + 1
                if state["done"] % SAVE_EVERY == 0:
                    save()
                tell(position + 1)
    finally:
        save()
    return open_cache(out, rows)


def place(folder: Path, index: Path, side: int) -> Path:
    """Where below ``folder`` the cache of an index lies (without suffix)."""
    whole = index.resolve()
    key = hashlib.sha256(str(whole).encode()).hexdigest()[:8]
    return folder / f"{whole.parent.name}-{whole.stem}-{side}-{key}"


def built(
    rows: Sequence[IndexRow], paths: Sequence[Path], out: Path, side: int, threads: int
) -> Cache:
    """Do as :func:`build`, and show a bar while there is something to do."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"images, {side} px", total=len(rows), visible=False)
        return build(
            rows,
            paths,
            out,
            side,
            threads=threads,
            tell=lambda done: progress.update(task, completed=done, visible=True),
        )


@contextmanager
def _encoded(paths: Sequence[Path], side: int, threads: int) -> Iterator[Iterator[Encoded]]:
    """The images in order; threads are enough, since codecs and numpy work outside the GIL."""
    if threads <= 1:
        yield (encode(path, side) for path in paths)
        return
    with ThreadPool(threads) as pool:
        yield pool.imap(lambda path: encode(path, side), paths)


def _named(out: Path, suffix: str) -> Path:
    """The file of ``out``, whose name may hold dots, with this suffix."""
    return out.with_name(out.name + suffix)


def _read_state(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = json.loads(path.read_text())
        missing = {"contract", "side", "index", "done", "faults"} - state.keys()
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: expected the JSON of a cache") from error
    if missing:
        raise DataError(f"{path}: expected the fields {', '.join(sorted(missing))}")
    return state


def _write_state(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(state, indent=1) + "\n")
    partial.replace(path)


def _check(out: Path, state: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if state[name] != value:
            raise DataError(
                f"{_named(out, '.json')}: {name}: expected {value}, got {state[name]};"
                " remove the cache or name another"
            )


def main(
    index: Index,
    side: Annotated[int, typer.Option(help="Pixels.")] = 320,
    folder: Annotated[Path, typer.Option(help="Of all caches.")] = CACHE,
    out: Annotated[
        Path | None, typer.Option(help="Without suffix. Default: where a run looks.")
    ] = None,
    threads: Annotated[int, typer.Option(help="That decode.")] = 1,
) -> None:
    """Build the cache of an index."""
    out = out or place(folder, index, side)
    rows = read_index(index)
    cache = built(rows, files(index, rows), out, side, threads)
    for image, fault in cache.faults.items():
        print(f"{image}: {fault}")
    print(f"{out}: {int(cache.usable.sum()):,} of {len(rows):,} images")
