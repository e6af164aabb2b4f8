"""What networks say of slices, and of what is no slice, that they were not trained with.

A network is trained for each fold of patients (cross-conformal, Vovk 2015). Three things are asked:
slices of the fold; the same changed as another scanner or screen might have left them, which the
temperature is fitted with by how far they lie off; and what the gate is to refuse.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference import fitting
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.distances import Distances, Far, p_value
from dicom_ai_node.inference.engine import Raw
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import run
from training.data import phantoms, shift
from training.data.regions import Slice, dealt
from training.data.slices import Values, inputs
from training.fit import calibrate, gate
from training.fit.config import RunConfig, below
from training.fit.regions import Batches, Regions
from training.fit.train import trained
from training.measure.regions import RegionTable
from training.publish.build_bundle import IN_DISTRIBUTION

MARGIN = 0.1
"""Share of the side that is made black above and below, to see whether marks are read there."""
FITTED_ON = 400
"""Training images that a space is fitted on."""
COPIES = 1
"""Changed copies of each slice."""
PHANTOMS = 60
"""Of each sort, for each fold."""
OTHERS, KNOWN_PHANTOMS, OTHER_PHANTOMS = (
    "no slices",
    "phantoms of shapes that trained",
    "phantoms of other shapes",
)
"""What the gate is to refuse."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network says of images, and how far they lie off."""

    raw: Raw
    distances: Distances

    @classmethod
    def of(cls, network: Network, spaces: calibrate.Spaces, images: NDArray[np.float32]) -> "Seen":
        """Of at least one image, as ``windows-1`` makes it."""
        raw = run(network, images)
        return cls(raw, spaces.distances(raw))

    @classmethod
    def joined(cls, parts: Sequence["Seen"]) -> "Seen":
        """All images of all parts."""
        return cls(
            Raw.joined([part.raw for part in parts]),
            Distances(
                np.concatenate([part.distances.content for part in parts]),
                np.concatenate([part.distances.texture for part in parts]),
            ),
        )

    def passed(self, reference: Distances) -> NDArray[np.bool_]:
        """Which images pass every gate."""
        near = p_value(self.distances.content, reference.content) >= IN_DISTRIBUTION
        return np.asarray((self.raw["slice"] >= 0) & near)


@dataclass(frozen=True, slots=True)
class Held:
    """What networks say of what they were not trained with."""

    slices: list[Slice]
    folds: NDArray[np.int64]
    seen: Seen
    unmarked: NDArray[np.int64]
    """Positions of the likeliest values where margins are black, as marks of a source are there."""
    changed: list[Seen]
    """The same slices, changed."""
    others: Mapping[str, Seen]
    """What is no slice, by its sort."""

    @classmethod
    def joined(cls, parts: Sequence["Held"]) -> "Held":
        """Every fold."""
        sorts = {name for part in parts for name in part.others}
        return cls(
            [one for part in parts for one in part.slices],
            np.concatenate([part.folds for part in parts]),
            Seen.joined([part.seen for part in parts]),
            np.concatenate([part.unmarked for part in parts]),
            [Seen.joined(list(copies)) for copies in zip(*(p.changed for p in parts), strict=True)],
            {
                name: Seen.joined([part.others[name] for part in parts if name in part.others])
                for name in sorted(sorts)
            },
        )

    @property
    def reference(self) -> Distances:
        """How far unknown slices lie off."""
        return self.seen.distances.reference


def folds(
    config: RunConfig, root: Path, slices: Sequence[Slice], pixels: Values, regions: Regions,
    held: int,
) -> Iterator[Held]:  # fmt: skip
    """Train a network for each of the first ``held`` folds, and ask it about the fold."""
    fold = np.array(dealt(slices))
    for number in range(held):
        print(f"fold {number}", flush=True)
        known = [one for one, of in zip(slices, fold, strict=True) if of != number]
        unknown = [one for one, of in zip(slices, fold, strict=True) if of == number]
        run_config = below(config, f"fold-{number}")
        inside = pixels.at(np.flatnonzero(fold != number))
        network = trained(run_config, root, Batches(run_config, known, inside, regions))
        gate.refit(network, regions.gate, known, config.sides[-1])
        yield asked(network, spaces_of(network, known, config.sides[-1]), unknown, number, config)


def asked(
    network: Network, spaces: calibrate.Spaces, unknown: Sequence[Slice], fold: int,
    config: RunConfig,
) -> Held:  # fmt: skip
    """What the network of a fold says of its slices, and of what is none."""
    side, rng = config.sides[-1], np.random.default_rng(fold)
    slices, others = ([one for one in unknown if one.shown is shown] for shown in (True, False))
    shown = inputs(slices, side).astype(np.float32)
    blank, margin = shown.copy(), round(MARGIN * side)
    blank[:, :, :margin] = blank[:, :, side - margin :] = 0
    refused = {
        KNOWN_PHANTOMS: phantoms.phantoms(phantoms.KINDS, PHANTOMS, side, rng),
        OTHER_PHANTOMS: phantoms.phantoms(phantoms.HELD_OUT, PHANTOMS, side, rng),
    }
    if others:
        refused[OTHERS] = inputs(others, side).astype(np.float32)
    return Held(
        slices,
        np.full(len(slices), fold),
        Seen.of(network, spaces, shown),
        run(network, blank)["region"].argmax(axis=1),
        [Seen.of(network, spaces, shift.shifted_channels(shown, rng)) for _ in range(COPIES)],
        {name: Seen.of(network, spaces, images) for name, images in refused.items()},
    )


def spaces_of(network: Network, slices: Sequence[Slice], side: int) -> calibrate.Spaces:
    """Where the network puts some of ``slices``, from all over."""
    shown = [one for one in slices if one.shown]
    some = shown[:: max(len(shown) // FITTED_ON, 1)]
    return calibrate.Spaces.of(network, inputs(some, side).astype(np.float32))


def calibration(held: Held, regions: Regions) -> Calibration:
    """The temperature with which slices are foretold best that trained nothing.

    It rises with the distance of the content, as they and their changed copies ask for.
    """
    plain, *changed = (_cases(held, seen, regions).labelled for seen in (held.seen, *held.changed))
    wider = calibrate.category_widening(plain, changed, regions.head)
    return Calibration({"region": fitting.category(plain, regions.head, wider, "content")})


def _cases(held: Held, seen: Seen, regions: Regions) -> Cases:
    targets = regions.targets(held.slices)
    single = targets.sum(axis=1) == 1
    return Cases(
        heads=(regions.head,),
        raw={"region": seen.raw["region"].astype(np.float64)},
        truth={"region": np.where(single, targets.argmax(axis=1), np.nan).astype(np.float64)},
        content=seen.distances.content,
        texture=seen.distances.texture,
        patients=np.array([one.person for one in held.slices]),
    )


def tabled(held: Held, seen: Seen, fitted: Calibration, regions: Regions) -> RegionTable:
    """The calibrated answers, of slices that have a region among the values.

    ``seen`` are those of ``held``, or its changed copies.
    """
    targets = regions.targets(held.slices)
    raw = seen.raw["region"].astype(np.float64)
    far, category = Far.of(seen.distances, held.reference), fitted.category("region")
    table = RegionTable(
        held.slices,
        regions.values,
        category.probabilities(raw, category.excess(far)),
        targets,
        seen.passed(held.reference),
    )
    return table.where(targets.sum(axis=1) > 0)
