"""The loss of a network, by the kinds of its heads.

Of a quantity over whole numbers DLDL-v2 (Gao et al. 2018), of a normal one its negative log
likelihood (Kendall & Gal 2017); of a category cross-entropy, of findings and of gates the binary
one. Labels go by the name of their row; NaN is unknown and does not count:

- a quantity's are numbers in its unit, shape (N,); or the least and the greatest that are possible,
  shape (N, 2): what is nearest to the estimate will do;
- a category's are the positions of its values, shape (N,); of two, the probability of the first; or
  of several for each value whether it is right, 1 or 0, shape (N, K): any of those will do;
- of findings 1 or 0 for each label, shape (N, K), or (N,) of one;
- a gate's are 1 where the image is to pass, else 0, shape (N,).

Projection and findings are further tasks: they teach the backbone what else an image shows. Only
the backbone keeps what it learns of them; their layer is not shipped, and nothing that the node
says comes from it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.inference.heads import CategoryHead, Gate, QuantityHead, Row
from dicom_ai_node.inference.network import Answers, estimate
from training.data.findings import TASKS

SIGMA = 2.5
"""Width of the distribution around a quantity's label, in its unit: of an age years."""
GATES = 0.2
"""Weight of each gate, where a head has 1."""


def total(
    rows: Sequence[Row],
    answers: Answers,
    labels: Mapping[str, Tensor],
    gate_weight: float = GATES,
) -> tuple[Tensor, dict[str, float]]:
    """Sum over the heads and gates, and the part of each by its name."""
    parts = {row.name: part(row, answers[row.name], labels[row.name]) for row in rows}
    weighted = [(gate_weight if isinstance(row, Gate) else 1.0) * parts[row.name] for row in rows]
    return torch.stack(weighted).sum(), {name: float(of.detach()) for name, of in parts.items()}


def part(row: Row, logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of one head or gate, 0 where no label is known."""
    if isinstance(row, QuantityHead):
        if labels.ndim == 2:
            labels = estimate(row, logits)[0].detach().clamp(*labels.unbind(dim=1))
        return (likelihood if row.normal else quantity)(row, logits, labels)
    if isinstance(row, CategoryHead) and row.outputs > 1:
        return _cross_entropy(logits, labels)
    return _binary(logits, labels)


def around(head: QuantityHead, numbers: Tensor) -> Tensor:
    """Normal distributions around ``numbers`` (N,) over the support of the head, shape (N, K)."""
    assert head.support is not None
    first, last = head.support
    grid = torch.arange(first, last + 1, dtype=torch.float32, device=numbers.device)
    return (-(grid - numbers[:, None]).square() / (2 * SIGMA**2)).softmax(dim=1)


def quantity(head: QuantityHead, logits: Tensor, numbers: Tensor) -> Tensor:
    """KL divergence to distributions around ``numbers`` plus the error of the expectation."""
    known = ~numbers.isnan()
    if not known.any():
        return logits.sum() * 0
    logits, numbers = logits[known], numbers[known]
    target = around(head, numbers)
    kl = functional.kl_div(logits.log_softmax(dim=1), target, reduction="batchmean")
    mu, _ = estimate(head, logits)
    return kl + 0.1 * functional.l1_loss(mu, numbers)


def likelihood(head: QuantityHead, logits: Tensor, numbers: Tensor) -> Tensor:
    """Negative log likelihood of ``numbers`` under normal distributions, in units of the scale."""
    known = ~numbers.isnan()
    if not known.any() or head.normal is None:
        return logits.sum() * 0
    mu, sigma = estimate(head, logits[known])
    _, scale = head.normal
    return functional.gaussian_nll_loss(
        mu / scale, numbers[known] / scale, (sigma / scale).square(), eps=0.0
    )


def _cross_entropy(logits: Tensor, positions: Tensor) -> Tensor:
    if positions.ndim == 2:
        return _any_of(logits, positions)
    known = ~positions.isnan()
    if not known.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits[known], positions[known].long())


def _any_of(logits: Tensor, right: Tensor) -> Tensor:
    """Negative log of the probability of all right values together."""
    known = right.nansum(dim=1) > 0
    if not known.any():
        return logits.sum() * 0
    logits, wrong = logits[known], right[known] != 1
    among = logits.masked_fill(wrong, -torch.inf)
    return (logits.logsumexp(dim=1) - among.logsumexp(dim=1)).mean()


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
