"""Limits of a control chart: how far a figure of ``n`` studies strays while nothing changes.

The reference is an estimate itself, and the limits allow for that. Shares have the exact limits of
the beta-binomial distribution: binomial for a probability of which the reference, with Jeffreys'
prior, is all that is known. The mean absolute error has the limit of a gamma distribution, since
absolute errors lean to the right; the bias has symmetric ones. Both are as wide as Student's t with
few degrees of freedom asks for: errors have heavier tails than the normal distribution, and the
reference then understates their spread. Only what harms raises a flag: fewer ages covered, fewer
sexes right, more refusals, a larger error, a bias to either side.
"""

import math
from functools import lru_cache

from dicom_ai_node.monitor.figures import student
from dicom_ai_node.monitor.tally import ChartedQuantity, Tally

_FREEDOM = 40
"""Keeps the stated rate where errors follow Student's t of 6 degrees of freedom, whose tails are
heavier than the shipped bundle's, and eight weeks of 60 studies are the reference."""
_NOWHERE = 1e-9  # of a year: limits of errors that do not vary at all


def limits(
    quantity: ChartedQuantity, n: int, reference: Tally, chance: float
) -> tuple[float | None, float | None]:
    """Return the ends between which the figure of ``n`` studies lies but for ``chance``.

    None where no value is too low or too high.
    """
    match quantity:
        case ChartedQuantity.MAE:
            return None, _largest_mean(reference, n, chance)
        case ChartedQuantity.BIAS:
            centre = reference.signed / reference.aged
            spread = reference.squared / reference.aged - centre**2
            half = _deviate(chance / 2) * _standard_error(spread, reference.aged, n)
            return centre - half, centre + half
        case ChartedQuantity.REFUSED:
            passed = fewest(n, reference.seen - reference.refused, reference.seen, chance)
            return None, (n - passed) / n
        case _:
            hits, of = reference.hits(quantity), reference.n(quantity)
            return fewest(n, hits, of, chance) / n, None


def _largest_mean(reference: Tally, n: int, chance: float) -> float:
    """Upper limit of a mean absolute error (gamma, by Wilson and Hilferty 1931, PNAS 17:684)."""
    centre = reference.absolute / reference.aged
    error = _standard_error(reference.squared / reference.aged - centre**2, reference.aged, n)
    ninth = (error / max(centre, _NOWHERE)) ** 2 / 9
    return float(centre * (1 - ninth + _deviate(chance) * math.sqrt(ninth)) ** 3)


def _deviate(chance: float) -> float:
    """Standard errors beyond which a mean lies with probability ``chance``."""
    return student(_FREEDOM, 1 - chance)


def _standard_error(variance: float, reference_n: int, n: int) -> float:
    return math.sqrt(max(variance, _NOWHERE**2) * (1 / n + 1 / reference_n))


@lru_cache(maxsize=1024)
def fewest(n: int, hits: int, of: int, chance: float) -> int:
    """Smallest count in ``n`` that a reference of ``hits`` in ``of`` leaves unsuspicious.

    Fewer are met with a probability of at most ``chance`` (beta-binomial, Jeffreys' prior).
    """
    a, b = hits + 0.5, of - hits + 0.5
    constant = math.lgamma(n + 1) - _log_beta(a, b)
    below = 0.0
    for k in range(n + 1):
        ways = constant - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(ways + _log_beta(k + a, n - k + b))
        if below > chance:
            return k
    return n


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
