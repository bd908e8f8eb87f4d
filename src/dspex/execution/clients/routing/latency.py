"""The recent latency of an endpoint, and whether it is slower than it used to be."""

from collections import deque
from itertools import islice
from typing import Final

import msgspec

RECENT: Final = 64  # calls whose percentile says when one is late
_NEWEST: Final = 16  # of these, those whose median says whether the endpoint is slow now
_FEWEST: Final = 16  # calls before there are figures
_REFRESH: Final = 8  # calls between two computations of the figures
_MEMORY: Final = 21_600.0  # seconds in which slowness becomes usual
SLOW: Final = 2.0  # times the usual median


class LatencyFigures(msgspec.Struct, frozen=True, gc=False):
    """Seconds: the median now, the recent percentile, and the usual median; None: too few."""

    median: float | None = None
    late: float | None = None
    usual: float | None = None

    @property
    def is_slow(self) -> bool:
        """Whether the endpoint is slower than usual."""
        median, usual = self.median, self.usual
        return median is not None and usual is not None and median > SLOW * usual


class Latency:
    """Collects the seconds of calls. Not safe for threads."""

    __slots__ = ("_figures_at", "_percentile", "_recent", "_since", "figures")

    def __init__(self, percentile: float) -> None:
        """Take the percentile, between 0 and 1, of `LatencyFigures.late`."""
        self.figures = LatencyFigures()
        self._percentile = percentile
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._since = 0
        self._figures_at = 0.0

    def add(self, seconds: float, now: float) -> bool:
        """Add a call that ended at `now`; return whether the figures are new."""
        self._recent.append(seconds)
        self._since += 1
        if self._since < _REFRESH or len(self._recent) < _FEWEST:
            return False
        ordered, usual = sorted(self._recent), self.figures.usual
        newest = sorted(islice(reversed(self._recent), _NEWEST))
        median = newest[len(newest) // 2]
        if usual is None or median < usual:
            usual = median
        else:
            usual += min(1.0, (now - self._figures_at) / _MEMORY) * (median - usual)
        late = ordered[min(len(ordered) - 1, int(self._percentile * len(ordered)))]
        self.figures = LatencyFigures(median, late, usual)
        self._since, self._figures_at = 0, now
        return True
