"""What each data set calls the findings of ChestX-ray14, and what is known of an image's findings.

A word that means less or something else is left out; one that may mean a finding, or one of
several, leaves it unknown. A data set denies only findings that it has a word for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.data.images import LabelledImage

NAMES = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
"""The labels of ChestX-ray14 (Wang et al. 2017), as it writes them."""

LESION = ("Mass", "Nodule")

Meanings = Mapping[str, tuple[str, ...]]
"""The findings that a word means."""


@dataclass(frozen=True, slots=True)
class Words:
    """How one data set speaks of the findings."""

    sure: Meanings
    """What a word says is there."""
    maybe: Meanings = field(default_factory=dict)
    """What may be there where the word stands."""
    partial: frozenset[str] = frozenset()
    """Words of an image that was not read for all findings: what is not named is unknown."""

    @property
    def labelled(self) -> frozenset[str]:
        """The findings that the data set has a word for."""
        every = (*self.sure.values(), *self.maybe.values())
        return frozenset(name for names in every for name in names)


_COLLAPSE, _THICK = ("Atelectasis",), ("Pleural_Thickening",)


def _same(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


_NIH = Words(_same(*NAMES))

_CHEXPERT = Words(
    {
        **_same("Atelectasis", "Cardiomegaly", "Consolidation", "Edema"),
        **_same("Pneumonia", "Pneumothorax"),
        "Pleural Effusion": ("Effusion",),
    },
    {"Lung Lesion": LESION, "Pleural Other": ("Pleural_Thickening",)},
)

_VINDR = Words(
    {
        **_same("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema"),
        **_same("Infiltration", "Pneumonia", "Pneumothorax"),
        "Pleural effusion": ("Effusion",),
        "Pleural thickening": ("Pleural_Thickening",),
        "Pulmonary fibrosis": ("Fibrosis",),
    },
    {
        "COPD": ("Emphysema",),
        "ILD": ("Fibrosis", "Infiltration"),
        "Lung Opacity": ("Consolidation", "Infiltration"),
        "Lung tumor": LESION,
        "Nodule/Mass": LESION,
    },
)

_PADCHEST = Words(
    {
        **dict.fromkeys(("atelectasis", "atelectasis basal", "laminar atelectasis"), _COLLAPSE),
        **dict.fromkeys(("lobar atelectasis", "segmental atelectasis"), _COLLAPSE),
        **dict.fromkeys(("round atelectasis", "total atelectasis"), _COLLAPSE),
        "cardiomegaly": ("Cardiomegaly",),
        "consolidation": ("Consolidation",),
        "pulmonary edema": ("Edema",),
        **dict.fromkeys(("pleural effusion", "loculated pleural effusion"), ("Effusion",)),
        **dict.fromkeys(("loculated fissural effusion", "empyema", "hemothorax"), ("Effusion",)),
        "hydropneumothorax": ("Effusion", "Pneumothorax"),
        "emphysema": ("Emphysema",),
        "pulmonary fibrosis": ("Fibrosis",),
        "hiatal hernia": ("Hernia",),
        "infiltrates": ("Infiltration",),
        "pulmonary mass": ("Mass",),
        **dict.fromkeys(("nodule", "multiple nodules"), ("Nodule",)),
        **dict.fromkeys(("pleural thickening", "apical pleural thickening"), _THICK),
        "calcified pleural thickening": _THICK,
        **dict.fromkeys(("pneumonia", "atypical pneumonia"), ("Pneumonia",)),
        "pneumothorax": ("Pneumothorax",),
    },
    {
        "COPD signs": ("Emphysema",),
        "bullas": ("Emphysema",),
        "fibrotic band": ("Atelectasis", "Fibrosis"),
        "alveolar pattern": ("Consolidation", "Infiltration"),
        "interstitial pattern": ("Edema", "Fibrosis", "Infiltration"),
        "reticular interstitial pattern": ("Edema", "Fibrosis", "Infiltration"),
        "ground glass pattern": ("Infiltration",),
        "increased density": ("Consolidation", "Infiltration"),
        "mass": LESION,
        "pleural plaques": ("Pleural_Thickening",),
    },
    frozenset({"exclude", "suboptimal study", "unchanged"}),
)

_RSNA = Words({}, {"Lung Opacity": ("Pneumonia",)})

WORDS: Mapping[str, Words] = {
    **dict.fromkeys(("nih", "nih_128", "nih_256"), _NIH),
    **dict.fromkeys(("chexpert", "mimic"), _CHEXPERT),
    "padchest": _PADCHEST,
    "rsna": _RSNA,
    "vindr": _VINDR,
}
"""By the data set that an index names. Any other's findings are in words that nobody knows."""

NONE = "No Finding"

TASKS = 1 + len(NAMES)
"""Whether the projection is AP, then the findings."""


def targets(items: Sequence[LabelledImage]) -> NDArray[np.float32]:
    """What is known of ``items``: 1, 0, or NaN for unknown, shape (N, :data:`TASKS`)."""
    return np.array([_target(item) for item in items], np.float32).reshape(len(items), TASKS)


def known(item: LabelledImage) -> dict[str, float]:
    """By name 1 for the findings that are there, 0 for those denied; others are unknown."""
    return _known(WORDS[item.source], item.findings) if item.source in WORDS else {}


def _target(item: LabelledImage) -> list[float]:
    projection = {"AP": 1.0, "PA": 0.0}.get(item.view, np.nan)
    found = known(item)
    return [projection, *(found.get(name, np.nan) for name in NAMES)]


def _known(words: Words, stated: Sequence[str]) -> dict[str, float]:
    """1 for the findings that ``stated`` says are there, 0 for those that it denies."""
    named = {word.removesuffix("?") for word in stated}
    if not named & {*words.sure, *words.maybe, NONE}:  # other words say nothing of these
        return {}
    there = {name for word in stated for name in words.sure.get(word, ())}
    open_ = {n for word in named for n in (*words.sure.get(word, ()), *words.maybe.get(word, ()))}
    denied = words.labelled - open_ if not named & words.partial else ()
    return {**dict.fromkeys(denied, 0.0), **dict.fromkeys(there, 1.0)}
