"""Images that are measured and have a near-duplicate among those that train."""

import numpy as np
from numpy.typing import NDArray

from training.data.images import Images
from training.data.perceptual import Digests, digest, near


def twins(measured: Images, trained: Images, distance: int) -> NDArray[np.bool_]:
    """Which of ``measured`` are within ``distance`` bits of one of ``trained``, shape (N,).

    Both with pixels of :data:`training.data.perceptual.SIDE`.
    """
    every = np.concatenate([_digests(measured), _digests(trained)])
    pairs = near(every, distance)
    across = (pairs[:, 0] < len(measured)) & (pairs[:, 1] >= len(measured))
    found = np.zeros(len(measured), dtype=np.bool_)
    found[pairs[across, 0]] = True
    return found


def _digests(images: Images) -> Digests:
    hashes = [digest(image) for batch in images.floats() for image in batch]
    return np.array(hashes, dtype=np.uint64).reshape(len(hashes), 4)
