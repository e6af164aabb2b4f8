"""Hold the weights of runs against those of the first, image by image.

    python -m training runs models/chest-age-sex runs/eighth --side 288

Each is asked about the same images, so that the gain of one over the first has a much narrower
interval than either's error. Nothing is calibrated and no gate is asked. With
``--left-out`` the images of ``train_other`` that are of these countries are a further set: of runs
that were trained with the same in ``leave_out``, they are of a source left out.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from dicom_ai_node.inference.engine import NETWORK
from dicom_ai_node.inference.torch_engine import load_network
from training.data.images import PROJECT_SETS, Images
from training.data.options import CACHE, ROOT, CacheFolder, Root
from training.data.project import ProjectData
from training.fit.calibrate import answers
from training.fit.start import network_tensors, weights_of
from training.measure import metrics
from training.measure.markdown import table
from training.measure.metrics import Estimate, estimate, resamples

OTHER = "train_other"
OLD = 70.0
Floats = NDArray[np.float64]
Said = tuple[Floats, Floats]
"""Of N images the age in years, and the logit of the first sex."""


def asked(file: Path, images: Sequence[Images]) -> list[Said]:
    """What the MobileNetV2 of ``file`` says of each set of ``images``."""
    tensors = {NETWORK + name: tensor for name, tensor in network_tensors(file).items()}
    network = load_network("mobilenet_v2", tensors, file)

    def said(part: Images) -> Said:
        raw = answers(network, part).values
        age, sex = (raw[name].astype(np.float64) for name in ("age", "sex"))
        return age[:, 0], sex

    return [said(part) for part in images]


def line(name: str, images: Images, said: Said, first: Said) -> Iterator[str]:
    """Cells of a row: set, n, MAE, gain over the first, bias, bias of the old, AUC, gain."""
    years, female = (images.column(c).astype(np.float64) for c in ("age", "female"))
    aged, sexed = ~np.isnan(years), ~np.isnan(female)
    old = aged & (years >= OLD)
    people = np.array([item.patient for item in images.items])
    yield from (name, str(len(images)))
    if aged.any():
        weights, y = resamples(people[aged].tolist()), years[aged]
        new, before = said[0][aged], first[0][aged]
        yield _cell(estimate(metrics.mae, weights, new, y))
        gain = np.abs(before - y) - np.abs(new - y)
        yield _cell(estimate(metrics.mean, weights, gain))
        yield _cell(estimate(metrics.bias, weights, new, y))
        some = resamples(people[old].tolist()) if old.any() else None
        yield "" if some is None else _cell(estimate(metrics.bias, some, said[0][old], years[old]))
    else:
        yield from ("", "", "", "")
    weights, truth = resamples(people[sexed].tolist()), female[sexed]
    yield _cell(estimate(metrics.auc, weights, said[1][sexed], truth))
    both = (said[1][sexed], first[1][sexed])
    yield _cell(estimate(_auc_gain, weights, *both, truth))


def _auc_gain(weights: Floats, new: Floats, first: Floats, truth: Floats) -> Floats:
    return np.asarray(metrics.auc(weights, new, truth) - metrics.auc(weights, first, truth))


def _cell(found: Estimate) -> str:
    digits = 3 if abs(found.value) < 1.05 else 2
    value, low, high = (f"{x:.{digits}f}" for x in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def main(
    folders: Annotated[list[Path], typer.Argument(help="Of runs or bundles.")],
    side: Annotated[int, typer.Option(help="Of the input, pixels.")] = 288,
    chosen: Annotated[
        list[str] | None, typer.Option("--set", help="Set to measure (may be repeated); else all.")
    ] = None,
    left_out: Annotated[
        list[str] | None, typer.Option(help="Country left out of training (may be repeated).")
    ] = None,
    root: Root = ROOT,
    cache: CacheFolder = CACHE,
) -> None:
    """Print a table for each run, the first's own above."""
    data = ProjectData(root, cache)
    names = chosen or [each.name for each in PROJECT_SETS]
    images = [data.load(side, name) for name in names]
    if left_out:
        others = data.load(side, OTHER)
        at = [n for n, item in enumerate(others.items) if item.country in left_out]
        images.append(Images([others.items[n] for n in at], others.pixels[at]))
        names.append(f"{OTHER}: {', '.join(left_out)}")
    heads = ["set", "n", "age MAE", "gain", "bias", f"bias over {OLD:g}", "sex AUC", "gain"]
    first: list[Said] = []
    for folder in folders:
        said = asked(weights_of(folder), images)
        first = first or said
        rows = [list(line(*of)) for of in zip(names, images, said, first, strict=True)]
        print(f"\n{folder}\n\n{table(heads, rows)}", flush=True)
