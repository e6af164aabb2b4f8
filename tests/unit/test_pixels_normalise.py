import numpy as np
import pytest

from dicom_ai_node.pixels.normalise import BAND, block_mean


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [
        *(("u1", 255), ("<u2", 4095), ("<u2", 65535), (">u2", 4095), (">u2", 65535)),
        *(("<i2", 2000), ("<i4", 2000), ("f4", 4095), ("f8", 4095)),
    ],
)
@pytest.mark.parametrize("blocks", [(4, 3), (1, 1), (7, 1), (1, 5), (2, 2)])
def test_block_means_are_exact_in_every_type(
    dtype: str, largest: int, blocks: tuple[int, int]
) -> None:
    """Over several bands, the last of them shorter, and with pixels that are left over."""
    down, across = blocks
    rows, columns = 2 * BAND // 700 + 5, 701
    values = np.random.default_rng(0).integers(0, largest + 1, (rows, columns)).astype(dtype)
    whole = values[: rows // down * down, : columns // across * across].astype(np.float64)
    means = whole.reshape(rows // down, down, -1, across).mean(axis=(1, 3))
    np.testing.assert_allclose(block_mean(values, down, across), means, rtol=1e-6)


def test_sums_of_16_bits_do_not_overflow_where_the_largest_value_is_given() -> None:
    values = np.full((64, 64), 65535, np.uint16)
    assert (block_mean(values, 4, 4, largest=65535) == 65535).all()
    assert (block_mean(values, 4, 4) == 65535).all()
