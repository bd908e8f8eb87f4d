"""Small drawings without text: an interval on its scale, a share as a bar."""

import math

from dspex.markup.elements import Markup, element, join


def interval_drawing(
    value: float, low: float, high: float, *, start: float = 0.0, end: float = 1.0
) -> Markup:
    """Return an interval and its point on a scale from `start` to `end`; empty without a number.

    A scale that contains 0 inside shows where it is. The numbers belong into the text beside it.
    """
    if not all(map(math.isfinite, (value, low, high, start, end))) or start >= end:
        return Markup()

    def place(number: float) -> float:
        return round(100 * (min(max(number, start), end) - start) / (end - start), 2)

    left, right, zero = place(low), place(high), place(0.0)
    parts = [
        _line("scale", 0, 100, y1=8, y2=8),
        start < 0 < end and _line("zero", zero, zero, y1=0, y2=16),
        element(
            "rect",
            class_="band",
            x=f"{left}%",
            y=4,
            width=f"{round(right - left, 2)}%",
            height=8,
        ),
        _line("end", left, left, y1=2, y2=14),
        _line("end", right, right, y1=2, y2=14),
        element("circle", class_="point", cx=f"{place(value)}%", cy=8, r=4.5),
    ]
    return _picture("interval", [part for part in parts if part])


def _line(name: str, left: float, right: float, **ends: int) -> Markup:
    return element("line", class_=name, x1=f"{left}%", x2=f"{right}%", **ends)


def share_drawing(share: float) -> Markup:
    """Return a share from 0 to 1 as a bar; empty if it is not a number."""
    if not math.isfinite(share):
        return Markup()
    width = round(100 * min(max(share, 0.0), 1.0), 2)
    return _picture(
        "share",
        [
            element("rect", class_="scale", y=5, width="100%", height=6, rx=3),
            element("rect", class_="bar", y=5, width=f"{width}%", height=6, rx=3),
        ],
    )


def timeline_drawing(start: float, end: float) -> Markup:
    """Return a bar from one share of a whole to another, such as a part of a run."""
    left, width = round(100 * start, 2), round(max(100 * (end - start), 0.8), 2)
    return _picture(
        "timeline", [element("rect", class_="bar", x=f"{left}%", y=5, width=f"{width}%", height=6)]
    )


def _picture(name: str, parts: list[Markup]) -> Markup:
    class_ = f"drawing {name}"
    return element(
        "svg", join(parts), class_=class_, height=16, aria_hidden="true", focusable="false"
    )
