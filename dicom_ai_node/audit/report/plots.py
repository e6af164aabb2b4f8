"""The report's plots as SVG: drawn here, so that a page needs neither script nor network.

Texts come from headers and are escaped. Colours are the classes of the page's style sheet.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from dicom_ai_node.output import visible

NARROW = 336
"""Width of a plot that a telephone shows at its own size; others are twice as wide and more."""
_COURSE_HEIGHT = 130
_TICK_WIDTH = 40
"""What the label of a tick takes."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval, for a line of a forest plot."""

    label: str
    share: float
    interval: tuple[float, float]
    count: int
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """One study of the scatter plot, years."""

    recorded: float
    estimated: float
    interval: tuple[float, float]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """One station's shares over months; months without studies are left out."""

    label: str
    points: Sequence[tuple[int, float, tuple[float, float]]]
    """(month as year * 12 + month - 1, share, interval)."""
    marked: bool = False


def forest(
    shares: Sequence[Share], *, title: str, width: int = NARROW, nominal: float | None = None
) -> Markup:
    """Shares below each other, each with its interval; ``nominal`` is where they should lie."""
    top, row, right = 10, 24, 104
    left = 150 if width > NARROW else 108
    height = top + row * len(shares) + 26
    highest = max([0.05, *(share.interval[1] for share in shares), nominal or 0.0])
    lowest = 0.0
    if nominal is not None:
        lowest = max(0.0, min(share.interval[0] for share in shares) - 0.02) if shares else 0.0
    ticks = _ticks(lowest, highest)
    span = (ticks[0], ticks[-1])

    def x(value: float) -> float:
        return left + (value - span[0]) / (span[1] - span[0]) * (width - left - right)

    every = math.ceil(len(ticks) * _TICK_WIDTH / (width - left - right))
    parts = [
        _grid_down(x(tick), top, height - 24, "" if at % every else f"{tick:.0%}")
        for at, tick in enumerate(ticks)
    ]
    if nominal is not None:
        parts.append(_line(x(nominal), top, x(nominal), height - 24, "nominal"))
    for at, share in enumerate(shares):
        y = top + row * at + row / 2
        style = "marked" if share.marked else "plain"
        low, high = share.interval
        parts += [
            _text(left - 8, y + 4, _fitted(share.label, left - 8), "end"),
            _line(x(low), y, x(high), y, f"range {style}"),
            f'<circle cx="{x(share.share):.1f}" cy="{y:.1f}" r="4" class="{style}"/>',
            _text(
                width - right + 10, y + 4, f"{share.share:.1%} of {share.count}", "start", "faint"
            ),
        ]
    return _svg(parts, width, height, title)


def scatter(dots: Sequence[Dot], *, title: str) -> Markup:
    """Estimated against recorded age; marked ones with their 90 % interval."""
    size, left, bottom, top = 380, 46, 42, 12
    ends = [0.0, 100.0, *(dot.recorded for dot in dots), *(dot.estimated for dot in dots)]
    ticks = _ticks(0.0, min(max(ends), 130.0))

    def x(years: float) -> float:
        return left + min(years, ticks[-1]) / ticks[-1] * (size - left - top)

    def y(years: float) -> float:
        return size - bottom - min(years, ticks[-1]) / ticks[-1] * (size - bottom - top)

    parts = [_grid_down(x(tick), top, size - bottom, f"{tick:.0f}") for tick in ticks]
    parts += [_grid_across(left, size - top, y(tick), f"{tick:.0f}") for tick in ticks]
    parts.append(_line(x(0), y(0), x(ticks[-1]), y(ticks[-1]), "nominal"))
    for dot in sorted(dots, key=lambda dot: dot.marked):
        style = "marked" if dot.marked else "plain cloud"
        if dot.marked:
            low, high = dot.interval
            parts.append(_line(x(dot.recorded), y(low), x(dot.recorded), y(high), "range marked"))
        parts.append(
            f'<circle cx="{x(dot.recorded):.1f}" cy="{y(dot.estimated):.1f}" '
            f'r="{4 if dot.marked else 2.5}" class="{style}"/>'
        )
    middle = (size + left) / 2
    parts += [
        _text(middle, size - 8, "recorded age, years", "middle", "faint"),
        f'<g transform="translate(14 {size / 2:.0f}) rotate(-90)">'
        f"{_text(0, 0, 'estimated age, years', 'middle', 'faint')}</g>",
    ]
    return _svg(parts, size, size, title)


