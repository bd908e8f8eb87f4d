"""How long a run takes, whoever answered its calls and however long they waited for their turn."""

from bisect import bisect_right
from collections.abc import Sequence

from dspex.language.records import Trace

_Call = tuple[int, int, float]


def run_seconds(trace: Trace, wall: float) -> float:
    """Return the seconds of a run: the time outside of model calls plus the time that the models took.

    A call that says how long the model took (see `Response.seconds`) counts with that, so neither a wait for a turn, a
    pause or another attempt nor a quick answer from a cache changes the figure. Of calls side by side, the longest
    chain of calls one after the other counts. Where no call says anything, it is `wall`.
    """
    calls = [
        (span.start_ns, span.end_ns, float(seconds))
        for span in trace.spans
        if span.kind == "model" and isinstance(seconds := span.attributes.get("seconds"), int | float)
    ]
    return max(0.0, wall - _covered(calls)) + _longest_chain(calls) if calls else wall


def _covered(calls: Sequence[_Call]) -> float:
    """Return how many seconds at least one call was under way."""
    total, reach = 0, min(start for start, _, _ in calls)
    for start, end, _ in sorted(calls):
        total += max(0, end - max(start, reach))
        reach = max(reach, end)
    return total / 1e9


def _longest_chain(calls: Sequence[_Call]) -> float:
    """Return the greatest sum of seconds over calls of which each began after the end of the one before."""
    ends, best = list[int](), [0.0]
    for start, end, seconds in sorted(calls, key=lambda call: call[1]):
        reached = best[bisect_right(ends, start)]
        ends.append(end)
        best.append(max(best[-1], reached + seconds))
    return best[-1]
