"""One execution from end to end: load, validate, record, run, validate, record."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from dspex.clock import Clock
from dspex.errors import DspexError, ExecutionError, InvalidError, NotFoundError, boundary, shorten
from dspex.execution.backends import Backends, Choice
from dspex.execution.context import RunContext
from dspex.language.programs import Program
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain
from dspex.operations.resources.execution import EXECUTION, ExecutionRecord
from dspex.operations.resources.ports import Insert, Store, Update
from dspex.operations.resources.program import PROGRAM, PROGRAM_VERSION, ProgramRecord, ProgramVersionRecord


class Executor:
    """Runs stored programs. Each call leaves exactly one execution behind, whatever happens in it."""

    def __init__(
        self,
        store: Store,
        *,
        backends: Backends,
        context: RunContext,
        clock: Clock,
        new_id: Callable[[], UUID],
    ) -> None:
        """Take the collaborators; `context` holds the model for programs that name none."""
        self._store = store
        self._backends = backends
        self._context = context
        self._clock = clock
        self._new_id = new_id
        self._values: dict[UUID, Program] = {}

    async def version_of(self, program: ProgramRecord) -> ProgramVersionRecord:
        """Return the current version of `program`.

        Raises:
            NotFoundError: it has none yet.
        """
        found = await self._store.get(PROGRAM_VERSION, id=program.current_version_id)
        if found is None:
            raise NotFoundError(f"program {program.name!r} has no version; it is {program.status}")
        return found

    async def value_of(self, program: ProgramRecord) -> Program:
        """Return the current version of `program` as the value that runs; versions never change, so they are kept."""
        key = program.current_version_id
        if key is None or key not in self._values:
            version = await self.version_of(program)
            data = {"definition": version.definition, "assignment": version.assignment}
            self._values[version.id] = Program.from_dict(data)
            return self._values[version.id]
        return self._values[key]

    async def execute(
        self, program: ProgramRecord, inputs: Mapping[str, Any], *, backend: str | None = None
    ) -> ExecutionRecord:
        """Run `program` once, on `backend` where one is asked for; see `Operations.execute_program`."""
        PROGRAM.step("execute", program.status)
        value = await self.value_of(program)
        choice = self._backends.choose(value, stored=program.backend, asked=backend)
        try:
            validated = value.signature.validate_inputs(inputs)
        except InvalidError as error:
            refused = self._record(program, _json_ready(inputs), choice)
            failed = self._ended(refused, error=error)
            await self._store.write(Insert(failed), self._counted(program, failed))
            raise InvalidError(error.message, errors=error.fields, execution_id=str(failed.id)) from None
        running = self._record(program, value.signature.input_validator.dump(validated), choice)
        await self._store.write(Insert(running))
        return await self._run(program, running, choice=choice, inputs=validated)

    async def _run(
        self, program: ProgramRecord, running: ExecutionRecord, *, choice: Choice, inputs: Mapping[str, Any]
    ) -> ExecutionRecord:
        try:
            with boundary(ExecutionError, f"program {program.name!r} failed"):
                handle = await choice.backend.create_program(choice.program)
                prediction = await choice.backend.execute_program(handle, inputs, self._context)
            ended = self._ended(running, prediction=prediction, signature=choice.program.signature)
        except DspexError as error:
            ended = self._ended(running, error=error)
        except asyncio.CancelledError:
            await asyncio.shield(self._close(program, self._ended(running, error=None)))
            raise
        await self._close(program, ended)
        return ended

    def _record(self, program: ProgramRecord, inputs: dict[str, Any], choice: Choice) -> ExecutionRecord:
        if program.current_version_id is None:
            raise NotFoundError(f"program {program.name!r} has no version")
        now = self._clock.now()
        return ExecutionRecord(
            id=self._new_id(),
            workspace=program.workspace,
            created_at=now,
            updated_at=now,
            program_id=program.id,
            program_version_id=program.current_version_id,
            status="running",
            backend=choice.name,
            inputs=inputs,
            started_at=now,
        )

    def _ended(
        self,
        running: ExecutionRecord,
        *,
        prediction: Prediction | None = None,
        signature: Signature | None = None,
        error: DspexError | None = None,
    ) -> ExecutionRecord:
        """Return the execution as it ended: completed with a prediction, failed with an error, else cancelled."""
        now = self._clock.now()
        values: dict[str, Any] = {"updated_at": now, "finished_at": now, "duration_ms": _milliseconds(running, now)}
        if error is not None:
            values |= {"status": EXECUTION.step("fail", running.status), "error": error.to_dict()}
        elif prediction is not None and signature is not None:
            usage = prediction.usage
            found = prediction.to_dict()  # dspy's modules give more than their signatures say, such as a trajectory
            known = {name: found[name] for name in signature.output_fields if name in found}
            outputs = signature.output_validator.dump(signature.validate_outputs(known))
            values |= {
                "status": EXECUTION.step("complete", running.status),
                "outputs": outputs,
                "usage": msgspec.to_builtins(usage),
                "cost_usd": usage.cost_usd,
                "trace": msgspec.to_builtins(prediction.trace),
            }
        else:
            values["status"] = EXECUTION.step("cancel", running.status)
        return dataclasses.replace(running, **values)

    async def _close(self, program: ProgramRecord, ended: ExecutionRecord) -> None:
        names = ("status", "updated_at", "finished_at", "duration_ms", "error", "outputs", "usage", "cost_usd", "trace")
        values = {name: getattr(ended, name) for name in names}
        change = Update(resource=EXECUTION, id=ended.id, values=values, statuses=("running",))
        await self._store.write(change, self._counted(program, ended))

    def _counted(self, program: ProgramRecord, ended: ExecutionRecord) -> Update:
        return Update(
            resource=PROGRAM,
            id=program.id,
            values={"last_executed_at": ended.finished_at},
            increments={"execution_count": 1},
        )


def _milliseconds(running: ExecutionRecord, now: datetime) -> float:
    return (now - (running.started_at or now)).total_seconds() * 1e3


def _json_ready(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs that were refused as far as they can be stored."""
    try:
        made: dict[str, Any] = plain(dict(inputs))
    except (ValueError, TypeError, RecursionError):
        return {str(name): shorten(value) for name, value in inputs.items()}
    return made
