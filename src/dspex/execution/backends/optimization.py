"""The interface of backends that also optimize and evaluate programs, and export their state."""

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
    """The input of an optimizer. `options` go to its constructor, `compile` to the search."""

    optimizer: str
    metric: Metric
    trainset: Sequence[Row]
    valset: Sequence[Row] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    compile: Mapping[str, Any] = field(default_factory=dict)


class OptimizingBackend(Backend, Protocol):
    """A backend with the capability "optimizing". Its model calls count in the caller's context."""

    async def optimize_program(
        self,
        handle: Handle,
        work: Optimization,
        context: RunContext,
        *,
        on_progress: Progress | None = None,
    ) -> Program:
        """Return an improved copy of a program. A cancelled search ends within a second.

        Raises:
            NotFoundError: the backend has no program with this handle.
            DefinitionError: the optimizer or an option is unknown, or the metric fails.
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
        """Return `{outputs, score, error}` for each row in order; a failed row has only `error`."""
        ...

    async def export_state(self, handle: Handle) -> dict[str, Any]:
        """Return the state of a program as JSON-ready data, without keys."""
        ...
