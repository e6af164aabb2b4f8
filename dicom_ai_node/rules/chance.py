"""How probable it is that chance alone made what was counted. No tables, no further library."""

import math
from collections.abc import Sequence

_95_PERCENT = 1.959964


def at_least(found: int, drawn: int, marked: int, total: int) -> float:
    """Probability of ``found`` or more marked ones among ``drawn`` of ``total``.

    ``marked`` of all are. Fisher's exact test, one-sided (the upper tail of the hypergeometric
    distribution): a group of studies against the rest of the archive, valid for any count.
    """
    most = min(drawn, marked)
    if found <= max(0, drawn + marked - total):
        return 1.0
    tail = 0.0
    for count in range(found, most + 1):
        term = math.exp(
            _log_choose(marked, count)
            + _log_choose(total - marked, drawn - count)
            - _log_choose(total, drawn)
        )
        tail += term
        # Beyond the mode terms fall faster than geometrically.
        if term < 1e-18 * tail:
            break
    return min(1.0, tail)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def discoveries(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which of ``p_values`` are rejected with the false discovery rate held at ``rate``.

    Benjamini and Hochberg (1995): the k smallest, k being the last with p(k) <= k / n * rate. Holds
    for independent p-values and for positively dependent ones (Benjamini and Yekutieli 2001).
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    last = max(
        (k for k, at in enumerate(order, 1) if p_values[at] <= k / len(order) * rate), default=0
    )
    kept = set(order[:last])
    return [at in kept for at in range(len(p_values))]


def wilson(found: int, total: int) -> tuple[float, float]:
    """95 % interval of found / total after Wilson (1927), (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = found / total, _95_PERCENT**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    half = _95_PERCENT * spread / (1 + z2 / total)
    # At 0 and 1 the ends are exact, and rounding must not step over them.
    return (
        0.0 if found == 0 else max(0.0, middle - half),
        1.0 if found == total else min(1.0, middle + half),
    )
