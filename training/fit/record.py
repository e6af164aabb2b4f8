"""What a run was trained with, in a few words that can be compared. Its last.pt keeps them.

Folds are dealt anew when images are added. What was trained before then knows patients who are now
held out: it must neither go on, nor be calibrated or measured as if it had not seen them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields

from training.data.images import Item
from training.fit import start
from training.fit.config import Config

Record = dict[str, str]
"""``images``, ``start`` and every setting that what is learnt depends on."""
IMAGES = "images"
FREE = frozenset({"out", "cache", "device", "minutes", "steps", "checkpoint_seconds", "archive"})
"""Settings that say where and how long; of an archive it is the images that matter."""


def images(items: Sequence[Item]) -> str:
    """SHA-256 of the names and roles of ``items``, in their order; labels may be mended."""
    names = json.dumps([[item.path, item.role] for item in items])
    return hashlib.sha256(names.encode()).hexdigest()


def record(config: Config, items: Sequence[Item]) -> Record:
    """What a run of ``config`` is trained with; ``items`` are its training images."""
    settings = {f.name: repr(getattr(config, f.name)) for f in fields(config) if f.name not in FREE}
    return {IMAGES: images(items), **settings, "start": start.words(config)}


def differences(kept: Record, wanted: Record) -> list[str]:
    """What is not as ``wanted``, in words; settings that ``kept`` does not know had defaults."""
    usual = {field.name: repr(field.default) for field in fields(Config)}
    found = {name: kept.get(name, usual.get(name, "nothing")) for name in wanted}
    return [
        f"{name}: expected {value}, got {found[name]}"
        for name, value in wanted.items()
        if found[name] != value
    ]
