"""The loss: DLDL-v2 for the age (Gao et al. 2018), binary cross-entropy for the rest.

Projection and findings are further tasks: they teach the backbone what else an image shows. Only
the backbone keeps what it learns of them; their layer is not shipped, and nothing that the node
says comes from it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.inference.heads import AGE
from dicom_ai_node.inference.network import Answers, moments
from training.data.findings import TASKS

SIGMA = 2.5  # years; width of the label distribution
GATES = 0.2  # weight of each gate, where age and sex have 1


def total(answers: Answers, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Sum over the heads, and each head's part; a NaN label does not count."""
    parts = {
        "age": age(answers[AGE.name], labels["age"]),
        "sex": _binary(answers["sex"], labels["female"]),
        "frontal": _binary(answers["frontal"], labels["frontal"]),
        "chest": _binary(answers["chest"], labels["chest"]),
    }
    weights = {"age": 1.0, "sex": 1.0, "frontal": GATES, "chest": GATES}
    loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return loss, {name: float(part.detach()) for name, part in parts.items()}


def around(years: Tensor) -> Tensor:
    """Normal distributions around ``years`` (N,) over the ages 0 to 100, shape (N, 101)."""
    grid = torch.arange(AGE.outputs, dtype=torch.float32, device=years.device)
    return (-(grid - years[:, None]).square() / (2 * SIGMA**2)).softmax(dim=1)


def age(logits: Tensor, years: Tensor) -> Tensor:
    """KL divergence to normal distributions around ``years`` plus the error of the expectation."""
    known = ~years.isnan()
    if not known.any():
        return logits.sum() * 0
    logits, years = logits[known], years[known]
    kl = functional.kl_div(logits.log_softmax(dim=1), around(years), reduction="batchmean")
    mu, _ = moments(logits)
    return kl + 0.1 * functional.l1_loss(mu, years)


def _binary(logits: Tensor, labels: Tensor) -> Tensor:
    known = ~labels.isnan()
    if not known.any():
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(logits[known], labels[known])


class FindingsTask(nn.Module):
    """One linear layer on the pooled features (N, F)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, TASKS)

    def loss(self, features: Tensor, known: Tensor) -> Tensor:
        """Mean binary cross-entropy over what is known of the :data:`TASKS`, 0 where nothing is."""
        return _binary(self.layer(features).float(), known)
