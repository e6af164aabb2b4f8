"""Where a bundle comes from, for its manifest: images, sources, licences, runs."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dicom_ai_node.inference import bundle
from training.data.images import Item
from training.fit import record


def stated(
    used: list[Item], summary: str, runs: Sequence[Path], calibrated_on: int, enough: int
) -> dict[str, object]:
    """What the manifest says of the images ``used`` to train, and of the weights of ``runs``.

    ``enough`` images have to calibrate it for the in-distribution gate to refuse anything.
    """
    aged = [item for item in used if item.role != "gate"]
    low, high = np.nanpercentile(np.array([item.age for item in aged]), [1, 99])
    return {
        "summary": summary + _mean_of(len(runs)) + _open_gate(calibrated_on, enough),
        "images": len(aged),
        "patients": len({item.patient for item in aged}),
        "age_range": [float(low), float(high)],
        "sources": sources(used),
        "images_sha256": record.images(used),
        "runs_sha256": [bundle.sha256(weights) for weights in runs],
    }


def _mean_of(runs: int) -> str:
    return f" The weights are the mean of those of {runs} runs." if runs > 1 else ""


def _open_gate(calibrated_on: int, enough: int) -> str:
    if calibrated_on >= enough:
        return ""
    return (
        f" Only {calibrated_on} images calibrated it: with fewer than {enough} the in-distribution"
        " gate refuses nothing."
    )


def sources(used: list[Item]) -> list[dict[str, object]]:
    """Each source with its number of images and its licences."""
    by_name: dict[str, list[Item]] = defaultdict(list)
    for item in used:
        by_name[item.source].append(item)
    return [
        {
            "name": name,
            "images": len(part),
            "licence": " / ".join(sorted({item.licence for item in part})),
        }
        for name, part in sorted(by_name.items())
    ]
