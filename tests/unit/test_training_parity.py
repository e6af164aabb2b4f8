import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import ENCODERS
from dicom_ai_node.dicom.syntaxes import NATIVE_SYNTAXES
from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels import normalise
from training.measure import criteria, parity


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    estimator = Estimator(default_bundle(), device="cpu")
    greys = [(phantom.chest(45, "F", 2, 256) >> 4).astype(np.uint8)]
    seen = np.stack([normalise(grey, estimator.size) for grey in greys])
    # Too bright, so that there is a difference to be found.
    brighter = np.minimum(seen + np.float32(16 / 255), np.float32(1))
    return parity.compare(estimator, greys, {criteria.SIDES: brighter, criteria.UNCACHED: seen})


def value(figures: list[Figure], group: str, quantity: str = criteria.YEARS_APART) -> float:
    return next(f.value for f in figures if (f.group, f.quantity) == (group, quantity))


def test_both_sides_see_the_same_before_the_cache(figures: list[Figure]) -> None:
    assert value(figures, criteria.UNCACHED) < 1e-3
    assert value(figures, criteria.SIDES) > 0.01


def test_lossless_variants_give_the_same_answer(figures: list[Figure]) -> None:
    for name in ("JPEG 2000 Image Compression (Lossless Only), 8 bits", "RLE Lossless, 8 bits"):
        assert value(figures, name) < 1e-3
    assert value(figures, "MONOCHROME1, 8 bits") < 0.2
    assert value(figures, "12 bits") < 0.2


def test_the_largest_difference_stands_for_all_variants(figures: list[Figure]) -> None:
    variants = [v.name for v, _ in parity.variants()]
    assert len(set(variants)) == len(variants)
    worst = max(value(figures, name) for name in variants)
    assert value(figures, criteria.VARIANTS) == worst
    assert value(figures, criteria.LOSSLESS) < worst


def test_every_syntax_is_tried() -> None:
    tried = {variant.syntax for variant, _ in parity.variants()}
    assert tried == {*NATIVE_SYNTAXES, *ENCODERS}


def test_a_variant_says_what_it_is() -> None:
    grey = np.array([[0, 255], [128, 3]], dtype=np.uint8)
    ds = parity.Variant("x", bits=12, inverted=True).dataset(grey)
    stored = np.frombuffer(ds.PixelData, "<u2").reshape(2, 2)
    assert stored.tolist() == [[4095, 0], [4095 - 2056, 4095 - 48]]
    assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (16, 12, 11)
    assert ds.PhotometricInterpretation == "MONOCHROME1"
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    packed = parity.Variant("y", syntax=JPEG2000Lossless).dataset(grey.repeat(32, 0).repeat(32, 1))
    assert packed.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert packed.BitsAllocated == 8
