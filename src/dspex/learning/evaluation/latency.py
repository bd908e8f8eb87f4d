"""The duration of a run, corrected for caches, queues and retries."""

from bisect import bisect_right
from collections.abc import Sequence

from dspex.language.records import Trace

_Call = tuple[int, int, float]


def run_seconds(trace: Trace, wall: float) -> float:
    """Return the seconds of a run: the time outside of model calls plus the time of the models.

    A call counts with the time that the model took (`Response.seconds`), so queues, pauses, retries
    and caches do not change the result. Of concurrent calls, the longest chain of consecutive calls
    counts. If no call reports its time, the result is `wall`.
    """
    calls = [
        (span.start_ns, span.end_ns, float(seconds))
        for span in trace.spans
        if span.kind == "model"
        and isinstance(seconds := span.attributes.get("seconds"), int | float)
    ]
    return max(0.0, wall - _covered(calls)) + _longest_chain(calls) if calls else wall


def _covered(calls: Sequence[_Call]) -> float:
    """Return for how many seconds at least one call was in flight."""
    total, reach = 0, min(start for start, _, _ in calls)
    for start, end, _ in sorted(calls):
        total += max(0, end - max(start, reach))
        reach = max(reach, end)
    return total / 1e9


def _longest_chain(calls: Sequence[_Call]) -> float:
    """Return the largest total seconds of a chain of calls that do not overlap."""
    ends, longest = list[int](), [0.0]
    for start, end, seconds in sorted(calls, key=lambda call: call[1]):
        length = longest[bisect_right(ends, start)]
        ends.append(end)
        longest.append(max(longest[-1], length + seconds))
    return longest[-1]
