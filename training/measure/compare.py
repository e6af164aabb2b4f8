"""Train several networks under one budget and measure them on the same images.

    python -m training compare training/configs/compare.toml

The file holds ``[common]`` and one ``[[run]]`` for each network, with the keys of
:mod:`training.fit.config`; a finished run is not trained again. Prints a table with 95 % intervals
over patients, and leaves it in their folder. Small budgets rank what learns fast, not what ends
best.
"""

import argparse
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from dicom_ai_node.inference.engine import NETWORK, load_network, run
from training.data.images import Data
from training.data.project import ProjectData
from training.data.tables import DataError
from training.fit import checkpoint
from training.fit import config as settings
from training.fit.config import WEIGHTS, Config
from training.fit.train import train
from training.measure import metrics
from training.measure.markdown import number, table

MEASURED_ON = ("val", "val_128")


def configs(path: Path) -> list[Config]:
    """The runs of a comparison, each in a folder of its own below ``common.out``.

    Raises
    ------
    SystemExit
        Names the file and the key that is unknown or missing.
    """
    values = tomllib.loads(path.read_text())
    if set(values) != {"common", "run"}:
        raise SystemExit(f"{path}: expected [common] and [[run]], got {sorted(values)}")
    return [_config(path, values["common"], one) for one in values["run"]]


def _config(path: Path, common: dict[str, Any], one: dict[str, Any]) -> Config:
    if "name" not in one:
        raise SystemExit(f"{path}: run.name: expected in every [[run]]")
    own = {key: value for key, value in one.items() if key != "name"}
    out = f"{common.get('out', 'runs/compare')}/{one['name']}"
    return settings.checked(path, common | own | {"out": out})


def measured(config: Config, data: Data) -> dict[str, str]:
    """MAE and AUC of a finished run on each of :data:`MEASURED_ON`, as text."""
    file = Path(config.out) / WEIGHTS
    tensors = {NETWORK + name: tensor for name, tensor in load_file(file).items()}
    network = load_network(config.architecture, tensors, file)
    row: dict[str, str] = {}
    for name in MEASURED_ON:
        images = data.load(config.sides[-1], name)
        raw = run(network, np.concatenate(list(images.floats())))
        years, female = (images.column(c).astype(np.float64) for c in ("age", "female"))
        weights = metrics.resamples([item.patient for item in images.items])
        for title, statistic, answer, truth in (
            ("MAE", metrics.mae, raw.mu.astype(np.float64), years),
            ("AUC", metrics.auc, raw.sex.astype(np.float64), female),
        ):
            known = ~np.isnan(truth)
            one = metrics.estimate(statistic, weights[:, known], answer[known], truth[known])
            row[f"{name} {title}"] = f"{number(one.value)} ({number(one.low)}-{number(one.high)})"
    return row


def main() -> None:
    """Read the command line, train what is not trained, measure, print the table."""
    parser = argparse.ArgumentParser(description="compare networks under one budget")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    rows = []
    for config in configs(given.file):
        own = ProjectData(given.data, Path(config.cache))
        try:
            train(config, given.data, own)
        except DataError as error:
            raise SystemExit(f"error: {error}") from error
        steps = checkpoint.read(Path(config.out))["run"]["steps"]
        name = Path(config.out).name
        rows.append({"run": name, "images": f"{steps * config.batch:,}"})
        rows[-1] |= measured(config, own)
        print(rows[-1], flush=True)
    text = table(list(rows[0]), [list(row.values()) for row in rows])
    (Path(config.out).parent / "compare.md").write_text(text + "\n")
    print(text)
