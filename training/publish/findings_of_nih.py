"""From the folder of NIH's ChestX-ray14 to a bundle of findings, in one command.

    python -m training findings_of_nih /data/ChestXray-NIHCC --out runs/nih \\
        --bundle models/site-findings --minutes 600

Writes index.csv, folds.csv and run.toml into ``out``, trains on four folds of the patients, and
calibrates and measures on the fifth. Each of these files can be changed, and ``train`` and
``findings`` run again with run.toml. Images of other body parts and laterals, by which the gates
learn, can be named there as ``others`` and in ``index`` (docs/training.md). Starts from nothing, as
the published study could not: name ImageNet's weights of torchvision with ``--start``. The weights
of chest-age-sex have seen images of NIH: with them, the fifth fold is not held out.
"""

from pathlib import Path
from typing import Annotated

import typer

from dicom_ai_node.inference.graph import pack as pack_graph
from training import readers
from training.data.folds import assign, write_folds
from training.data.index import read_indexes, relative_to_folder, write_index
from training.fit import config as settings
from training.fit.config import RANDOM, data_of
from training.fit.questions import CHEST_FINDINGS
from training.fit.train import print_roles, train
from training.publish.findings import build

RUN = """\
# Findings of NIH's ChestX-ray14; made by the command findings_of_nih.
bundle = "{bundle}"
architecture = "{architecture}"
start = "{start}"
out = "{out}/run"
cache = "{out}/cache"
{budget}
batch = 32
pixels = {side}
sides = [{side}]
until = [1.0]
low_resolution = [0]
corrupted = 0.03

[archive]
index = ["{out}/index.csv"]
folds = "{out}/folds.csv"
hold_out = 0
"""


def main(
    root: Annotated[Path, typer.Argument(help="Folder that the data set was unpacked into.")],
    out: Annotated[Path, typer.Option(help="Folder of index, folds, configuration and run.")],
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1.0",
    architecture: Annotated[str, typer.Option(help="Of the network.")] = "densenet121",
    start: Annotated[str, typer.Option(help="Weights to start from.")] = RANDOM,
    side: Annotated[int, typer.Option(min=32, help="Pixels.")] = 224,
    minutes: Annotated[float, typer.Option(min=0.1, help="That the run may take.")] = 600.0,
    steps: Annotated[int, typer.Option(min=0, help="Updates, in place of minutes.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="Of which one is held out.")] = 5,
) -> None:
    """Index, deal out, train, calibrate, measure and pack."""
    out.mkdir(parents=True, exist_ok=True)
    write_index(relative_to_folder(out, root, readers.read("nih", root)), out / "index.csv")
    rows = read_indexes(out, [out / "index.csv"])
    write_folds(rows, assign(rows, count=folds), out / "folds.csv")
    run = out / "run.toml"
    run.write_text(
        RUN.format(
            bundle=CHEST_FINDINGS, architecture=architecture, start=start, out=out.as_posix(),
            side=side, budget=f"steps = {steps}" if steps else f"minutes = {minutes}",
        )
    )  # fmt: skip
    config = settings.read(run)
    data = data_of(config, root)
    print_roles(data)
    train(config, root, data)
    print(build(config, data, root, bundle.resolve(), version))
    pack_graph(bundle)
