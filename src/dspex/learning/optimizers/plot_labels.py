"""Where the label of a point goes in a plot: beside it, clear of lines and other points."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Place = tuple[float, float]
_LETTER, _HEIGHT, _GAP = 10.0, 18.0, 11.0  # of the text on a phone, where it is largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in the units of the drawing; `top` is less than `bottom`."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, box: "Box") -> bool:
        """Whether `box` is inside."""
        is_beside = box.left < self.left or box.right > self.right
        return not (is_beside or box.top < self.top or box.bottom > self.bottom)

    def crosses(self, start: Place, end: Place) -> bool:
        """Whether the line from `start` to `end` touches this rectangle."""
        (x, y), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
        low, high = 0.0, 1.0  # the part of the line that may be inside, after Liang and Barsky
        for step, room in (
            (-dx, x - self.left),
            (dx, self.right - x),
            (-dy, y - self.top),
            (dy, self.bottom - y),
        ):
            if step == 0 and room < 0:
                return False
            if step < 0:
                low = max(low, room / step)
            elif step > 0:
                high = min(high, room / step)
        return low <= high


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The place of a text: the start, middle or end of its base line, and the room it takes."""

    x: float
    y: float
    anchor: str
    box: Box


def place_label(
    text: str,
    point: Place,
    *,
    plot: Box,
    lines: Sequence[Sequence[Place]],
    points: Sequence[Place],
) -> Label:
    """Return the first place near `point` that crosses nothing, or the one that crosses least."""

    def crossings(label: Label) -> int:
        crossed = sum(label.box.crosses(*ends) for line in lines for ends in pairwise(line))
        crossed += sum(label.box.crosses(place, place) for place in points)
        return crossed if plot.holds(label.box) else crossed + 10

    return min(_labels(len(text) * _LETTER, point, plot), key=crossings)


def _labels(width: float, point: Place, plot: Box) -> Iterator[Label]:
    """Yield above and below, each to the right, to the left and in the middle; then beside."""
    x, y = point
    middle = min(max(x, plot.left + width / 2), plot.right - width / 2)
    for gap in (_GAP, 2 * _GAP):
        for base in (y - gap, y + gap + 0.75 * _HEIGHT):
            yield _label("start", (x + _GAP, base), width)
            yield _label("end", (x - _GAP, base), width)
            yield _label("middle", (middle, base), width)
    yield _label("start", (x + _GAP, y + 0.3 * _HEIGHT), width)
    yield _label("end", (x - _GAP, y + 0.3 * _HEIGHT), width)


def _label(anchor: str, base: Place, width: float) -> Label:
    x, y = base
    start = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
    top, bottom = y - 0.8 * _HEIGHT, y + 0.2 * _HEIGHT
    return Label(
        x=x, y=y, anchor=anchor, box=Box(left=start, top=top, right=start + width, bottom=bottom)
    )
