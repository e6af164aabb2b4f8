"""Networks of others: the same architectures with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmwrite
from torch import Tensor, nn
from typer.testing import CliRunner

from dicom_ai_node.analyse.files import analyse_files
from dicom_ai_node.app import serve
from dicom_ai_node.cli import app, common
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference import bundle, foreign, imported, senet
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.foreign import convert, load_imported


def random_state(network: nn.Module) -> dict[str, Tensor]:
    """A state dict in which every tensor matters, the batch norms' among them."""
    torch.manual_seed(3)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            state[name] = 0.5 + torch.rand_like(tensor)
        elif name.endswith(("running_mean", "bias")):
            state[name] = 0.1 * torch.randn_like(tensor)
    return state


def rewrite(path: Path, **values: object) -> None:
    file = path / bundle.IMPORTED
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture(scope="module")
def mira_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the names that Lightning gives to MIRA's network."""
    file = tmp_path_factory.mktemp("published") / "mira.ckpt"
    torch.manual_seed(7)
    state = random_state(foreign.MiraSex())
    state["model.fc.weight"] *= 1e-4  # else the answer is as good as certain
    torch.save({"state_dict": state}, file)
    return file


@pytest.fixture(scope="module")
def mira(mira_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "mira-sex"
    convert("mira-sex", mira_file, out)
    return out


@pytest.fixture
def small_senet(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """SENet with one block a stage, at half its width."""
    monkeypatch.setattr(senet, "BLOCKS", (1, 1, 1, 1))
    monkeypatch.setattr(senet, "WIDTH", 32)
    torch.manual_seed(4)
    return senet.senet154_age().eval()


def test_there_is_an_adapter_for_each_network_and_no_other() -> None:
    assert set(foreign.NETWORKS) == set(imported.PUBLISHED)


def test_senet_is_the_one_that_was_published() -> None:
    with torch.device("meta"):
        network = senet.senet154_age()
    body = sum(each.numel() for name, each in network.named_parameters() if name.startswith("0."))
    assert body == 115_088_984 - 2_049_000  # SENet-154 without its classifier of 1000
    state = network.state_dict()
    for name, shape in {
        "0.0.conv3.weight": (128, 64, 3, 3),
        "0.1.0.downsample.0.weight": (256, 128, 1, 1),
        "0.1.0.se_module.fc1.bias": (16,),
        "0.2.0.downsample.0.weight": (512, 256, 3, 3),
        "0.3.35.conv2.weight": (1024, 8, 3, 3),
        "0.4.2.bn3.running_var": (2048,),
        "1.2.running_mean": (4096,),
        "1.4.weight": (512, 4096),
        "1.6.bias": (512,),
        "1.8.weight": (1, 512),
    }.items():
        assert state[name].shape == shape


def test_riken_sees_imagenet_colours() -> None:
    adapter = foreign.RikenAge.__new__(foreign.RikenAge)
    nn.Module.__init__(adapter)
    adapter.model = nn.Flatten()
    for channel, (mean, sd) in enumerate(
        zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    ):
        adapter.model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Pick(channel))
        assert adapter(torch.full((1, 1, 4, 4), mean)).item() == pytest.approx(0, abs=1e-6)
        assert adapter(torch.full((1, 1, 4, 4), mean + sd)).item() == pytest.approx(1, abs=1e-5)


class Pick(nn.Module):
    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.column : self.column + 1]


def test_mira_sees_bytes_and_says_male_first() -> None:
    adapter = foreign.MiraSex.__new__(foreign.MiraSex)
    nn.Module.__init__(adapter)
    adapter.model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Male())
    assert adapter(torch.ones(1, 1, 4, 4)).item() == -255


class Male(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 2], torch.zeros(len(x))], dim=1)


def test_riken_answers_as_its_network(tmp_path: Path, small_senet: nn.Module) -> None:
    state = random_state(small_senet)
    state["1.8.weight"] *= 1000  # an answer in years, not in thousandths
    small_senet.load_state_dict(state)
    torch.save(state, tmp_path / "riken.pth")
    manifest = convert("riken-age", tmp_path / "riken.pth", tmp_path / "riken-age")
    assert manifest.answers == "age"
    images = np.random.default_rng(5).random((2, 320, 320), dtype=np.float32)
    images[1] *= 0.3
    mean, sd = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    seen = torch.from_numpy(((images[..., None] - mean) / sd).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        expected = small_senet(seen)[:, 0].numpy()
    assert abs(expected[0] - expected[1]) > 0.1
    found = load_imported(tmp_path / "riken-age")(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_mira_answers_as_its_network(mira_file: Path, mira: Path) -> None:
    from torchvision.models import resnet34

    network = resnet34(weights=None, num_classes=2).eval()
    read = torch.load(mira_file, weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("model."): each for name, each in read.items()})
    images = np.random.default_rng(6).random((3, 224, 224), dtype=np.float32)
    images[1] *= 0.3
    with torch.inference_mode():
        logits = network(torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1) * 255)
    expected = logits.softmax(1)[:, 1].numpy()
    assert 0.01 < expected.min() < expected.max() - 0.01 < 0.98
    other = load_imported(mira)
    np.testing.assert_allclose(other(images), expected, rtol=1e-4)
    assert other(images[:0]).shape == (0,)
    with pytest.raises(ValueError, match="expected float32"):
        other(images[:, ::2])


