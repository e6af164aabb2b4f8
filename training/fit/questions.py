"""What a run asks of its images: the rows of the bundle that it makes, and their labels.

``bundle`` of a configuration names one of :data:`QUESTIONS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.answers import Concept
from dicom_ai_node.inference.heads import (
    CHEST,
    FRONTAL,
    GATES,
    HEADS,
    FindingsHead,
    Gate,
    Head,
)
from dicom_ai_node.inference.network import Network
from training.data.findings import NAMES
from training.fit.batches import FURTHER, Batches

AGE_SEX, CHEST_FINDINGS = "chest-age-sex", "chest-findings"

CODES = {
    "Atelectasis": ("46621007", "SCT", "Atelectasis"),
    "Cardiomegaly": ("287272002", "SCT", "Cardiomegaly"),
    "Consolidation": ("95436008", "SCT", "Lung consolidation"),
    "Edema": ("19242006", "SCT", "Pulmonary edema"),
    "Effusion": ("60046008", "SCT", "Pleural effusion"),
    "Emphysema": ("87433001", "SCT", "Pulmonary emphysema"),
    "Fibrosis": ("51615001", "SCT", "Pulmonary fibrosis"),
    "Infiltration": ("112121", "DCM", "Infiltrate"),
    "Mass": ("4147007", "SCT", "Mass"),
    "Nodule": ("27925004", "SCT", "Nodule"),
    "Pneumonia": ("233604007", "SCT", "Pneumonia"),
    "Pneumothorax": ("36118008", "SCT", "Pneumothorax"),
}
"""Of the labels. In PS3.16: Cardiomegaly (CID 12248), Edema (CID 3700), Effusion (CID 645),
Infiltration, Mass and Nodule (CID 6104), Pneumothorax (CID 6105); the others are of SNOMED CT.

Hernia and Pleural_Thickening get private codes: NIH's Hernia is wider than a hiatal one, and no
code for the other could be verified."""

FINDINGS = FindingsHead(
    name="findings",
    output=0,
    labels=NAMES,
    codes={
        label: Concept(code=code, scheme=scheme, meaning=meaning)
        for label, (code, scheme, meaning) in CODES.items()
    },
)
"""NIH's labels, each for itself. Without a concept: "Finding" (121071, DCM) would read as if each
were there, and TID 1501 has it once."""


@dataclass(frozen=True, slots=True)
class Questions:
    """The heads and gates of a bundle, and what draws their labels."""

    heads: tuple[Head, ...]
    gates: tuple[Gate, ...]
    """In the order in which they are asked."""
    batches: type[Batches]

    @property
    def rows(self) -> tuple[Head | Gate, ...]:
        """All that the network's linear layer answers."""
        return (*self.heads, *self.gates)


class FindingsBatches(Batches):
    """Batches whose labels are the findings of each image, and those of the gates."""

    def batch(self, stage: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Batches.batch`; findings are (N, 14), without the projection."""
        x, labels = super().batch(stage)
        return x, {
            FINDINGS.name: labels[FURTHER][:, 1:],
            **{gate.name: labels[gate.name] for gate in QUESTIONS[CHEST_FINDINGS].gates},
        }


def _behind(gates: Sequence[Gate], outputs: int) -> tuple[Gate, ...]:
    """``gates`` with outputs from ``outputs`` on."""
    moved = enumerate(gates, start=outputs)
    return tuple(gate.model_copy(update={"output": output}) for output, gate in moved)


QUESTIONS: Mapping[str, Questions] = {
    AGE_SEX: Questions(HEADS, GATES, Batches),
    CHEST_FINDINGS: Questions((FINDINGS,), _behind((CHEST, FRONTAL), FINDINGS.outputs),
                              FindingsBatches),
}  # fmt: skip


@torch.no_grad()
def begin_at_shares(network: Network, batches: Batches) -> None:
    """Let findings of a new linear layer begin at the share of the training images that have them.

    Else the first hundreds of steps only learn that they are rare. A layer that is not new stays.
    """
    for row in network.rows:
        bias = network.head.bias[row.place]
        if isinstance(row, FindingsHead) and not bias.any():
            known = batches.labels[FURTHER][:, 1:].cpu().numpy()
            counted, there = np.sum(~np.isnan(known), axis=0), np.nansum(known, axis=0)
            share = torch.from_numpy((there + 1) / (counted + 2))
            bias.copy_(share.logit().to(bias))
