"""Fit the linear models behind ``dicom_ai_node.demo.phantom`` to training images.

    python -m training phantom --bundle models/chest-age-sex --out models/phantom.safetensors
    python -m training phantom --figures    # what the bundle says of phantoms: models/phantom.md

The principal components alone blur what tells the network age and sex. The effects of age and sex
on a chest's coefficients are therefore tuned by gradient through the shipped network until it sees
them, and takes the image for a frontal chest like those it knows. That makes the phantoms fit for
showing and testing the program, and worthless as evidence of accuracy.

Prints the hash that belongs into ``dicom_ai_node/demo/phantom.py``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    interpolate,
    relu,
    softplus,
)

from dicom_ai_node.answers import Prediction
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.phantom import MIDDLE_AGE
from dicom_ai_node.inference.bundle import WEIGHTS, sha256
from dicom_ai_node.inference.engine import Estimator, read_tensors
from dicom_ai_node.inference.network import moments
from dicom_ai_node.pixels.normalise import normalise
from training.data import augment, project
from training.data.options import BUNDLE, CACHE, ROOT, BundleFolder, CacheFolder, Root

SIDE = 224
"""Of the phantoms; the network sees them enlarged."""

CHESTS, OTHERS = 100, 40
AGES = (20.0, 88.0)
Floats = NDArray[np.float32]
Tensors = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of phantom is fitted."""

    name: str
    components: int
    spread: float
    """The random coefficients' standard deviation, as a share of the images'."""


CHEST = Kind("chest", 96, 0.6)
LATERAL = Kind("lateral", 6, 0.8)
HAND = Kind("hand", 48, 0.8)


def fit(kind: Kind, images: Floats, effects: Floats) -> Tensors:
    """Model of ``images`` (N, P) in 0 to 255 whose coefficients follow ``effects`` (N, E)."""
    mean = images.mean(axis=0)
    centred = images - mean
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    top = np.argsort(values)[::-1][: kind.components]
    basis = (vectors[:, top].T.astype(np.float32) @ centred) / np.sqrt(values[top, None])
    coefficients = centred @ basis.T.astype(np.float32)
    solved, *_ = np.linalg.lstsq(effects, coefficients, rcond=None)
    covariance = np.cov((coefficients - effects @ solved).T) + 1e-6 * np.eye(kind.components)
    largest = np.abs(basis).max(axis=1)
    return {
        f"{kind.name}.mean": mean.astype(np.float16),
        f"{kind.name}.components": np.rint(basis / largest[:, None] * 127).astype(np.int8),
        f"{kind.name}.scale": (largest / 127).astype(np.float32),
        f"{kind.name}.effects": solved.astype(np.float32),
        f"{kind.name}.spread": (kind.spread * np.linalg.cholesky(covariance)).astype(np.float32),
    }


def tune(model: Tensors, bundle: Path, steps: int, batch: int = 16) -> None:
    """Move ``chest.effects`` in place until the network of ``bundle`` sees age and sex in them.

    And ``chest.mean`` by a few grey levels, until the texture is one that the network knows: linear
    models have none, and what is far gets intervals as wide as life.
    """
    estimator = Estimator(bundle, device="cpu")
    network = estimator.network.requires_grad_(False)
    known = {k: torch.from_numpy(v) for k, v in read_tensors(bundle / WEIGHTS).items()}
    basis = _tensor(model["chest.components"]) * _tensor(model["chest.scale"])[:, None]
    mean, spread = _tensor(model["chest.mean"]), _tensor(model["chest.spread"])
    start = _tensor(model["chest.effects"])
    unit = spread.square().sum(dim=1).sqrt()
    change = torch.zeros_like(start, requires_grad=True)
    detail = torch.zeros_like(mean, requires_grad=True)
    optimiser = torch.optim.Adam([change, detail], lr=0.04)
    rng = torch.Generator().manual_seed(0)
    for number in range(steps):
        decades = torch.rand(batch, generator=rng) * 6.5 - 2.8
        female = (torch.rand(batch, generator=rng) < 0.5).float()
        effects = torch.stack([torch.ones(batch), decades, 2 * female - 1], dim=1)
        drawn = torch.randn(batch, len(basis), generator=rng).clamp(-2, 2)
        coefficients = effects @ (start + change * unit) + drawn @ spread.T
        flat = (mean + detail + coefficients @ basis).clamp(0, 255) / 255
        small = flat.reshape(batch, 1, SIDE, SIDE)
        seen = interpolate(small, size=2 * [estimator.size], mode="bicubic", align_corners=False)
        features, texture = network.pooled(augment.stretch(seen))
        answers = network.answer(features)
        mu, _ = moments(answers["age"])
        parts = {
            "age": ((mu - MIDDLE_AGE) / 10 - decades).square().mean(),
            "sex": binary_cross_entropy_with_logits(answers["sex"], female),
            "gates": (softplus(3 - answers["chest"]) + softplus(3 - answers["frontal"])).mean(),
            "far": relu(_distance(features, known, "content") - 1).mean(),
            "coarse": 2 * relu(_distance(texture, known, "texture") - 1).mean(),
            "change": 0.02 * change.square().sum(),
            "detail": 0.02 * detail.square().mean(),
        }
        loss = torch.stack(list(parts.values())).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if number % 10 == 0:
            print(number, {k: round(float(v.detach()), 3) for k, v in parts.items()}, flush=True)
    model["chest.effects"] = (start + change * unit).detach().numpy()
    model["chest.mean"] = (mean + detail).detach().numpy().astype(np.float16)


