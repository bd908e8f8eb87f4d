"""The counters of a server, in the text format of Prometheus."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class _WorkspaceTotals:
    """The executions of one workspace."""

    executions: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    cost_usd: float = 0.0


_GAUGES = {
    "dspex_stored_executions": "Executions that a workspace has stored.",
    "dspex_stored_bytes": "Bytes that the executions of a workspace take.",
}


class Gauge(NamedTuple):
    """A value that goes up and down, with its labels."""

    labels: dict[str, str]
    value: float


class ServerMetrics:
    """Counters of one process since its start; the reader adds up several processes.

    Requests are counted for all callers together, executions for each workspace.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._requests: Counter[tuple[str, int]] = Counter()
        self._latency: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._workspaces: dict[str, _WorkspaceTotals] = {}
        self.running = 0

    def count_request(self, route: str, status: int, *, seconds: float) -> None:
        """Count one answered request."""
        self._requests[route, status] += 1
        buckets = self._latency.get(route)
        if buckets is None:
            buckets = self._latency[route] = [0] * (len(EDGES) + 1)
        buckets[bisect_left(EDGES, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]  # a Counter of floats

    def count_execution(
        self,
        workspace: str,
        status: str,
        usage: Mapping[str, Any] | None = None,
        *,
        cost_usd: float | None = None,
    ) -> None:
        """Count one execution that ended with `status`."""
        totals = self._workspaces.get(workspace)
        if totals is None:
            totals = self._workspaces[workspace] = _WorkspaceTotals()
        totals.executions[status] += 1
        if usage is not None:
            totals.tokens["input"] += int(_increment(usage.get("input_tokens")))
            totals.tokens["output"] += int(_increment(usage.get("output_tokens")))
        totals.cost_usd += _increment(cost_usd)

    def text(self, gauges: Mapping[str, Sequence[Gauge]], *, workspace: str | None = None) -> str:
        """Return the counters, and gauges by metric name, of one workspace or of all.

        Only the text of all workspaces, which is for operators, contains the figures of requests.
        """
        lines = []
        if workspace is None:
            lines += [*self._request_lines(), *self._latency_lines()]
            running = [("", self.running)]
            lines += _metric(
                "dspex_requests_running", "gauge", "Requests that are being answered.", running
            )
        lines += self._execution_lines(workspace)
        for name, values in gauges.items():
            lines += _metric(
                name,
                "gauge",
                _GAUGES.get(name, "Rows by their status."),
                [(_labels(**gauge.labels), gauge.value) for gauge in values],
            )
        return "\n".join([*lines, ""])

    def _execution_lines(self, workspace: str | None) -> list[str]:
        selected = [
            totals for name, totals in self._workspaces.items() if workspace in {None, name}
        ]
        executions, tokens = Counter[str](), Counter[str]()
        for totals in selected:
            executions.update(totals.executions)
            tokens.update(totals.tokens)
        by_status = [
            (_labels(status=status), count) for status, count in sorted(executions.items())
        ]
        by_direction = [(_labels(direction=name), count) for name, count in sorted(tokens.items())]
        cost = [("", sum(totals.cost_usd for totals in selected))]
        return [
            *_metric(
                "dspex_executions_total", "counter", "Executions by how they ended.", by_status
            ),
            *_metric("dspex_tokens_total", "counter", "Tokens of the models called.", by_direction),
            *_metric(
                "dspex_cost_usd_total", "counter", "US dollars spent, where prices are known.", cost
            ),
        ]

    def _request_lines(self) -> list[str]:
        values = [
            (_labels(route=route, status=str(status)), count)
            for (route, status), count in sorted(self._requests.items())
        ]
        return _metric("dspex_requests_total", "counter", "Requests answered.", values)

    def _latency_lines(self) -> list[str]:
        name = "dspex_request_seconds"
        lines = _metric(
            name, "histogram", "Seconds from the first byte to the end of the answer.", []
        )
        for route, buckets in sorted(self._latency.items()):
            total = 0
            for edge, count in zip((*map(str, EDGES), "+Inf"), buckets, strict=True):
                total += count
                lines.append(f"{name}_bucket{_labels(route=route, le=edge)} {total}")
            lines.append(f"{name}_sum{_labels(route=route)} {self._seconds[route]}")
            lines.append(f"{name}_count{_labels(route=route)} {total}")
        return lines


def _increment(value: float | None) -> float:
    """Return the increment of a counter: at least 0, whatever a custom model reports."""
    return value if value is not None and value >= 0 and math.isfinite(value) else 0


def _metric(  # noqa: PLR0917
    name: str, kind: str, about: str, values: Iterable[tuple[str, float]]
) -> list[str]:
    return [
        f"# HELP {name} {about}",
        f"# TYPE {name} {kind}",
        *(f"{name}{labels} {value}" for labels, value in values),
    ]


def _labels(**labels: str) -> str:
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
