"""J6: the images show another part of the body than BodyPartExamined says.

Two things know what an image shows: an answer that is held against BodyPartExamined, and the gate
of a bundle for chest radiographs. Headers say CHEST of slices from shoulder to pelvis, so parts are
compared by the areas that they are in.

BodyPartExamined is an attribute of the series. Each is judged by what it records and by its own
images, over all of them: one that may show what is recorded, and nothing is said.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from dicom_ai_node.answers import Answer, BundleResult, Category, ImageResult
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.conflicts import Contradiction, contradicted
from dicom_ai_node.dicom.body_parts import BODY_PARTS, agree, areas_of
from dicom_ai_node.dicom.classes import RADIOGRAPHS
from dicom_ai_node.rules.attributes import trusted_part_of
from dicom_ai_node.rules.body_part_meaning import BODY_PART
from dicom_ai_node.types import AttributeStatus, HeaderCheck

CHEST_GATE: Final = "chest"
"""Name of the gate that asks whether an image is a chest radiograph."""
_CHESTS: Final = frozenset({"CHEST", "THORAX", "LUNG"})
_NEAR_A_CHEST: Final = frozenset({"neck", "shoulder", "arm", "chest", "breast", "abdomen"})
"""A radiograph of one of these may look like one of the chest."""


def held_against_body_part(
    check: HeaderCheck,
    parts: Iterable[BundleResult],
    policy: PolicySettings,
    disabled: Collection[str],
) -> HeaderCheck:
    """Add J6 and CONFLICT_IMAGE where the images of a series show nothing of its body part.

    Of an exempt study, or where a rule doubts what a series records, nothing is found; a bundle for
    research contradicts nothing. A header that contradicts itself keeps that status.
    """
    if "J6" in disabled:
        return check
    found = [
        words
        for part in parts
        if not part.research
        for words in _against(check, part, policy.body_part_alert_probability)
    ]
    row = check.attributes.get(BODY_PART)
    is_sound = row is not None and row.status is AttributeStatus.CONSISTENT
    keywords = (BODY_PART,) if is_sound or check.trusted(BODY_PART) is not None else ()
    said = [Contradiction("J6", f": {words}", keywords) for words in dict.fromkeys(found)]
    return contradicted(check, said)


def _against(check: HeaderCheck, part: BundleResult, least: float) -> Iterator[str]:
    """Yield what the series of a study show and do not record, each once for all that are alike."""
    images: dict[str, list[ImageResult]] = {}
    for image in part.images:
        if image.prediction is not None:
            images.setdefault(image.image.series_instance_uid, []).append(image)
    answers = {one.series_instance_uid: one.stated for one in part.series}
    found: dict[tuple[str, str], list[float]] = {}
    for uid, members in images.items():
        recorded = trusted_part_of(check, uid)
        if recorded:
            said = answers.get(uid, {}) if part.series else part.given
            for shown, probable in (
                *_answers_against(recorded, said.values(), least),
                *_gate_against(recorded, members, least),
            ):
                found.setdefault((recorded, shown), []).append(probable)
    for (recorded, shown), chances in found.items():
        several = f" (in {len(chances)} of {len(images)} series)" if len(images) > 1 else ""
        yield f"recorded body part {recorded}{shown.format(max(chances))}{several}"


def _answers_against(
    recorded: str, answers: Iterable[Answer], least: float
) -> Iterator[tuple[str, float]]:
    for answer in answers:
        if not isinstance(answer, Category) or answer.attribute != BODY_PART:
            continue
        others = {
            term: share for term, share in answer.probabilities.items() if _apart(recorded, term)
        }
        # What no value has a share of may be anything.
        probable = max(0.0, 1.0 - sum(others.values()))
        touches = any(not _apart(recorded, term) for term in answer.covered or (answer.value,))
        if not touches and probable < least:
            yield f" has probability {{:.3f}}, the images show {answer.value}", probable


def _apart(recorded: str, shown: str) -> bool:
    """Whether two parts have no area in common; a value that is no part may be anything."""
    return shown in BODY_PARTS and not agree(recorded, shown)


def _gate_against(
    recorded: str, images: Sequence[ImageResult], least: float
) -> Iterator[tuple[str, float]]:
    """What the gate of chest radiographs says of CR and DX, where all of them are clear."""
    chances = [
        image.prediction.gates[CHEST_GATE]
        for image in images
        if image.prediction is not None
        and CHEST_GATE in image.prediction.gates
        and image.image.sop_class_uid in RADIOGRAPHS
    ]
    if not chances:
        return
    words = ", and a chest radiograph has probability {:.3f}"
    if recorded in _CHESTS and max(chances) < least:
        yield words, max(chances)
    elif areas_of(recorded).isdisjoint(_NEAR_A_CHEST) and min(chances) > 1 - least:
        yield words, min(chances)
