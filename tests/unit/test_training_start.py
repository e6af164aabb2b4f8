"""torchvision's weights answer in our backbones as they do in torchvision's own networks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference import bundle, network
from dicom_ai_node.inference.heads import CHEST, FRONTAL
from training.data.tables import DataError
from training.fit import start
from training.fit.config import RunConfig

MEAN, DEVIATION = (torch.tensor(of)[:, None, None] for of in (start.MEAN, start.DEVIATION))
NAME = "ResNet18_Weights.IMAGENET1K_V1"


def published(architecture: str) -> nn.Module:
    """torchvision's network, each channel with weights and statistics of its own."""
    from torchvision import models

    torch.manual_seed(0)
    made: nn.Module = getattr(models, architecture)(weights=None)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return made.eval()


def maps(made: nn.Module) -> nn.Sequential:
    """What torchvision's network pools."""
    if isinstance(found := getattr(made, "features", None), nn.Sequential):
        return found.append(nn.ReLU()) if hasattr(found, "norm5") else found
    return nn.Sequential(*list(made.children())[:-2])


def colours(images: Tensor) -> Tensor:
    """Grey images (N, 1, S, S) as torchvision's networks are shown them."""
    return (images - MEAN) / DEVIATION


def started(architecture: str, file: Path | str) -> network.Network:
    settings = RunConfig(architecture=architecture, start=str(file))
    return start.network(settings, Path(), lambda _: torch.zeros(0)).eval()


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 1, 64, 64)


@pytest.mark.parametrize("architecture", sorted(network.BACKBONES))
@torch.no_grad()
def test_features_are_those_of_torchvision(
    architecture: str, tmp_path: Path, images: Tensor
) -> None:
    """To the last pixel, where its border too is padded with mid-grey."""
    made = published(architecture)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    ours = started(architecture, tmp_path / "weights.pth")
    expected = maps(made)
    if architecture == "mobilenet_v2":  # padded like TensorFlow's
        expected = network.mobilenet_v2(channels=3)[0].eval()
        expected.load_state_dict(maps(made).state_dict())
    first = next(module for module in expected.modules() if isinstance(module, nn.Conv2d))
    pads = [0, 1, 0, 1] if architecture == "mobilenet_v2" else 4 * [int(first.padding[0])]
    bare = nn.Conv2d(3, first.out_channels, first.kernel_size[0], stride=2, bias=False)
    bare.load_state_dict(first.state_dict())
    network._replace(expected, start.FIRST[architecture][0], bare)
    torch.testing.assert_close(
        ours.maps(images)[0],
        expected(colours(functional.pad(images, pads, value=0.5))),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("architecture", sorted(network.BACKBONES))
@torch.no_grad()
def test_inside_the_image_torchvision_sees_the_same(
    architecture: str, tmp_path: Path, images: Tensor
) -> None:
    made = published(architecture)
    save_file(made.state_dict(), tmp_path / "weights.safetensors")
    ours = started(architecture, tmp_path / "weights.safetensors").backbone
    names = start.FIRST[architecture]
    theirs = dict(zip(names, (m for m in made.modules() if isinstance(m, LAYERS)), strict=False))
    # a window of MobileNetV2 here lies a pixel further right and down than torchvision's
    moved = images.roll((1, 1), (2, 3)) if architecture == "mobilenet_v2" else images
    found, expected = moved * 2 - 1, colours(images)
    for name in names:
        found, expected = ours.get_submodule(name)(found), theirs[name](expected)
    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])


LAYERS = (nn.Conv2d, nn.BatchNorm2d)


@pytest.mark.parametrize("channels", [2, 3])
@torch.no_grad()
def test_several_equal_channels_show_what_a_grey_one_does(
    channels: int, tmp_path: Path, images: Tensor
) -> None:
    """Of a network of this project, and of torchvision's, whose colours three channels become."""
    save_file(published("resnet18").state_dict(), tmp_path / "published.safetensors")
    rows = tuple(gate.model_copy(update={"output": n}) for n, gate in enumerate((CHEST, FRONTAL)))
    files = [tmp_path / "published.safetensors", tmp_path / "own.safetensors"]
    save_file(started("resnet18", files[0]).state_dict(), files[1])
    for file in files:
        settings = RunConfig(architecture="resnet18", start=str(file))
        grey = started("resnet18", file).maps(images)[0]
        several = start.network(settings, Path(), lambda _: torch.zeros(0), rows, channels).eval()
        found = several.maps(images.repeat(1, channels, 1, 1))[0]
        torch.testing.assert_close(found, grey, rtol=1e-3, atol=1e-4)


def test_weights_by_name_are_taken_from_the_cache_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(DataError, match=rf"checkpoints/resnet18-\w+\.pth: expected .*{NAME}"):
        started("resnet18", NAME)
    with pytest.raises(DataError, match=rf"DenseNet121_Weights\.IMAGENET1K_V1; got '{NAME}'"):
        started("densenet121", NAME)
    assert not list(tmp_path.iterdir())
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    state = published("resnet18").state_dict()
    torch.save(state, file)
    made = started("resnet18", NAME).backbone
    assert torch.equal(made.get_parameter("7.1.conv2.weight"), state["layer4.1.conv2.weight"])
    said = start.words(RunConfig(architecture="resnet18", start=NAME))
    assert said == f"weights with SHA-256 {bundle.sha256(file)}"


def test_names_of_older_files_are_understood(tmp_path: Path) -> None:
    """As in the files that torchvision still publishes of DenseNet."""
    state = published("densenet121").state_dict()
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in state.items()
        if "num_batches" not in name
    }
    torch.save(old, tmp_path / "old.pth")
    made = started("densenet121", tmp_path / "old.pth").backbone
    name = "denseblock2.denselayer3.conv2.weight"
    assert torch.equal(made.get_parameter(name), state[f"features.{name}"])


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    state = published("resnet18").state_dict()
    files = {
        "junk.pth": b"junk",
        "nothing.pth": None,
        "code.pth": Path("code"),
        "nested.pth": {"model": state},
        "grey.pth": state | {"conv1.weight": state["conv1.weight"][:, :1]},
    }
    for name, content in files.items():
        file = tmp_path / name
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
        with pytest.raises(DataError, match=rf"{name}: expected"):
            started("resnet18", file)
    torch.save(
        {n: t for n, t in state.items() if n != "layer1.0.conv1.weight"}, tmp_path / "cut.pth"
    )
    with pytest.raises(BundleError, match=r"4\.0\.conv1\.weight is missing"):
        started("resnet18", tmp_path / "cut.pth")


def test_no_weights_at_hand_are_never_random_ones(tmp_path: Path) -> None:
    settings = RunConfig(architecture="densenet121")
    with pytest.raises(DataError, match=r"start: expected weights of densenet121, .* 'random'"):
        start.network(settings, tmp_path, lambda _: torch.zeros(0))
    assert start.words(RunConfig(architecture="densenet121", start="random")) == "random weights"
