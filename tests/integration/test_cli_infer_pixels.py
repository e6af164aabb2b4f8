"""``infer`` and what images hold against their headers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
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


def save(folder: Path, name: str, picture: Image.Image, **options: Any) -> None:
    picture.save(folder / name, **options)


def grey8(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values >> 4).astype(np.uint8))


def test_png_and_jpeg_are_answered_like_the_same_image_in_dicom(
    tmp_path: Path, values: np.ndarray
) -> None:
    write(tmp_path, "plain", values)
    grey = grey8(values)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path, "deep.png", Image.fromarray(values.astype(np.uint16)))
    save(tmp_path, "grey.png", grey)
    save(tmp_path, "colour.png", grey.convert("RGB"))
    save(tmp_path, "palette.png", grey.convert("P"))
    save(tmp_path, "alpha.png", grey.convert("RGBA"))
    save(tmp_path, "photo.JPG", grey, quality=98)
    save(tmp_path, "turned.jpg", grey.transpose(Image.Transpose.ROTATE_90), exif=exif, quality=98)
    (tmp_path / "nameless").write_bytes((tmp_path / "grey.png").read_bytes())
    lines = infer(tmp_path)
    plain = lines.pop("plain")
    assert plain["kind"] == "dicom"
    for line in lines.values():
        assert (line["kind"], line["outcome"], line["reason"]) == ("picture", "estimated", None)
        assert line["sop_instance_uid"] is line["recorded"] is line["status"] is None
        assert line["rules"] == []
        assert line["age"]["estimate"] == pytest.approx(plain["age"]["estimate"], abs=1.0)
        assert line["sex"]["estimate"] == plain["sex"]["estimate"]
    assert lines["deep"]["age"] == plain["age"]


def test_what_is_transparent_is_dark(tmp_path: Path, values: np.ndarray) -> None:
    alpha = np.full(values.shape, 255, np.uint8)
    alpha[:, :80] = 0
    hidden = grey8(values).convert("RGBA")
    hidden.putalpha(Image.fromarray(alpha))
    save(tmp_path, "hidden.png", hidden)
    save(tmp_path, "black.png", grey8(np.where(alpha, values, 0)))
    lines = infer(tmp_path)
    assert lines["hidden"]["age"] == lines["black"]["age"]


def test_pictures_have_maps_and_no_reports(
    tmp_path: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "a.png", grey8(values))
    write(tmp_path, "b", values)
    (tmp_path / "node.toml").write_text(ALL_PASS)
    maps, reports = tmp_path / "maps", tmp_path / "reports"
    arguments = [
        *("infer", str(tmp_path / "a.png"), str(tmp_path / "b.dcm")),
        *("-c", str(tmp_path / "node.toml"), "--json"),
        *("--sr", str(reports), "--saliency", str(maps)),
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 1
    assert f"{tmp_path}/a.png: no report: a PNG or JPEG names no patient" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(line["saliency"]) for line in lines] == [2, 2]
    assert len(list(reports.iterdir())) == 1
    assert len(list(maps.iterdir())) == 4


def test_pictures_that_cannot_be_used_have_a_reason(tmp_path: Path, values: np.ndarray) -> None:
    grey = grey8(values)
    save(tmp_path, "cut.png", grey)
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.png").write_bytes(content[:8])
    save(tmp_path, "white.png", Image.new("L", (64, 64), 255))
    save(tmp_path, "bits.png", grey.convert("1"))
    save(tmp_path, "moving.png", grey, save_all=True, append_images=[Image.new("L", grey.size)])
    save(tmp_path, "bomb.png", Image.new("L", (9000, 9000)))
    (tmp_path / "node.toml").write_text(ALL_PASS)
    done = CliRunner().invoke(
        app, ["infer", str(tmp_path), "-c", str(tmp_path / "node.toml"), "--json"]
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {Path(line["path"]).stem: line["reason"]["code"] for line in lines}
    assert found == {
        "cut": "undecodable",
        "empty": "unreadable",
        "white": "blank",
        "bits": "one_bit",
        "moving": "multi_frame",
        "bomb": "too_large",
        "node": "unreadable",
    }
    assert {line["outcome"] for line in lines} == {"refused"}
    (bomb,) = (line for line in lines if "bomb" in line["path"])
    assert "9000 x 9000" in bomb["reason"]["text"]
    assert "limits.pixels = 50000000" in bomb["reason"]["text"]
    assert f"{tmp_path}/empty.png" in done.stderr


def test_maps_of_an_earlier_run_are_no_images(tmp_path: Path, values: np.ndarray) -> None:
    save(tmp_path, "a.png", grey8(values))
    config = tmp_path.with_suffix(".toml")
    config.write_text(ALL_PASS)
    arguments = ["infer", str(tmp_path), "-c", str(config), "--saliency", str(tmp_path / "maps")]
    for _ in range(2):
        done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert len(done.stdout.splitlines()) == 1
    said = CliRunner().invoke(app, arguments).stdout
    assert "1 PNG or JPEG without a header: nothing recorded to compare with." in said


def test_the_configuration_bounds_every_kind_of_file(tmp_path: Path) -> None:
    large = np.tile(np.arange(1200, dtype=np.uint16), (1000, 1))
    write(tmp_path, "native", large)
    write(tmp_path, "packed", large, compressed=True)
    save(tmp_path, "deep.png", Image.fromarray(large))
    for key, most in (("pixels", 1_000_000), ("decoded_bytes", 1 << 21)):
        lines = infer(tmp_path, config=f"{ALL_PASS}[limits]\n{key} = {most}\n")
        assert {line["reason"]["code"] for line in lines.values()} == {"too_large"}
        for line in lines.values():
            assert "1000 x 1200 x 1 samples of 16 bits" in line["reason"]["text"]
            assert f"limits.{key} = {most}" in line["reason"]["text"]
    assert {line["reason"] for line in infer(tmp_path).values()} == {None}
