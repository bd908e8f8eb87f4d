"""The seam between a stored program and the place where it runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NewType, Protocol

from dspex.execution.context import RunContext
from dspex.language.programs import Program
from dspex.language.records import Prediction

BackendCapability = Literal["code_programs", "streaming", "isolation", "deterministic", "optimizing"]
Handle = NewType("Handle", str)


class Backend(Protocol):
    """Holds programs and runs them; safe to call from many tasks of one loop at once.

    Creating the same contents twice gives the same handle. It stays valid until it is deleted, or until some hundred
    other programs were asked for since: create a program before each run, which costs nothing where it is there.
    """

    name: str
    capabilities: frozenset[BackendCapability]

    async def create_program(self, program: Program) -> Handle:
        """Make `program` ready to run; idempotent by content hash.

        Raises:
            DefinitionError: it cannot run here; the message says why.
        """
        ...

    async def execute_program(self, handle: Handle, inputs: Mapping[str, Any], context: RunContext) -> Prediction:
        """Run a program once on validated or raw inputs.

        Raises:
            NotFoundError: there is no program behind `handle`.
            InvalidError: the inputs do not fit.
            ExecutionError: the run failed.
        """
        ...

    async def delete_program(self, handle: Handle) -> None:
        """Forget a program; runs under way end undisturbed.

        Raises:
            NotFoundError: there is no program behind `handle`.
        """
        ...

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs held here, in the order of their creation."""
        ...
