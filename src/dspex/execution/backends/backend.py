"""The interface between a stored program and the place where it runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NewType, Protocol

from dspex.execution.context import RunContext
from dspex.language.programs import Program
from dspex.language.records import Prediction

BackendCapability = Literal[
    "code_programs", "streaming", "isolation", "deterministic", "optimizing"
]
Handle = NewType("Handle", str)


class Backend(Protocol):
    """Holds programs and runs them; tasks of one event loop may call it concurrently.

    Creating the same contents twice returns the same handle. It stays valid until the program is
    deleted, or until it is evicted after a few hundred other programs were used. Create a program
    before each run: this costs nothing if the backend still has it.
    """

    name: str
    capabilities: frozenset[BackendCapability]

    async def create_program(self, program: Program) -> Handle:
        """Make `program` ready to run; idempotent by content hash.

        Raises:
            DefinitionError: the program cannot run here; the message says why.
        """
        ...

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        """Run a program once on validated or raw inputs.

        Raises:
            NotFoundError: the backend has no program with this handle.
            InputError: the inputs do not fit.
            ExecutionError: the run failed.
        """
        ...

    async def delete_program(self, handle: Handle) -> None:
        """Remove a program; its running executions finish.

        Raises:
            NotFoundError: the backend has no program with this handle.
        """
        ...

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs, in the order of their creation."""
        ...
