"""Several objectives at once: limits, the Pareto front, hypervolume."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dspex.errors import DefinitionError, suggest
from dspex.learning.optimizers.proposer import Trial

_LIMIT = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*\$?([0-9.]+(?:[eE]-?\d+)?)\s*(s|ms|)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure has to be below or above a value."""

    figure: str
    sign: str
    value: float

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Return whether `figures` are within the limit; an unknown figure is not.

        Raises:
            DefinitionError: there is no such figure.
        """
        value = figure_of(figures, self.figure)
        if math.isnan(value):
            return False
        return {
            "<": value < self.value,
            "<=": value <= self.value,
            ">": value > self.value,
            ">=": value >= self.value,
        }[self.sign]

    def __str__(self) -> str:
        return f"{self.figure}{self.sign}{self.value:g}"


def parse_limit(text: str) -> Limit:
    """Read a limit such as "p95<2s", "usd<=0.001" or "accuracy>=0.9".

    Raises:
        DefinitionError: it is none.
    """
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise DefinitionError(f"{text!r} is no limit; write one like 'p95<2s', 'usd<=0.001' or 'exact_match>=0.9'")
    scale = 0.001 if found[4] == "ms" else 1.0
    return Limit(found[1], found[2], float(found[3]) * scale)


def figure_of(figures: Mapping[str, float], name: str) -> float:
    """Return a figure; with a leading minus its negative.

    Raises:
        DefinitionError: there is no such figure.
    """
    bare = name.removeprefix("-")
    if bare not in figures:
        hint = suggest(bare, list(figures))
        raise DefinitionError(f"there is no figure {bare!r}.{hint} There is: {', '.join(figures)}")
    return -figures[bare] if name.startswith("-") else figures[bare]


def front(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """Return the trials that no other beats or equals in every objective; among equals the earliest."""
    if not objectives:
        raise DefinitionError("name at least one objective, such as 'exact_match' or '-usd'")
    points = [(trial, tuple(figure_of(trial.figures, name) for name in objectives)) for trial in trials]
    points = [(trial, point) for trial, point in points if not any(map(math.isnan, point))]
    kept = [
        (trial, point)
        for number, (trial, point) in enumerate(points)
        if not any(_beats(other, point, earlier=n < number) for n, (_, other) in enumerate(points) if n != number)
    ]
    return [trial for trial, _ in sorted(kept, key=lambda pair: (-pair[1][0], pair[0].number))]


def _beats(one: tuple[float, ...], other: tuple[float, ...], *, earlier: bool) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and (one != other or earlier)


def ranks(points: Sequence[Sequence[float]]) -> list[int]:
    """Return, for each point, how many fronts lie before its own: 0 where no other is better in every objective."""
    left, found, rank = set(range(len(points))), [0] * len(points), 0
    while left:
        front_now = {n for n in left if not any(_exceeds(points[m], points[n]) for m in left)}
        for n in front_now:
            found[n] = rank
        left, rank = left - front_now, rank + 1
    return found


def _exceeds(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area that `points` (both maximized) dominate above `reference`."""
    area, height = 0.0, reference[1]
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if x > reference[0] and y > height:
            area += (x - reference[0]) * (y - height)
            height = y
    return area
