"""Line plots as SVG text, for figures of the documentation: no library, and the same input gives the same bytes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 36, 48
COLOURS = ("#1b6ca8", "#c0392b", "#1e8449", "#7d3c98", "#b9770e", "#566573")
TICKS = (1, 2, 5)


class Series(NamedTuple):
    """One line: its label and its points, x ascending and above 0."""

    label: str
    points: Sequence[tuple[float, float]]


def plot(series: Sequence[Series], title: str, x_label: str, y_label: str) -> str:
    """Return a plot with a logarithmic x axis and y from 0 to 100."""
    xs = [max(1.0, x) for one in series for x, _ in one.points] or [1.0]
    low, high = min(xs), max(*xs, min(xs) * 2)
    span = math.log10(high) - math.log10(low)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(max(low, x)) - math.log10(low)) / span
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / 100 * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{x_label}</text>',
        f'<text transform="translate(14 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">{y_label}</text>',
    ]
    for y in (0, 25, 50, 75, 100):
        parts += _line(at(low, y), at(high, y), f"{y}", "end", (-6, 4))
    for x in _ticks(low, high):
        parts += _line(at(x, 0), at(x, 100), f"{x:g}", "middle", (0, 16))
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in one.points))
        top = TOP + 8 + 18 * number
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{top}" fill="{colour}">{one.label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(
    start: tuple[float, float], end: tuple[float, float], label: str, anchor: str, shift: tuple[int, int]
) -> list[str]:
    return [
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="#ddd"/>',
        f'<text x="{start[0] + shift[0]:.1f}" y="{start[1] + shift[1]:.1f}" text-anchor="{anchor}">{label}</text>',
    ]


def _ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick * 10**power for power in powers for tick in TICKS if low <= tick * 10**power <= high]
