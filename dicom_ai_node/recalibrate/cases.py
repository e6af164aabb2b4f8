"""Which images of a site can calibrate a bundle, and what the network says of them.

A study counts whose header states what the heads of the bundle are held against, and has nothing
that a rule speaks against. Of each the first image that passes every gate is used.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node import pixels
from dicom_ai_node.answers import ImageRef, Measured
from dicom_ai_node.archive.member import Collected, StudyFacts
from dicom_ai_node.archive.rules import checked_with_others
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.decide.images import Gates, judge
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.inference.bundle import Manifest
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import CategoryHead, FindingsHead, Head, QuantityHead
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.attributes import ATTRIBUTES
from dicom_ai_node.types import AttributeStatus, HeaderCheck

USED, SPARE = "used", "another_of_its_study"
_TOGETHER = 8  # studies
Track = Callable[[str, int], Callable[[], object]]
"""Given what is counted and how much of it there is: what to call for each that is done."""


@dataclass(frozen=True, slots=True)
class SiteStudy:
    """The files of one study, as far as they are DICOM."""

    uid: str
    files: list[tuple[str, Path]] = field(default_factory=list)
    """SOPInstanceUID and path of each."""
    headers: list[TextHeader] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trusted:
    """A study that states what the heads are held against, and no rule speaks against it."""

    study: SiteStudy
    patient: str
    """Hash of the patient, the study itself where it names none."""
    truth: Mapping[str, float]
    """By the name of the head, as :attr:`Cases.truth` has it."""


def read_studies(
    paths: Sequence[Path], files: Counter[str], track: Track, limits: Limits = DEFAULT
) -> list[SiteStudy]:
    """Sort files into studies, in an order that does not depend on theirs.

    ``files`` counts those that are not DICOM as ``unreadable``.
    """
    studies: dict[str, SiteStudy] = {}
    done = track("headers", len(paths))
    for path in paths:
        done()
        try:
            header = pixels.read_header(path, limits)
        except UnreadableInstance:
            files["unreadable"] += 1
            continue
        uid = text_of(header, "StudyInstanceUID") or str(path)
        study = studies.setdefault(uid, SiteStudy(uid))
        study.files.append((text_of(header, "SOPInstanceUID"), path))
        study.headers.append(TextHeader.from_dataset(header))
    for study in studies.values():
        study.files.sort()
    return [studies[uid] for uid in sorted(studies)]


def trust(
    studies: Sequence[SiteStudy],
    heads: Sequence[Head],
    rules: RulesSettings,
    *,
    today: date,
    files: Counter[str],
) -> list[Trusted]:
    """Return the studies whose recorded values no rule doubts, within and over the studies.

    ``files`` counts those of the other studies under their status, as ``age_missing`` or
    ``sex_conflict_header``, and those of a de-identified '90 or over' as ``age_censored``.
    """
    by_uid = {study.uid: study for study in studies}
    collected = [
        Collected(uid, StudyFacts(uid, tuple(study.headers))) for uid, study in by_uid.items()
    ]
    found = []
    for member in checked_with_others(collected, settings=rules, today=today):
        study, truth = by_uid[member.key], _truth(member.check, heads)
        if isinstance(truth, str):
            files[truth] += len(study.files)
        else:
            found.append(Trusted(study, member.patient or study.uid, truth))
    return found


_NO_LABELS = frozenset(keyword for keyword, row in ATTRIBUTES.items() if not row.a_label)


def _truth(checked: HeaderCheck, heads: Sequence[Head]) -> dict[str, float] | str:
    """Return what is recorded for each head, or why the header must not calibrate anything."""
    truth: dict[str, float] = {}
    for head in heads:
        if isinstance(head, FindingsHead) or head.attribute not in checked.attributes:
            continue
        if head.attribute in _NO_LABELS:
            continue
        row = checked.attributes[head.attribute]
        value = checked.trusted(head.attribute)
        if isinstance(head, CategoryHead) and value in head.values:
            truth[head.name] = float(head.values.index(str(value)))
        elif isinstance(value, float):
            truth[head.name] = value
        else:
            consistent = row.status is AttributeStatus.CONSISTENT
            return f"{row.name}_{'censored' if consistent else row.status.lower()}"
    return truth


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
    done = track("images", sum(len(case.study.files) for case in trusted))
    kept: list[tuple[str, Mapping[str, float], Measured]] = []
    with ThreadPoolExecutor(decoders) as pool:
        for start in range(0, len(trusted), _TOGETHER):
            batch = trusted[start : start + _TOGETHER]
            paths = [path for case in batch for _, path in case.study.files]
            loaded = list(pool.map(lambda path: _load(path, estimator.manifest, limits), paths))
            answers = _answers(loaded, estimator, gates)
            for case in batch:
                usable: list[Measured] = []
                for answer in islice(answers, len(case.study.files)):
                    done()
                    if isinstance(answer, str):
                        files[answer] += 1
                    else:
                        files[SPARE if usable else USED] += 1
                        usable.append(answer)
                kept += [(case.patient, case.truth, answer) for answer in usable[:1]]
    return cases_of(kept, estimator.manifest.heads)


def _load(path: Path, manifest: Manifest, limits: Limits) -> NDArray[np.float32] | str:
    """Return the image as the network sees it, or the code of why it must not."""
    try:
        return pixels.load(
            path,
            size=manifest.size,
            contract=manifest.accepts.contract,
            limits=limits,
            accepted=manifest.accepted,
        )
    except PixelsRefused as error:
        return error.reason.code
    except UnreadableInstance:
        return "unreadable"


def _answers(
    loaded: Sequence[NDArray[np.float32] | str], estimator: Estimator, gates: Gates
) -> Iterator[Measured | str]:
    """Yield for each image what is measured of it, or the code of what keeps it out."""
    images = [image for image in loaded if not isinstance(image, str)]
    if not images:
        yield from (code for code in loaded if isinstance(code, str))
        return
    predictions = iter(estimator.predict(np.stack(images)))
    for image in loaded:
        if isinstance(image, str):
            yield image
            continue
        prediction = next(predictions)
        reason = judge(ImageRef("", "", ""), prediction, gates).reason
        assert prediction.measured is not None
        yield reason.code if reason else prediction.measured


def cases_of(
    kept: Sequence[tuple[str, Mapping[str, float], Measured]], heads: Sequence[Head]
) -> Cases:
    """Put images together: of each its patient, what is recorded, what the network says.

    Of the heads those that are fitted: no header says whether a finding is there.
    """

    def column(of: Iterator[object]) -> NDArray[np.float64]:
        return np.array(list(of), np.float64)

    fitted = tuple(head for head in heads if isinstance(head, QuantityHead | CategoryHead))
    return Cases(
        fitted,
        {head.name: column(_number(said.raw[head.name]) for *_, said in kept) for head in fitted},
        {
            head.name: column(truth[head.name] for _, truth, _ in kept)
            for head in fitted
            if all(head.name in truth for _, truth, _ in kept)
        },
        column(said.content for _, _, said in kept),
        column(said.texture for _, _, said in kept),
        np.array([patient for patient, _, _ in kept], dtype=np.str_),
    )


def _number(values: tuple[float, ...]) -> float | tuple[float, ...]:
    """A single one is no row of a matrix."""
    return values[0] if len(values) == 1 else values
