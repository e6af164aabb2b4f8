"""Every real DICOM file beside the checkout ends in a tensor or in a reason."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.pixels import RefusalCode, load, read_frame

SIZE = 64
Tensor = NDArray[np.float32]


@pytest.fixture
def corpus(shared_data: Path) -> Path:
    folder = shared_data / "dicom"
    if not folder.is_dir():
        pytest.skip("no ../shared/data/dicom beside this checkout")
    return folder


def outcome(path: Path, make: Callable[[Path], Tensor]) -> str:
    """``tensor`` or the code of the refusal; anything else raised fails the test."""
    try:
        tensor = make(path)
    except PixelsRefused as refusal:
        (code,) = (code for code in RefusalCode if code == refusal.reason.code)
        return code.value
    except UnreadableInstance:
        return "unreadable"
    assert tensor.shape == (SIZE, SIZE)
    assert tensor.dtype == np.float32
    assert tensor.min() == 0.0
    assert tensor.max() == pytest.approx(1.0, abs=1e-6)  # float32 rounds the stretch
    return "tensor"


def table(corpus: Path, make: Callable[[Path], Tensor]) -> dict[tuple[str, str], int]:
    counts: Counter[tuple[str, str]] = Counter()
    for path in sorted(corpus.glob("*/*.dcm")):
        counts[path.parent.name, outcome(path, make)] += 1
    for (folder, result), count in sorted(counts.items()):
        print(f"{folder:8} {result:26} {count:4}")
    return counts


def test_as_radiographs(corpus: Path) -> None:
    counts = table(corpus, lambda path: load(path, size=SIZE))
    chest = {result: count for (folder, result), count in counts.items() if folder == "chest"}
    assert set(chest) == {"tensor"}
    other = {result for folder, result in counts if folder == "other"}
    other -= {"tensor", "not_projection_radiograph", "colour", "multi_frame", "undecodable"}
    # fo-dicom's GH364 has a delimiter that ends nothing, so that its header cannot be followed.
    assert other <= {"unreadable"}
    assert counts["other", "unreadable"] <= 1


def test_as_images_of_any_kind(corpus: Path) -> None:
    """Without the header's gate the CT, MR and US files try the decoders too."""
    counts = table(corpus, lambda path: read_frame(path, size=SIZE).shown(SIZE).tensor)
    assert sum(count for (_, result), count in counts.items() if result == "tensor") >= 200


def test_polarity_of_the_twins(corpus: Path) -> None:
    """The same stored pixels under both interpretations are each other's negative."""
    one = load(corpus / "chest/siim_train_6904_62M_PA.dcm", size=SIZE)
    other = load(corpus / "chest/txv_fake_MONOCHROME1_62M_PA.dcm", size=SIZE)
    np.testing.assert_allclose(one + other, 1.0, atol=1e-5)


def test_lungs_are_dark_and_the_spine_bright(corpus: Path) -> None:
    for name in ("gdcm_CR_MONO1_10bit_440px_PA", "nema_RG1_MONO1_15bit_J2K_F_PA"):
        tensor = load(corpus / f"chest/{name}.dcm", size=SIZE)
        middle = tensor[24:44]
        lungs = np.concatenate((middle[:, 12:22], middle[:, 42:52]), axis=1)
        assert lungs.mean() < middle[:, 29:35].mean() - 0.2
