"""A scatter plot of trials as self-contained SVG, for notebooks and pages."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

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


def scatter(points: Sequence[Point], *, x: str, y: str) -> str:
    """Return a scatter plot as SVG, with the front as a step line.

    Each point has a tooltip. Points that lack one of the two figures are left out.
    """
    visible = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not visible:
        return "<p>Nothing to plot: no trial has both figures.</p>"
    across = _Scale([point.x for point in visible], LEFT, WIDTH - RIGHT)
    up = _Scale([point.y for point in visible], HEIGHT - BOTTOM, TOP)
    parts = [
        _axes(across, up, x=x, y=y),
        _front([point for point in visible if point.is_on_front], across, up),
    ]
    order = sorted(visible, key=lambda point: (bool(point.mark), point.is_on_front))
    parts += [_circle(point, across, up) for point in order]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{html.escape(y)} by {html.escape(x)}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>'
    )


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
    parts = [f'<path d="M{LEFT} {TOP}V{floor}H{side}" fill="none" stroke="#666"/>']
    for value in across.ticks():
        place = across(value)
        parts.append(f'<path d="M{place} {floor}v4" stroke="#666"/>')
        parts.append(
            f'<text x="{place}" y="{floor + 17}" text-anchor="middle" '
            f'fill="#444">{value:.4g}</text>'
        )
    for value in up.ticks():
        place = up(value)
        parts.append(f'<path d="M{LEFT} {place}H{side}" stroke="#eee"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{place + 4}" text-anchor="end" fill="#444">{value:.4g}</text>'
        )
    middle = (TOP + floor) // 2
    parts.append(
        f'<text x="{(LEFT + side) // 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{html.escape(x)}</text>'
    )
    turned = f'transform="rotate(-90 14 {middle})"'
    parts.append(f'<text x="14" y="{middle}" {turned} text-anchor="middle">{html.escape(y)}</text>')
    return "".join(parts)


def _front(points: Sequence[Point], across: _Scale, up: _Scale) -> str:
    if len(points) < 2:
        return ""
    ordered = sorted(points, key=lambda point: (point.x, point.y))
    path = f"M{across(ordered[0].x)} {up(ordered[0].y)}"
    path += "".join(f"H{across(point.x)}V{up(point.y)}" for point in ordered[1:])
    return (
        f'<path d="{path}" fill="none" stroke="#0b6e4f" stroke-width="1.5" stroke-dasharray="4 3"/>'
    )


def _circle(point: Point, across: _Scale, up: _Scale) -> str:
    colour = {"best": "#d1495b", "before": "#2f4b7c"}.get(
        point.mark, "#0b6e4f" if point.is_on_front else "#bbb"
    )
    size = 7 if point.mark else 5 if point.is_on_front else 4
    place = f'cx="{across(point.x)}" cy="{up(point.y)}" r="{size}"'
    tooltip = html.escape(
        f"{point.mark + ': ' if point.mark else ''}{point.label} ({point.x:.4g}, {point.y:.4g})"
    )
    circle = (
        f'<circle {place} fill="{colour}" fill-opacity="0.85"><title>{tooltip}</title></circle>'
    )
    if not point.mark:
        return circle
    anchor, shift = ("end", -10) if across(point.x) > WIDTH * 0.8 else ("start", 10)
    words = (
        f'x="{across(point.x) + shift}" y="{up(point.y) - 8}" text-anchor="{anchor}" '
        f'fill="{colour}"'
    )
    return f"{circle}<text {words}>{html.escape(point.mark)}</text>"
