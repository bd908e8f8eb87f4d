"""Backends that can also make a program better, score it on many rows, and give out its state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex.execution.backends.backend import Backend, Handle
from dspex.execution.backends.remote import Metric
from dspex.execution.context import RunContext
from dspex.language.programs import Program

Progress = Callable[[str, Any], None]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """What a backend's own optimizer is given. `options` go to its constructor, `compile` to the search itself."""

    optimizer: str
    metric: Metric
    trainset: Sequence[Row]
    valset: Sequence[Row] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    compile: Mapping[str, Any] = field(default_factory=dict)


class OptimizingBackend(Backend, Protocol):
    """A backend with the capability "optimizing". What it asks of models counts in the caller's context."""

    async def optimize_program(
        self, handle: Handle, work: Optimization, context: RunContext, *, on_progress: Progress | None = None
    ) -> Program:
        """Return a better program; the one behind `handle` stays as it is. Cancelling ends it within a second.

        Raises:
            NotFoundError: there is no program behind `handle`.
            DefinitionError: there is no such optimizer or option, or the metric fails.
            ExecutionError: the search failed.
        """
        ...

    async def evaluate_program(
        self,
        handle: Handle,
        rows: Sequence[Row],
        metric: Metric,
        *,
        context: RunContext,
        on_progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """Return `{outputs, score, error}` for each row, in their order; a row that fails has an error and no score."""
        ...

    async def export_state(self, handle: Handle) -> dict[str, Any]:
        """Return the state of a program as JSON-ready data, without keys."""
        ...
