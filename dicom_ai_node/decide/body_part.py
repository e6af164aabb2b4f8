"""J6: the images show another part of the body than BodyPartExamined says.

Two things know what an image shows: an answer that is held against BodyPartExamined, and the gate
of a bundle for chest radiographs. Headers say CHEST of slices from shoulder to pelvis, so parts are
compared by the areas that they are in, over all images of the study: one that may show what is
recorded, and nothing is said.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from dicom_ai_node.answers import BundleResult, Category
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.conflicts import Contradiction, contradicted
from dicom_ai_node.dicom.body_parts import BODY_PARTS, agree, areas_of
from dicom_ai_node.dicom.classes import RADIOGRAPHS
from dicom_ai_node.rules.attributes import trusted_part
from dicom_ai_node.rules.body_part_meaning import BODY_PART
from dicom_ai_node.types import HeaderCheck

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
    """Add J6 and CONFLICT_IMAGE where images show nothing of the recorded body part.

    Of an exempt study, or where a rule doubts the record, nothing is found; a bundle for research
    contradicts nothing.
    """
    recorded = trusted_part(check)
    if not recorded or "J6" in disabled:
        return check
    least = policy.body_part_alert_probability
    found = [
        Contradiction("J6", f": {said}", (BODY_PART,))
        for part in parts
        if not part.research
        for said in (
            *_answers_against(recorded, part, least),
            *_gate_against(recorded, part, least),
        )
    ]
    return contradicted(check, dict.fromkeys(found))


def _answers_against(recorded: str, part: BundleResult, least: float) -> Iterator[str]:
    for answer in part.given.values():
        if not isinstance(answer, Category) or answer.attribute != BODY_PART:
            continue
        others = {
            term: share for term, share in answer.probabilities.items() if _apart(recorded, term)
        }
        # What no value has a share of may be anything.
        probable = max(0.0, 1.0 - sum(others.values()))
        touches = any(not _apart(recorded, term) for term in answer.covered or (answer.value,))
        if not touches and probable < least:
            yield (
                f"recorded body part {recorded} has probability {probable:.3f}, the images show "
                f"{answer.value}"
            )


def _apart(recorded: str, shown: str) -> bool:
    """Whether two parts have no area in common; a value that is no part may be anything."""
    return shown in BODY_PARTS and not agree(recorded, shown)


def _gate_against(recorded: str, part: BundleResult, least: float) -> Iterator[str]:
    """What the gate of chest radiographs says of CR and DX, where all of them are clear."""
    chances = [
        image.prediction.gates[CHEST_GATE]
        for image in part.images
        if image.prediction is not None
        and CHEST_GATE in image.prediction.gates
        and image.image.sop_class_uid in RADIOGRAPHS
    ]
    if not chances:
        return
    if recorded in _CHESTS and max(chances) < least:
        yield (
            f"recorded body part {recorded}, and a chest radiograph has probability "
            f"{max(chances):.3f}"
        )
    elif areas_of(recorded).isdisjoint(_NEAR_A_CHEST) and min(chances) > 1 - least:
        yield (
            f"recorded body part {recorded}, and a chest radiograph has probability "
            f"{min(chances):.3f}"
        )
