"""A scatter plot of trials as SVG: by itself in light colours, in pages and notebooks in theirs."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dspex.learning.optimizers.plot_labels import Box, Place, place_label
from dspex.markup.elements import clean
from dspex.markup.styles import light_tokens

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 70, 48, 16, 20
TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A trial in the plot; `mark` is "best", "before" or empty."""

    x: float
    y: float
    label: str
    is_on_front: bool = False
    mark: str = ""


def scatter(points: Sequence[Point], *, x: str, y: str, held_out: Sequence[Point] = ()) -> str:
    """Return a scatter plot as SVG, with the front as a step line.

    Each point has a tooltip. Points that lack one of the two figures are left out. Points that are
    `held_out`, before and after, are diamonds with a line between them.
    """
    visible, diamonds = _drawable(points), _drawable(held_out)
    if not visible:
        return "<p>Nothing to plot: no trial has both figures.</p>"
    across = _Scale([point.x for point in (*visible, *diamonds)], LEFT, WIDTH - RIGHT)
    up = _Scale([point.y for point in (*visible, *diamonds)], HEIGHT - BOTTOM, TOP)
    front = _front_line([point for point in visible if point.is_on_front], across, up)
    gain = [(across(point.x), up(point.y)) for point in diamonds]
    order = sorted(visible, key=lambda point: (bool(point.mark), point.is_on_front))
    parts = [
        _axes(across, up, x=x, y=y),
        _front(front),
        *(_circle(point, across, up) for point in order),
        _held_out(diamonds, gain),
        _words(visible, across, up, lines=(front, gain)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{_text(y)} by {_text(x)}</title>"
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" {_fill("paper")}/>'
        f"{''.join(parts)}</svg>"
    )


def _drawable(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]


def _text(text: str) -> str:
    return html.escape(clean(text))


def _fill(token: str) -> str:
    return f'fill="{light_tokens()[token]}"'


def _stroke(token: str) -> str:
    return f'stroke="{light_tokens()[token]}"'


class _Scale:
    """Maps a figure to a position in the plot, with a small margin on both sides."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        room = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
        self.low, self.high, self.start, self.end = low - room, high + room, start, end

    def __call__(self, value: float) -> float:
        return round(
            self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1
        )

    def ticks(self) -> list[float]:
        rough = (self.high - self.low) / TICKS
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step) + 1)]


def _axes(across: _Scale, up: _Scale, *, x: str, y: str) -> str:
    floor, side = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<path d="M{LEFT} {TOP}V{floor}H{side}" class="axis" fill="none" {_stroke("muted")}/>'
    ]
    for value in across.ticks():
        place = across(value)
        parts.append(f'<path d="M{place} {floor}v4" class="axis" {_stroke("muted")}/>')
        parts.append(
            f'<text x="{place}" y="{floor + 17}" text-anchor="middle" '
            f"{_fill('muted')}>{value:.4g}</text>"
        )
    for value in up.ticks():
        place = up(value)
        parts.append(f'<path d="M{LEFT} {place}H{side}" class="grid" {_stroke("line")}/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{place + 4}" text-anchor="end" '
            f"{_fill('muted')}>{value:.4g}</text>"
        )
    middle = (TOP + floor) // 2
    parts.append(
        f'<text x="{(LEFT + side) // 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle" {_fill("muted")}>{_text(x)}</text>'
    )
    turned = f'transform="rotate(-90 14 {middle})"'
    parts.append(
        f'<text x="14" y="{middle}" {turned} text-anchor="middle" '
        f"{_fill('muted')}>{_text(y)}</text>"
    )
    return "".join(parts)


def _front_line(points: Sequence[Point], across: _Scale, up: _Scale) -> list[Place]:
    """Return the corners of the step line through the points of the front."""
    places = [
        (across(point.x), up(point.y))
        for point in sorted(points, key=lambda each: (each.x, each.y))
    ]
    return [
        *places[:1],
        *(corner for (_, y), (x, top) in pairwise(places) for corner in ((x, y), (x, top))),
    ]


def _front(line: Sequence[Place]) -> str:
    if not line:
        return ""
    return (
        f'<path class="front" d="{_path(line)}" fill="none" {_stroke("good")} stroke-width="1.5" '
        'stroke-dasharray="4 3"/>'
    )


def _path(line: Sequence[Place]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in line)


def _circle(point: Point, across: _Scale, up: _Scale) -> str:
    name = point.mark or ("on-front" if point.is_on_front else "trial")
    token = {"best": "bad", "before": "accent", "on-front": "good", "trial": "faint"}[name]
    size = 7 if point.mark else 5 if point.is_on_front else 4
    place = f'cx="{across(point.x)}" cy="{up(point.y)}" r="{size}"'
    return f'<circle class="{name}" {place} {_fill(token)}>{_tooltip(point)}</circle>'


def _words(
    points: Sequence[Point], across: _Scale, up: _Scale, *, lines: Sequence[Sequence[Place]]
) -> str:
    """Return the names of the marked points, above everything else in the drawing."""
    plot = Box(left=LEFT, top=0, right=WIDTH, bottom=HEIGHT - BOTTOM)
    places = [
        *((across(point.x), up(point.y)) for point in points),
        *(p for line in lines for p in line),
    ]
    words = []
    for point in points:
        if not point.mark:
            continue
        label = place_label(
            point.mark, (across(point.x), up(point.y)), plot=plot, lines=lines, points=places
        )
        start = f'x="{label.x:.1f}" y="{label.y:.1f}" text-anchor="{label.anchor}"'
        words.append(f'<text class="words" {start} {_fill("ink")}>{point.mark}</text>')
    return "".join(words)


def _tooltip(point: Point) -> str:
    mark = f"{point.mark}: " if point.mark else ""
    return f"<title>{_text(f'{mark}{point.label} ({point.x:.4g}, {point.y:.4g})')}</title>"


def _held_out(points: Sequence[Point], places: Sequence[Place]) -> str:
    if not points:
        return ""
    line = f'd="{_path(places)}" fill="none" {_stroke("held")} stroke-width="1.5"'
    parts = [f'<path class="gain" {line}/>']
    for point, (x, y) in zip(points, places, strict=True):
        is_after = point is points[-1]
        fill = _fill("held") if is_after else _fill("paper")
        name = "held-out after" if is_after else "held-out"
        path = f'd="M{x} {y - 7}l7 7l-7 7l-7 -7z"'
        style = f'{fill} {_stroke("held")} stroke-width="2"'
        parts.append(f'<path class="{name}" {path} {style}>{_tooltip(point)}</path>')
    return "".join(parts)
