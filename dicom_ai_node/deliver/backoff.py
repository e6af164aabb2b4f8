"""How long to wait after a failure."""


def pause(failures: int, *, first: float, longest: float, chance: float) -> float:
    """Return the seconds to wait after the given number of failures in a row, 1 or more.

    The bound doubles from ``first`` up to ``longest``; ``chance``, drawn from [0, 1), picks a point
    in its upper half, so that nodes that failed together do not come back together.
    """
    bound = min(longest, first * 2.0 ** min(failures - 1, 64))
    return bound * (0.5 + 0.5 * chance)
