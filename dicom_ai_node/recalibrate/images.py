"""What the network says of the images of trusted studies."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node import pixels
from dicom_ai_node.decide.gates import Gates, judge
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.recalibrate.headers import Track, Trusted
from dicom_ai_node.types import ImageRef

USED, SPARE = "used", "another_of_its_study"
_TOGETHER = 8  # studies
_Answer = tuple[float, ...]
"""mu, sigma, logit of female, distances of content and texture."""


def measure(
    trusted: Sequence[Trusted],
    estimator: Estimator,
    gates: Gates,
    *,
    decoders: int,
    limits: Limits = DEFAULT,
    files: Counter[str],
    track: Track,
) -> Cases:
    """Return the first image of each study, by UID, that passes every gate.

    ``files`` counts each file of ``trusted`` once: as ``used``, as ``another_of_its_study``, or
    under the code of the refusal or gate that kept it out.
    """
    done = track("images", sum(len(one.study.files) for one in trusted))
    kept: list[tuple[Trusted, _Answer]] = []
    with ThreadPoolExecutor(decoders) as pool:
        for start in range(0, len(trusted), _TOGETHER):
            batch = trusted[start : start + _TOGETHER]
            paths = [path for one in batch for _, path in one.study.files]
            loaded = list(pool.map(lambda path: _load(path, estimator.size, limits), paths))
            answers = _answers(loaded, estimator, gates)
            for one in batch:
                usable: list[_Answer] = []
                for answer in islice(answers, len(one.study.files)):
                    done()
                    if isinstance(answer, str):
                        files[answer] += 1
                    else:
                        files[SPARE if usable else USED] += 1
                        usable.append(answer)
                kept += [(one, answer) for answer in usable[:1]]
    return _cases(kept)


def _load(path: Path, size: int, limits: Limits) -> NDArray[np.float32] | str:
    """Return the image as the network sees it, or the code of why it must not."""
    try:
        return pixels.load(path, size=size, limits=limits)
    except PixelsRefused as error:
        return error.reason.code
    except UnreadableInstance:
        return "unreadable"


def _answers(
    loaded: Sequence[NDArray[np.float32] | str], estimator: Estimator, gates: Gates
) -> Iterator[_Answer | str]:
    """Yield for each image what is measured of it, or the code of what keeps it out."""
    images = [one for one in loaded if not isinstance(one, str)]
    measured = _measured(np.stack(images), estimator, gates) if images else iter(())
    for one in loaded:
        yield one if isinstance(one, str) else next(measured)


def _measured(
    images: NDArray[np.float32], estimator: Estimator, gates: Gates
) -> Iterator[_Answer | str]:
    raw, distances = estimator.measure(images)
    for i, prediction in enumerate(estimator.calibrated(raw, distances)):
        reason = judge(ImageRef("", "", ""), prediction, gates).reason
        columns = (raw.mu, raw.sigma, raw.sex, distances.content, distances.texture)
        yield reason.code if reason else tuple(float(column[i]) for column in columns)


def _cases(kept: Sequence[tuple[Trusted, _Answer]]) -> Cases:
    rows = [(*answer, one.years, float(one.female)) for one, answer in kept]
    mu, sigma, sex, content, texture, years, female = np.array(rows, np.float64).reshape(-1, 7).T
    patients = np.array([one.study.patient for one, _ in kept], dtype=np.str_)
    return Cases(mu, sigma, sex, content, texture, years, female, patients)