def courses(stations: Sequence[Course], *, title: str) -> list[Markup]:
    """A chart for each station: share over its own months with its interval, on one scale.

    None for a station without a month.
    """
    drawn = [course for course in stations if course.points]
    highest = max((high for course in drawn for _, _, (_, high) in course.points), default=0.0)
    ticks = _ticks(0.0, max(0.05, highest))  # whole intervals: a cut one looks narrow
    return [
        _svg([*_course(course, ticks)], NARROW, _COURSE_HEIGHT, f"{title}: {course.label}")
        for course in drawn
    ]


def _course(course: Course, ticks: Sequence[float]) -> Iterator[str]:
    left, top, bottom, right, width, height = 40, 24, 20, 8, NARROW, _COURSE_HEIGHT
    first, last = course.points[0][0], course.points[-1][0]

    def x(month: int) -> float:
        share = (month - first) / (last - first) if last > first else 0.5
        return left + share * (width - left - right)

    def y(share: float) -> float:
        return height - bottom - min(share / ticks[-1], 1.0) * (height - top - bottom)

    style = "marked" if course.marked else "plain"
    yield _text(left, 14, _fitted(course.label, width - left), "start", "strong")
    for tick in (ticks[0], ticks[-1]):
        yield _grid_across(left, width - right, y(tick), f"{tick:.0%}")
    ends = ((first, "start"), (last, "end")) if last > first else ((first, "middle"),)
    for month, anchor in ends:
        yield _text(x(month), height - 4, _month(month), anchor, "faint")
    upper = [f"{x(month):.1f},{y(high):.1f}" for month, _, (_, high) in course.points]
    lower = [f"{x(month):.1f},{y(low):.1f}" for month, _, (low, _) in course.points]
    if len(course.points) == 1:  # a band of one month would have no width
        (month, _, (low, high)) = course.points[0]
        yield _line(x(month), y(low), x(month), y(high), f"range {style}")
    yield f'<polygon class="band {style}" points="{" ".join([*upper, *lower[::-1]])}"/>'
    line = " ".join(f"{x(month):.1f},{y(share):.1f}" for month, share, _ in course.points)
    yield f'<polyline class="line {style}" points="{line}"/>'
    for month, share, _ in course.points:
        yield f'<circle cx="{x(month):.1f}" cy="{y(share):.1f}" r="2" class="{style}"/>'


def _month(number: int) -> str:
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers from at most ``low`` to at least ``high``."""
    span = max(high - low, 1e-6)
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next((factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 6), 10)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * at, 9) for at in range(start, max(stop, start + 1) + 1)]


def _grid_down(x: float, top: float, bottom: float, label: str) -> str:
    return _line(x, top, x, bottom, "grid") + _text(x, bottom + 16, label, "middle", "faint")


def _grid_across(left: float, right: float, y: float, label: str) -> str:
    return _line(left, y, right, y, "grid") + _text(left - 6, y + 4, label, "end", "faint")


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} class="{style}">{escape(visible(text))}</text>'


def _fitted(text: str, width: float) -> str:
    """Return as much of a label as ``width`` units hold, by how wide letters are at 12 units."""
    total = 0.0
    for at, letter in enumerate(text):
        wide = unicodedata.east_asian_width(letter) in "WF"
        total += 12.0 if wide or letter in "WM@%m" else 9.0 if letter.isupper() else 7.7
        if total > width:
            return text[: max(at - 1, 1)] + "\N{HORIZONTAL ELLIPSIS}"
    return text


def _svg(parts: Sequence[str], width: float, height: float, title: str) -> Markup:
    """``parts`` are SVG whose texts are escaped."""
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(visible(title))}">{body}</svg>'
    )
