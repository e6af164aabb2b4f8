"""What the commands say of findings, regions and research answers, read at 80 columns."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from rich.cells import cell_len
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.inference.heads import (
    GATES,
    HEADS,
    FindingsHead,
)
from dicom_ai_node.terminal import console
from tests.builders.bundles import CT, YEARS, invented_bundle, regions
from tests.builders.series import section

LABELS = tuple(f"Finding_{number}" for number in range(14))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A radiograph, nine sections of a CT, and a configuration that asks everything of them."""
    made = tmp_path_factory.mktemp("questions")
    region = regions("CHEST", "ABDOMEN", "KNEE", name="body_region")
    bundles = [
        invented_bundle(made / "chest", HEADS, gates=GATES),
        invented_bundle(
            made / "chest-findings",
            [FindingsHead(name="findings", output=0, labels=LABELS)],
            seed=2,
        ),
        invented_bundle(made / "ct-mr-region", [region], seed=3, accepts=CT | {"sample": 4}),
        invented_bundle(made / "ct-age-slice", [YEARS], seed=4, accepts=CT, research=True),
    ]
    first, *further = map(str, bundles)
    (made / "node.toml").write_text(
        f"[model]\nbundle = {json.dumps(first)}\nfurther = {json.dumps(further)}\n"
        'device = "cpu"\n[policy]\nmax_age_interval = 200\nmin_sex_certainty = 0.5\n'
        "min_body_part_certainty = 0\n"
    )
    study = made / "study"
    study.mkdir()
    pixels = np.random.default_rng(1).integers(0, 4000, (200, 200), dtype=np.uint16)
    images = {"film": radiograph(pixels, study="film")}
    images |= {f"ct{number}": section(number, study="ct") for number in range(1, 10)}
    for name, image in images.items():
        dcmwrite(study / f"{name}.dcm", image, enforce_file_format=True)
    return made


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    monkeypatch.setattr(console, "width", 80)
    command = [*arguments, "-c", str(folder / "node.toml")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def infer(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[str]:
    return run(folder, monkeypatch, "infer", str(folder / "study"), *options)


def test_infer_says_who_answers_what_below_each_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = infer(folder, monkeypatch)
    assert max(map(cell_len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    assert "chest-findings: findings Finding" in said
    assert "the most probable of 14; not for diagnosis" in said
    assert "ct-age-slice, for research" in said
    (study,) = [line for line in lines if line.startswith("study of ct1.dcm: 9 images")]
    at = lines.index(study)
    assert lines[at + 1].startswith("  ct-mr-region: body region ")
    assert lines[at + 1].endswith(" (4 of 9 images read)")
    assert lines[at + 2].split() == ["Series", "Images", "Read", "Shows"]
    assert lines[at + 3].split()[:5] == ["ct1.dcm", "9", "4", "body", "region"]
    assert "ct-mr-region" not in " ".join(lines[:at]), "no image says it alone"
    each = infer(folder, monkeypatch, "--images")
    assert sum("ct-mr-region: body region" in line for line in each) == 4 + 1


def test_in_json_the_study_stands_beside_the_images_of_a_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [json.loads(line) for line in infer(folder, monkeypatch, "--json")]
    ct = [one for one in documents if "ct" in Path(one["path"]).name]
    assert {one["study"]["offered"] for one in ct} == {9}
    assert {one["study"]["read"] for one in ct} == {4}
    assert all(one["study"]["body_region"]["estimate"] for one in ct)
    assert sum(one["outcome"] == "header_only" for one in ct) == 5
    assert all(one["further"][0]["research"] is True for one in ct)
    (film,) = [one for one in documents if one not in ct]
    assert not {"study", "research"} & film.keys()


def test_maps_are_made_of_what_was_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = tmp_path / "maps"
    lines = infer(folder, monkeypatch, "--saliency", str(maps))
    names = [path.stem.rsplit("-", 1)[1] for path in maps.iterdir()]
    assert {name: names.count(name) for name in names} == {
        "age": 10, "sex": 1, "findings": 1, "body_region": 4,
    }  # fmt: skip
    assert "16 saliency maps in " in " ".join(lines)


def test_model_show_says_what_is_asked_seen_and_for_what(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(name: str) -> str:
        lines = run(folder, monkeypatch, "model", "show", str(folder / name))
        assert max(map(cell_len, lines)) <= 80
        return " ".join(" ".join(lines).split())

    region = shown("ct-mr-region")
    assert "sees at most 4 images of a series of modality CT" in region
    assert "body region: CHEST, ABDOMEN, KNEE; held against BodyPartExamined" in region
    assert "in use as model.further" in region
    assert "findings: Finding 0, Finding 1," in shown("chest-findings")
    assert "use for research: reported and marked so, never held" in shown("ct-age-slice")
    assert "for research" not in shown("chest").replace("For research", "")
