"""``infer`` and what images hold against their headers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph

ALL_PASS = """
[policy]
min_chest = 0.0
min_frontal = 0.0
min_in_distribution = 0.0
max_age_interval = 200.0
min_sex_certainty = 0.5
"""


def infer(folder: Path, *options: str, config: str = ALL_PASS) -> dict[str, dict[str, Any]]:
    """The lines of the command over the images of ``folder``, by the name of the file."""
    (folder / "node.toml").write_text(config)
    images = [str(path) for path in sorted(folder.iterdir()) if path.suffix != ".toml"]
    arguments = ["infer", *images, "-c", str(folder / "node.toml"), "--json", *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(line["path"]).stem: line for line in lines}


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return phantom.chest(62, "F", 1, 256)


def write(folder: Path, name: str, pixels: np.ndarray, **changes: Any) -> Dataset:
    dataset = radiograph(pixels, study=name, **changes)
    dcmwrite(folder / f"{name}.dcm", dataset, enforce_file_format=True)
    return dataset


def table(entries: np.ndarray) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def test_what_the_pixels_prove_wrong_stands_among_the_rules(
    tmp_path: Path, values: np.ndarray
) -> None:
    write(tmp_path, "plain", values)
    write(tmp_path, "bits", values, BitsStored=10, HighBit=9)
    write(tmp_path, "curve", values, VOILUTSequence=[table(np.arange(1000))])
    lines = infer(tmp_path)
    assert {name: {"I5", "I6"} & set(line["rules"]) for name, line in lines.items()} == {
        "plain": set(),
        "bits": {"I5"},
        "curve": {"I6"},
    }
    assert lines["bits"]["age"] == lines["curve"]["age"] == lines["plain"]["age"]
    assert lines["plain"]["age"] is not None
    quiet = infer(tmp_path, config=f'{ALL_PASS}[rules]\ndisabled = ["I5", "I6"]\n')
    assert not {"I5", "I6"} & {rule for line in quiet.values() for rule in line["rules"]}


def test_the_report_says_it_too(tmp_path: Path, values: np.ndarray) -> None:
    write(tmp_path, "bits", values, BitsStored=10, HighBit=9)
    infer(tmp_path, "--sr", str(tmp_path / "reports"))
    (report,) = (tmp_path / "reports").iterdir()
    assert b"hold more than BitsStored 10" in report.read_bytes()
