"""Where the image contradicts the header."""


def beyond(recorded: float, ages: tuple[float, float]) -> int:
    """1 for an age above those that the network was trained on, -1 for one below, else 0."""
    youngest, oldest = ages
    return 1 if recorded >= oldest + 1 else -1 if recorded < youngest else 0


def nearest_trained(recorded: float, ages: tuple[float, float]) -> float:
    """The recorded age, or the end of the trained ages that it lies beyond."""
    return {-1: ages[0], 0: recorded, 1: ages[1]}[beyond(recorded, ages)]