def _distance(features: Tensor, known: dict[str, Tensor], space: str) -> Tensor:
    """Distance in a space of a bundle, in units of its median on the calibration set."""
    projection = known[f"{space}.projection"]
    centred = features - known[f"{space}.mean"]
    scores = centred @ projection
    outside = centred.square().sum(dim=1)
    outside = outside - (scores.square() / projection.square().sum(dim=0)).sum(dim=1)
    squared = scores.square().sum(dim=1) + outside / known[f"{space}.residual"]
    return squared / known[f"{space}.reference"].median()


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def chests(root: Path, cache: Path, count: int) -> tuple[Floats, Floats]:
    """Up to ``count`` PA images of adults of the training split, and their effects."""
    train = project.load(root, cache, SIDE, "train", bits=8)
    age, female = train.column("age"), train.column("female")
    pa = np.array([item.view == "PA" for item in train.items])
    chosen = np.flatnonzero(pa & (age >= 18) & ~np.isnan(female))
    chosen = chosen[:: max(len(chosen) // count, 1)][:count]
    effects = np.stack(
        [np.ones(len(chosen)), (age[chosen] - MIDDLE_AGE) / 10, 2 * female[chosen] - 1], axis=1
    )
    return _flat(train.pixels[chosen]), effects.astype(np.float32)


def others(root: Path, cache: Path) -> tuple[Floats, Floats]:
    """Hands (at the 64 pixels that they have) and laterals of the gates' training part."""
    gate = project.load(root, cache, SIDE, "gate", bits=8)
    small = project.load(root, cache, 64, "gate", bits=8)
    hands = [i for i, item in enumerate(gate.items) if item.source == "mednist_Hand"]
    laterals = [i for i, item in enumerate(gate.items) if item.frontal == 0]
    # few images: blurred, so that nothing of a single one, such as writing, can be made out
    blurred = [
        Image.fromarray(gate.pixels[i]).filter(ImageFilter.GaussianBlur(3)) for i in laterals
    ]
    return _flat(small.pixels[hands]), _flat(np.stack([np.asarray(image) for image in blurred]))


def _flat(pixels: NDArray[np.unsignedinteger[Any]]) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float32)


def seen(estimator: Estimator, images: list[NDArray[np.uint16]]) -> list[Prediction]:
    """The estimator's word on each image."""
    return estimator.predict(np.stack([normalise(image, estimator.size) for image in images]))


def figures(estimator: Estimator) -> list[str]:
    """A sentence for each kind of phantom."""
    ages = np.linspace(*AGES, CHESTS)
    sexes = ["FM"[number % 2] for number in range(CHESTS)]
    drawn = [
        phantom.chest(age, sex, seed)
        for seed, (age, sex) in enumerate(zip(ages, sexes, strict=True))
    ]
    chests = seen(estimator, drawn)
    least = estimator.manifest.thresholds
    passed = [
        p.in_distribution >= least["in_distribution"]
        and all(score >= least[name] for name, score in p.gates.items())
        for p in chests
    ]
    errors = np.abs(np.array([p.quantity("age").mu for p in chests]) - ages)
    widths = [p.quantity("age").width for p in chests]
    right = [p.category("sex").value == sex for p, sex in zip(chests, sexes, strict=True)]
    hands = seen(estimator, [phantom.hand(seed) for seed in range(OTHERS)])
    taken = [p for p in hands if p.gates["chest"] >= least["chest"]]
    strange = [p for p in taken if p.in_distribution < least["in_distribution"]]
    laterals = seen(estimator, [phantom.lateral(seed) for seed in range(OTHERS)])
    flank = [one.gates["frontal"] < least["frontal"] for one in laterals]
    return [
        f"{CHESTS} chests of {AGES[0]:.0f} to {AGES[1]:.0f} years: {sum(passed)} pass every gate,"
        f" mean absolute difference of the age {errors.mean():.1f} years (largest"
        f" {errors.max():.0f}), {sum(right)} of the sex they were drawn for, 90 % interval"
        f" {np.median(widths):.0f} years wide in the median",
        f"{OTHERS} hands: {OTHERS - len(taken)} are no chest, {len(strange)} others too strange",
        f"{OTHERS} laterals: {sum(flank)} not frontal",
    ]


def main(
    bundle: BundleFolder = BUNDLE,
    root: Root = ROOT,
    cache: CacheFolder = CACHE,
    out: Path = Path("models/phantom.safetensors"),
    count: int = 1800,
    steps: int = 300,
    figures_only: Annotated[
        bool, typer.Option("--figures", help="Only print what the bundle says of phantoms.")
    ] = False,
) -> None:
    """Fit, tune and store."""
    if figures_only:
        print("\n".join(figures(Estimator(bundle, device="cpu"))))
        return
    images, effects = chests(root, cache, count)
    model = fit(CHEST, images, effects)
    hands, laterals = others(root, cache)
    for kind, part in ((HAND, hands), (LATERAL, laterals)):
        model |= fit(kind, part, np.ones((len(part), 1), dtype=np.float32))
    tune(model, bundle, steps)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in model.items()}, out)
    out.chmod(0o644)
    print(f"{len(images)} chests, {len(hands)} hands, {len(laterals)} laterals")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(out)}")