def test_the_manifest_says_what_it_is_and_what_it_is_not(mira_file: Path, mira: Path) -> None:
    manifest = imported.verify_imported(mira)
    assert manifest.calibrated is False
    assert manifest.note.startswith("Untested with the published weights")
    assert manifest.source_sha256 == bundle.sha256(mira_file)
    assert manifest.identity.sha256 == bundle.sha256(mira / bundle.WEIGHTS)
    assert "Apache-2.0" in manifest.licence


def test_weights_of_another_network_are_refused(mira_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"mira\.ckpt: expected the tensors of riken-age"):
        convert("riken-age", mira_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_used_folder_is_left_alone(mira_file: Path, mira: Path) -> None:
    with pytest.raises(BundleError, match="expected a new or empty folder"):
        convert("mira-sex", mira_file, mira)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibrated": True}, "calibrated"),
        ({"sha256": "0" * 64}, r"weights\.safetensors: SHA-256 is"),
        ({"name": "emory-race"}, "'emory-race', expected one of riken-age, mira-sex"),
        ({"answers": "age"}, "expected mira-sex to answer sex from images of 224"),
        ({"input": {"contract": "square-2", "size": 224}}, "'square-2', not 'square-1'"),
    ],
)
def test_an_altered_manifest_is_refused(
    mira: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / bundle.WEIGHTS).symlink_to(mira / bundle.WEIGHTS)
    (copied / bundle.IMPORTED).write_bytes((mira / bundle.IMPORTED).read_bytes())
    rewrite(copied, **change)
    with pytest.raises(BundleError, match=message):
        load_imported(copied)


def test_the_node_does_not_answer_with_an_imported_network(mira: Path, tmp_path: Path) -> None:
    config = parse_config({"model": {"bundle": str(mira)}})
    for attempt in (
        lambda: serve(config, tmp_path / "node.toml"),
        lambda: Estimator(mira),
        lambda: list(analyse_files([], config)),
    ):
        with pytest.raises(BundleError, match="not calibrated and has no gates"):
            attempt()


def test_beside_answers_where_the_bundle_does(mira: Path, tmp_path: Path) -> None:
    files = {"chest.dcm": phantom.chest(60, "F", 3, 512), "hand.dcm": phantom.hand(1, 512)}
    for name, pixels in files.items():
        dcmwrite(tmp_path / name, radiograph(pixels, study=name), enforce_file_format=True)
    answers = {
        Path(one.document["path"]).name: one.document
        for one in analyse_files(
            [tmp_path / name for name in files],
            Config(),
            reports=tmp_path / "reports",
            beside=[mira],
        )
    }
    (said,) = answers["chest.dcm"]["beside"]
    assert said["name"] == "mira-sex"
    assert said["age"] is None
    assert 0 <= said["probability_female"] <= 1
    assert said["calibrated"] is False
    assert answers["hand.dcm"]["outcome"] == "abstained"
    assert answers["hand.dcm"]["beside"] == []
    reports = list((tmp_path / "reports").iterdir())
    assert reports
    assert not any(b"mira" in report.read_bytes() for report in reports)


def test_the_table_marks_what_is_not_calibrated(
    mira: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.console, "_width", 200)
    file = tmp_path / "chest.dcm"
    picture = radiograph(phantom.chest(60, "F", 3, 512), study="s")
    dcmwrite(file, picture, enforce_file_format=True)
    done = CliRunner().invoke(app, ["infer", str(file), "--beside", str(mira)])
    assert done.exit_code == 0
    assert "mira-sex p(F) 0." in done.output
    assert "untested and uncalibrated" in done.output


def test_the_command_line(mira_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = CliRunner()
    arguments = ["model", "import", "mira-sex", "--weights", str(mira_file), "--out", str(out)]
    done = run.invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "Untested with the published weights" in " ".join(done.output.split())
    assert "Not calibrated" in done.output
    shown = json.loads(run.invoke(app, ["model", "show", str(out), "--json"]).output)
    assert shown["kind"] == "imported"
    assert run.invoke(app, ["model", "verify", str(out)]).exit_code == 0
