"""Slices, pass rates, agreement and steadiness of judges as parts of a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dspex.markup import Content, Markup, element, interval_drawing, table


def breakdown_parts(parts: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield a section for each part that `breakdown` has returned."""
    for name, slices in parts.get("slices", {}).items():
        yield _slices(name, slices)
    for part, show in _SECTIONS.items():
        if values := parts.get(part):
            yield show(values)


def _slices(metric: str, slices: Sequence[Mapping[str, Any]]) -> Markup:
    rows: list[list[Content]] = [
        [
            each["value"],
            _number(each["mean"]),
            _range(each["interval"]),
            _drawing(each["mean"], each["interval"]),
            each["scored"],
            each["failed"],
        ]
        for each in slices
    ]
    head = ("value", "mean", "95% interval", "0 to 1", "scored", "failed")
    return _section(f"Slices: {metric}", head, rows, numeric=(1, 2, 4, 5))


def _pass_rates(rates: Mapping[str, Mapping[str, Any]]) -> Markup:
    rows: list[list[Content]] = [
        [
            name,
            f"{rate['threshold']:g}",
            _number(rate["share"]),
            _range(rate["interval"]),
            _drawing(rate["share"], rate["interval"]),
        ]
        for name, rate in rates.items()
    ]
    head = ("metric", "passes at", "share", "95% interval", "0 to 1")
    return _section("Pass rate", head, rows, numeric=(1, 2, 3))


def _agreement(agreements: Mapping[str, Mapping[str, Any]]) -> Markup:
    rows: list[list[Content]] = [
        [
            name,
            _number(each["kappa"]),
            _number(each["share"]),
            each["pairs"],
            each["false_passes"],
            each["false_failures"],
        ]
        for name, each in agreements.items()
    ]
    head = ("metric", "kappa", "agree", "pairs", "false passes", "false failures")
    return _section("Agreement with people", head, rows, numeric=range(1, 6))


def _judges(judges: Mapping[str, Mapping[str, Any]]) -> Markup:
    rows: list[list[Content]] = [
        [
            name,
            each["repeats"],
            each["answers"],
            _number(each["within"]),
            _number(each["reliability"]),
            f"{each['flips']:.3f} {_range(each['interval'])}",
        ]
        for name, each in judges.items()
    ]
    head = ("judge", "repeats", "answers", "spread", "reliability", "verdicts that flip")
    return _section("Judges asked again", head, rows, numeric=range(1, 6))


_SECTIONS: Final = {
    "pass_rates": _pass_rates,
    "agreement": _agreement,
    "judge_variance": _judges,
}


def _section(
    title: str, head: Sequence[str], rows: list[list[Content]], *, numeric: Sequence[int]
) -> Markup:
    return element("section", element("h2", title), table(head, rows, numeric=numeric))


def _drawing(value: float | None, interval: Sequence[float | None]) -> Content:
    low, high = interval
    if value is None or low is None or high is None:
        return None
    start, end = min(0.0, low), max(1.0, high)
    return interval_drawing(value, low, high, start=start, end=end)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _range(interval: Sequence[float | None]) -> str:
    low, high = interval
    return "unknown" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"
