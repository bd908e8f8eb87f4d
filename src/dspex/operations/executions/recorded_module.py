"""A stored program as a module; every call is recorded as an execution."""

import asyncio
import dataclasses
from typing import Any, Self

import msgspec

from dspex.errors import ExecutionError
from dspex.execution.backends.outputs import check_outputs
from dspex.execution.context import RunContext
from dspex.execution.modules import Module
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.records import Prediction, Trace, Usage
from dspex.language.signatures import Signature
from dspex.language.variables import Assignment
from dspex.operations.executions.actions import execute_record
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.records import ProgramRecord
from dspex.operations.programs.stored_programs import record_program


class RecordedModule(Module):
    """Runs a program through `Operations`, so that evaluations and optimizations record every call.

    The version is stored at the first call; a variant made by `assign` is a version of the same
    program.
    """

    def __init__(
        self,
        operations: Operations,
        program: Program,
        *,
        backend: str | None = None,
        model: str | None = None,
    ) -> None:
        """Take the operations and the program; nothing is stored yet.

        `model` replaces the model of the operations.
        """
        self._operations = operations
        self._program = program
        self._backend = backend
        self._model = model
        self._lock = asyncio.Lock()
        self._record: ProgramRecord | None = None

    def contract(self) -> Signature:
        """Return the program's signature."""
        return self._program.signature

    def to_program(self, name: str = "") -> Program:
        """Return the program."""
        return self._program if not name else dataclasses.replace(self._program, name=name)

    def node(self, path: ModulePath) -> Node:
        """Return the program's root."""
        del path
        return self._program.root

    def assign(self, values: Assignment) -> Self:
        """Return a variant of the program with other values for some variables."""
        program = self._program.assign(values)
        return type(self)(self._operations, program, backend=self._backend, model=self._model)

    async def acall(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:
        """Execute the program once, in the context of the operations; `context` is ignored.

        Raises:
            InvalidError: the inputs are invalid.
            ExecutionError: the execution failed; the error has its id.
        """
        del context
        record = await execute_record(
            self._operations,
            await self.stored(),
            inputs,
            backend=self._backend,
            model=self._model,
        )
        if record.status != "completed":
            error = record.error or {"message": f"the execution is {record.status}"}
            raise ExecutionError(
                str(error["message"]),
                execution_id=str(record.id),
                remote_frames=error.get("frames", ()),
            )
        return prediction_of(record, self._program)

    async def stored(self) -> ProgramRecord:
        """Return the stored program at this version, storing it first if it is new."""
        async with self._lock:
            if self._record is None:
                self._record = await record_program(self._operations, self._program)
            return self._record


def prediction_of(record: ExecutionRecord, program: Program) -> Prediction:
    """Return the typed outputs of a completed execution, with usage and trace."""
    outputs = check_outputs(program, record.outputs or {})
    trace = msgspec.convert(record.trace or {"trace_id": ""}, Trace)
    return Prediction.of_run(outputs, trace, usage=msgspec.convert(record.usage or {}, Usage))
