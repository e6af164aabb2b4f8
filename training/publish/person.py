"""Fit the embedding of chests to a bundle, measure it, and pack it into the bundle.

    python -m training person --bundle models/chest-age-sex           # prints the figures
    python -m training person --bundle models/chest-age-sex --write   # and packs it

Learnt from patients with two or more images in the training splits, at most four of each. Figures
and scale are cross-fitted: a layer embeds no patient that it was fitted on. `val` and `val_128`
have one image of each patient; `external_dev`, `external_dev2` and `hannover` are only looked at,
with the layer of all. The network has seen the images of the training splits with their ages and
sexes, so age and sex speak against a planted mix-up there more clearly than they would elsewhere.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from dicom_ai_node.answers import Prediction
from dicom_ai_node.inference.bundle import MANIFEST, WEIGHTS, EmbeddingPart, Figure, sha256
from dicom_ai_node.inference.embedding import GRID, cells
from dicom_ai_node.inference.engine import BRANCH, Estimator, read_tensors
from dicom_ai_node.inference.graph import pack as pack_graph
from dicom_ai_node.likeness import Embedding
from dicom_ai_node.parts import gates_of
from dicom_ai_node.pixels.normalise import normalise
from training.data.options import BUNDLE, ROOT, BundleFolder, Root
from training.data.project import read
from training.fit import person as fit
from training.measure import person as measure
from training.measure.markdown import table
from training.measure.person import Person

INSIDE = ("train", "train_128")
OUTSIDE = {"external_dev": "external_dev", "external_dev2": "external_dev", "aux": "hannover"}
"""By split the data set that its images are told as."""
MOST = 4
"""Images of one patient."""
_BATCH = 32
SHARES = (0.01, 0.05)


@dataclass(frozen=True, slots=True)
class Seen:
    """Images of people who have several, and what the network makes of them."""

    people: list[Person]
    sets: NDArray[np.str_]
    """``inside``, ``external_dev`` or ``hannover``, shape (N,)."""
    cells: NDArray[np.float32]
    predictions: list[Prediction]

    def at(self, name: str) -> NDArray[np.int64]:
        """Positions of the images of a set."""
        return np.flatnonzero(self.sets == name)


def chosen(root: Path) -> Iterator[tuple[Path, str, Person]]:
    """Yield the images of patients with two or more: file, set, and whose it is."""
    rows = []
    for folder in ("cxr", "cxr_more"):
        with (root / folder / "index.csv").open(newline="") as file:
            rows += list(csv.DictReader(file))
    rows = [row for row in rows if row["patient_id"] and (name := _set_of(row)) and name]
    counts = Counter(row["patient_id"] for row in rows)
    taken = Counter[str]()
    for at in np.random.default_rng(0).permutation(len(rows)).tolist():
        row = rows[at]
        patient = row["patient_id"]
        if counts[patient] > 1 and taken[patient] < MOST:
            taken[patient] += 1
            source = "nih 128" if row["source"] == "nih_128" else row["source"]
            kind = "nih" if _set_of(row) == "inside" and source != "nih 128" else source
            age = float(row["age_years"] or "nan")
            about = Person(patient, row["view"], row["sex"], age, kind)
            yield root / row["path"], _set_of(row), about


def _set_of(row: dict[str, str]) -> str:
    """Return the set of a row of the index, '' of none. Of NIH only true patient ids count."""
    if row["split"] in INSIDE:
        return "inside" if row["patient_id"].startswith("nih_") else ""
    if row["split"] == "aux" and row["source"] != "hannover":
        return ""
    return OUTSIDE.get(row["split"], "")


def look(estimator: Estimator, root: Path) -> Seen:
    """Show the network every chosen image, once."""
    images = list(chosen(root))
    found: list[NDArray[np.float32]] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], maps: Tensor) -> None:
        found.append(cells(maps).float().cpu().numpy())

    network = estimator.network
    hook = network.backbone[network.middle - 1].register_forward_hook(keep)
    predictions: list[Prediction] = []
    for start in range(0, len(images), _BATCH):
        part = images[start : start + _BATCH]
        pixels = np.stack([normalise(read(path), estimator.size) for path, _, _ in part])
        predictions += estimator.predict(pixels.astype(np.float32))
    hook.remove()
    sets = np.array([name for _, name, _ in images])
    return Seen([about for _, _, about in images], sets, np.concatenate(found), predictions)


def embedded(seen: Seen) -> tuple[fit.Layer, NDArray[np.float32]]:
    """Return the layer of all patients inside, and embeddings by layers that knew no patient."""
    patients = np.array([one.patient for one in seen.people])
    folds = np.array([fit.fold_of(patient) for patient in patients])
    inside = seen.sets == "inside"
    layer = fit.fit(seen.cells[inside], patients[inside])
    embeddings = layer.embed(seen.cells)
    for fold in range(fit.FOLDS):
        rest, left_out = inside & (folds != fold), inside & (folds == fold)
        part = fit.fit(seen.cells[rest], patients[rest])
        embeddings[left_out] = part.embed(seen.cells[left_out])
    return layer, embeddings


def figures(seen: Seen, embeddings: NDArray[np.float32]) -> Iterator[Figure]:
    """Yield the equal error rates by set, kind of impostor, and view."""
    for name in ("inside", "external_dev", "hannover"):
        at = seen.at(name)
        people, own = [seen.people[i] for i in at], embeddings[at]
        views = np.array([one.view for one in people])
        for kind in ("random", "hard"):
            same, other = measure.paired(people, hard=kind == "hard")
            for view in ("any", "same", "other"):
                one, two = (_of_view(pairs, views, view) for pairs in (same, other))
                if len(one) < 20 or len(two) < 20:
                    continue
                found = measure.eer(people, own, one, two)
                group = f"{kind} impostors, {view} view"
                yield Figure(
                    dataset=name,
                    quantity="equal error rate",
                    group=group,
                    value=round(found.value, 4),
                    low=round(found.low, 4),
                    high=round(found.high, 4),
                    n=len({people[i].patient for i in one[:, 0]}),
                )


def _of_view(pairs: measure.Pairs, views: NDArray[np.str_], which: str) -> measure.Pairs:
    alike = views[pairs[:, 0]] == views[pairs[:, 1]]
    return pairs if which == "any" else pairs[alike if which == "same" else ~alike]


def ranking(
    seen: Seen, embeddings: NDArray[np.float32], part: EmbeddingPart, estimator: Estimator
) -> Iterator[list[str]]:
    """Yield lines of the table of planted mix-ups, inside."""
    at = [i for i in seen.at("inside") if seen.people[i].age == seen.people[i].age]
    people, said = [seen.people[i] for i in at], [seen.predictions[i] for i in at]
    vectors = [tuple(embeddings[i].tolist()) for i in at]
    chests = [Embedding("", vector, part.scale) for vector in vectors]
    gates = gates_of(estimator.manifest)
    for share in SHARES:
        for alike in (False, True):
            pair = measure.ranked(people, said, chests, gates, share=share, alike=alike)
            for evidence, found in zip(("age and sex", "and the chest"), pair, strict=True):
                who = "same sex and age" if alike else "anybody"
                values = [
                    f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
                    for one in (found.auc, found.precision)
                ]
                yield [f"{100 * share:g} %", who, evidence, str(len(people)), *values]


def pack(bundle: Path, layer: fit.Layer, part: EmbeddingPart) -> None:
    """Write the layer and what is said of it into a bundle, in place of an earlier one."""
    tensors = {k: v for k, v in read_tensors(bundle / WEIGHTS).items() if not k.startswith(BRANCH)}
    tensors |= {f"{BRANCH}layer.weight": layer.weight, f"{BRANCH}layer.bias": layer.bias}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, bundle / WEIGHTS)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["embedding"] = part.model_dump(mode="json")
    manifest["sha256"] = sha256(bundle / WEIGHTS)
    (bundle / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def main(
    bundle: BundleFolder = BUNDLE,
    root: Root = ROOT,
    write: Annotated[bool, typer.Option(help="Pack it into the bundle.")] = False,
    ranks: Annotated[bool, typer.Option(help="Rank planted mix-ups, too.")] = True,
) -> None:
    """Fit, measure and print."""
    estimator = Estimator(bundle, device="cpu", eager=True)
    seen = look(estimator, root)
    layer, embeddings = embedded(seen)
    at = seen.at("inside")
    people = [seen.people[i] for i in at]
    same, other = measure.paired(people, hard=True)
    own = embeddings[at]
    count = len({one.patient for one in people})
    alike, unlike = (measure.similarities(own, pairs) for pairs in (same, other))
    found = tuple(figures(seen, embeddings))
    part = EmbeddingPart(
        channels=layer.weight.shape[1] // GRID**2,
        scale=fit.scale(alike, unlike, count),
        patients=count,
        figures=found,
    )
    heads = ["images of", "pairs", "patients", "equal error rate"]
    print(
        table(
            heads,
            [
                [one.dataset, one.group, str(one.n), f"{one.value:.3f} ({one.low:.3f} to"
                 f" {one.high:.3f})"]
                for one in found
            ],
        )
    )  # fmt: skip
    print(f"\n{len(at)} images of {count} patients inside; {part.scale}\n")
    if write:
        pack(bundle, layer, part)
        pack_graph(bundle)
    if ranks:
        heads = ["planted", "between", "ranked by", "studies", "AUC", "precision"]
        print(table(heads, list(ranking(seen, embeddings, part, estimator))))
