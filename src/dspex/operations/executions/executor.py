"""The executor: load, validate, record, run, validate, record."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from dspex.clock import Clock
from dspex.errors import (
    ConflictError,
    FieldError,
    InputError,
    InvalidError,
    QuotaError,
)
from dspex.execution.adapters.media import may_hold
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.execution.backends import Backends, Choice
from dspex.execution.context import RunContext, current
from dspex.language.signatures import Signature, Validator
from dspex.language.signatures.cancellable_run import CancellableRun
from dspex.operations.executions.execution_journal import ExecutionJournal, journaled
from dspex.operations.executions.execution_recorder import (
    ExecuteOptions,
    ExecutionRecorder,
    hash_of,
    json_ready,
)
from dspex.operations.executions.execution_rows import ExecutionRows
from dspex.operations.executions.execution_run import ExecutionRun, ProgramCall
from dspex.operations.executions.process_owner import owner_of_this_process
from dspex.operations.executions.question_rows import MAX_RESTARTS, QuestionRows
from dspex.operations.executions.records import (
    EXECUTION,
    SETTLED,
    ExecutionRecord,
    QuestionRecord,
)
from dspex.operations.executions.redaction import PayloadPolicy
from dspex.operations.executions.running_executions import RunningExecution, RunningExecutions
from dspex.operations.executions.sessions import Sessions
from dspex.operations.executions.stages import Stages
from dspex.operations.framework.heavy_work import HeavyWork, InputLimits
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.framework.store import Change, Figures, Query, Store
from dspex.operations.programs.program_cache import ProgramCache
from dspex.operations.programs.records import PROGRAM, ProgramRecord
from dspex.operations.tenancy.quotas import Quotas

_log = logging.getLogger("dspex.executions")
DEFAULT_OPTIONS = ExecuteOptions()
WAIT = 30.0
_POLL_SECONDS = 0.1
ContextProvider = Callable[[str, RunContext], Awaitable[RunContext]]
"""Returns the context for a run in a workspace, derived from the context of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageLimits:
    """How executions are stored and how much may be stored; without `quotas` nothing is counted.

    `figures` deletes what an execution that has ended does not need any more.
    """

    payload_policy: PayloadPolicy = field(default_factory=PayloadPolicy)
    quotas: Quotas | None = None
    figures: Callable[[], Figures] | None = None


class Executor:
    """Runs stored programs. Each call stores exactly one execution, whatever happens.

    An execution takes two transactions: start and end. `runs` are the active runs in this process.
    """

    def __init__(  # all collaborators of a run
        self,
        store: Store,
        *,
        backends: Backends,
        context: RunContext,
        clock: Clock,
        new_id: Callable[[], UUID],
        limits: StorageLimits | None = None,
    ) -> None:
        """Take the collaborators; `context` holds the default model."""
        limits = limits or StorageLimits()
        self.quotas = limits.quotas
        self._store = store
        self._context = context
        self._clock = clock
        self.context_provider: ContextProvider = _unchanged_context
        self.owner = owner_of_this_process(new_id)
        self.runs = RunningExecutions(clock)
        self.heavy = HeavyWork()
        self.input_limits: InputLimits | None = None
        self.recorder = ExecutionRecorder(
            clock=clock, new_id=new_id, owner=self.owner, payload_policy=limits.payload_policy
        )
        self.program_cache = ProgramCache(store, backends=backends, clock=clock)
        self.questions = QuestionRows(
            store, self.recorder, clock=clock, new_id=new_id, figures=limits.figures
        )
        self.sessions = Sessions(store, self.recorder, clock=clock, new_id=new_id)
        self.rows = ExecutionRows(
            store, self.recorder, clock=clock, quotas=limits.quotas, questions=self.questions
        )
        self.on_pending: Callable[[], None] = lambda: None
        """Called when an execution may go on; see `Resumption`."""

    def on_write(self, changes: Sequence[Change]) -> None:
        """Update the cache after changes that were written by this process."""
        self.program_cache.on_write(changes)

    async def execute(
        self,
        program: ProgramRecord,
        inputs: Mapping[str, Any],
        options: ExecuteOptions = DEFAULT_OPTIONS,
        *,
        call: ProgramCall | None = None,
    ) -> ExecutionRecord:
        """Run `program` once, or `call` in its place; see `execute_program`."""
        self.runs.admit()
        if self.quotas is not None:
            await self._admit(program.workspace, options)
        stages = Stages(self._clock)
        PROGRAM.step("execute", program.status)
        with input_errors_as_invalid():
            choice = await self.program_cache.choice(program, options.backend)
        stages.enter("input_validation")
        columns = self._columns(choice)
        if options.idempotency_key is not None:
            columns["inputs_hash"] = hash_of(program, inputs)
        if options.session_id is not None:
            inputs = await self.sessions.with_history(
                inputs,
                choice.program.signature,
                workspace=program.workspace,
                key=options.session_id,
            )
        try:
            validated, data = await self._validated(choice.program.signature, inputs)
        except InputError as error:
            return await self._reject_inputs(
                program, inputs, options, stages=stages, error=error, columns=columns
            )
        record = self.recorder.new_record(
            program, data, options, stages=stages.summary(), **columns
        )
        run = self.runs.begin(record.id)
        try:
            record, is_duplicate = await self._record_start(program, record, options)
            if is_duplicate:
                return record
            waits = call is None and options.may_wait
            execution = self.new_run(
                run,
                record,
                model=options.model,
                choice=choice,
                stages=stages,
                call=call,
                journal=self._new_journal(run, record, inputs=data) if waits else None,
            )
            return await self.finish(execution.run(validated, options.timeout))
        finally:
            self.runs.end(run)

    async def _validated(
        self, signature: Signature, inputs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Any]:
        """Return the result of `_validate`; large inputs are validated in a thread."""
        validator = signature.input_validator
        amount = validator.amount(inputs)
        if self.input_limits is not None:
            with input_errors_as_invalid():
                self.input_limits.check(amount)
        if validator.is_quick(amount):
            return _validate(validator, inputs)
        return await self._validate_in_thread(validator, inputs)

    def _columns(self, choice: Choice) -> dict[str, Any]:
        return {
            "backend": choice.name,
            "parent_id": current().frame.execution_id,
            "may_hold_media": _may_hold_media(choice.program.signature),
        }

    def new_run(
        self,
        run: RunningExecution,
        record: ExecutionRecord,
        *,
        model: str | None = None,
        **parts: Any,
    ) -> ExecutionRun:
        """Return the run of a recorded execution; `parts` are those of `ExecutionRun`."""
        context_of = partial(self._context_of, model=model)
        return ExecutionRun(
            run, record, rows=self.rows, sessions=self.sessions, context_of=context_of, **parts
        )

    async def finish(self, run: Awaitable[ExecutionRecord]) -> ExecutionRecord:
        """Await a run and return its record; an execution that may go on at once is announced."""
        record = await run
        if record.status == "pending":
            self.on_pending()
        return record

    def _new_journal(
        self, run: RunningExecution, record: ExecutionRecord, *, inputs: Any
    ) -> ExecutionJournal | None:
        """Return the journal of a new run; None if it belongs to a run that has one."""
        if current().frame.durable is not None:
            return None
        return self.journal_of(run, record, partial(self.recorder.waiting_problem, record, inputs))

    def journal_of(
        self, run: RunningExecution, record: ExecutionRecord, refusal: Callable[[], str] = str
    ) -> ExecutionJournal:
        """Return the journal of a run; see `ExecutionJournal` for `refusal`."""
        return ExecutionJournal(
            record,
            self.questions,
            recorder=self.recorder,
            suspend=partial(run.stop, "wait"),
            leave=partial(run.stop, "cancel"),
            refusal=refusal,
        )

    async def _validate_in_thread(
        self, validator: Validator, values: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Any]:
        """Return the result of `_validate`, computed in a thread."""

        def check(work: CancellableRun) -> tuple[dict[str, Any], Any]:
            validated = validator.run_cancellable(values, work)
            return validated, validator.dump(validated)

        return await self.heavy.run(check)

    async def _admit(self, workspace: str, options: ExecuteOptions) -> None:
        """Check the quota.

        A call whose execution is already stored passes, because it stores nothing.
        """
        if self.quotas is None:
            return
        try:
            await self.quotas.admit(workspace)
        except QuotaError:
            key = options.idempotency_key
            if key is None or not await self._store.count(
                EXECUTION, {"workspace": workspace, "idempotency_key": key}
            ):
                raise

    async def cancel(self, record: ExecutionRecord, *, actor: str) -> None:
        """Record an execution as cancelled and stop it.

        It stops here at once, in another process within a second.

        Raises:
            ConflictError: the execution has ended.
        """
        await self._store.write(*self.recorder.stop_changes(record, "cancelled", actor=actor))
        self.runs.stop(record.id, "cancel")
        if record.question_count:
            await self.questions.close(record.id)

    async def answer(self, question: QuestionRecord, answer: dict[str, Any], *, actor: str) -> None:
        """Store the answer to an open question; its execution goes on here or elsewhere.

        Raises:
            ConflictError: the question is not open, or its execution has ended.
            InvalidError: the redaction changes the answer.
        """
        await self.questions.answer(question, answer, actor=actor)
        self.on_pending()

    async def lose(self, record: ExecutionRecord) -> None:
        """Record that the process of a running execution is gone.

        Another process continues it if it has asked a person, unless that has failed too often.

        Raises:
            ConflictError: it has ended meanwhile.
        """
        if record.question_count and record.restarts < MAX_RESTARTS:
            await self.questions.put_back(record, has_crashed=True)
            return
        await self._store.write(*self.recorder.stop_changes(record, "interrupted", actor=None))
        if record.question_count:
            await self.questions.close(record.id)

    async def give_up(self, execution_id: UUID) -> None:
        """Record an execution as lost although it still runs; see `lose`.

        Nobody waits for it.
        """
        record = await self._store.get(EXECUTION, id=execution_id)
        if record is not None and record.status == "running":
            await self.lose(record)

    async def watch(self) -> None:
        """Stop local runs that another process cancelled or gave up; called twice a second."""
        ids = self.runs.older_than(_POLL_SECONDS)
        for start in range(0, len(ids), 200):
            where = {"id": tuple(ids[start : start + 200]), "status": ("cancelled", "interrupted")}
            for key in await self.statuses(where):
                self.runs.stop(key, "cancel")

    async def statuses(self, where: Mapping[str, Any]) -> Mapping[UUID, str]:
        """Return the status of each execution that matches `where`."""
        rows = await self._store.select(EXECUTION, Query(where=where, limit=200))
        return {row.id: row.status for row in rows}

    async def _reject_inputs(  # all parts of the failed record
        self,
        program: ProgramRecord,
        inputs: Mapping[str, Any],
        options: ExecuteOptions,
        *,
        stages: Stages,
        error: InputError,
        columns: Mapping[str, Any],
    ) -> ExecutionRecord:
        """Record a call with invalid inputs as a failed execution and raise the error."""
        record = self.recorder.new_record(
            program, json_ready(inputs), options, stages=stages.summary("failed"), **columns
        )
        refusal = InvalidError(error.message, errors=error.fields, execution_id=str(record.id))
        failed_record = replace(
            record, **self.recorder.end_columns(record, status="failed", error=refusal.to_dict())
        )
        record, is_duplicate = await self._record_start(program, failed_record, options)
        if is_duplicate:
            return record
        raise refusal from None

    async def _record_start(
        self, program: ProgramRecord, record: ExecutionRecord, options: ExecuteOptions
    ) -> tuple[ExecutionRecord, bool]:
        """Record the start; return the execution and whether an earlier call made it.

        The earlier call had the same key. If the earlier execution was interrupted, the new one
        takes over its key and refers to it.
        """
        key_release: tuple[Change, ...] = ()
        while True:
            changes = self.recorder.start_changes(program, record, action=options.action)
            try:
                await self._store.write(*key_release, *changes)
            except ConflictError:
                original = await self._find_by_key(record)
                if original is None or (key_release and original.id == record.retry_of):
                    await self._check_ready(program)
                    raise
                result = await self._await_original(
                    original, record, seconds=options.timeout or WAIT
                )
                if result.status != "interrupted":
                    return result, True
                record = replace(record, retry_of=result.id)
                key_release = (self.recorder.key_release(result),)
            else:
                self.rows.charge(record.workspace, changes)
                return record, False

    async def _check_ready(self, program: ProgramRecord) -> None:
        self.program_cache.forget(program.id)
        fresh = await self._store.get(PROGRAM, id=program.id)
        if fresh is not None:
            PROGRAM.step("execute", fresh.status)

    async def _find_by_key(self, record: ExecutionRecord) -> ExecutionRecord | None:
        if record.idempotency_key is None:
            return None
        key = {"workspace": record.workspace, "idempotency_key": record.idempotency_key}
        return await self._store.get(EXECUTION, **key)

    async def _await_original(
        self, original: ExecutionRecord, record: ExecutionRecord, *, seconds: float
    ) -> ExecutionRecord:
        """Wait for the execution of the first call with this key and return it."""
        if original.inputs_hash != record.inputs_hash:
            raise ConflictError(
                f"the idempotency key {original.idempotency_key!r} belongs to an execution with "
                "other inputs; use another key",
                execution_id=str(original.id),
            )
        result = await self.wait_until_ended(original, seconds=seconds)
        if result.status == "failed" and (result.error or {}).get("code") == InvalidError.code:
            error = result.error or {}
            fields = [
                FieldError(**{**field, "value": _StoredRepr(field["value"])})
                for field in error.get("fields", ())
            ]
            raise InvalidError(
                str(error.get("message")), errors=fields, execution_id=str(result.id)
            )
        return result

    async def wait_until_ended(self, record: ExecutionRecord, *, seconds: float) -> ExecutionRecord:
        """Wait at most `seconds` for an execution to end or to wait, and return its record."""
        until = self._clock.monotonic_ns() + int(seconds * 1e9)
        while record.status not in SETTLED and self._clock.monotonic_ns() < until:
            run = self.runs.get(record.id)
            try:
                async with asyncio.timeout(seconds if run is not None else _POLL_SECONDS):
                    await (asyncio.Event().wait() if run is None else run.wait_until_finished())
            except TimeoutError:
                pass
            record = await self.rows.reload(record)
        return record

    async def _context_of(
        self, record: ExecutionRecord, seconds: float | None, *, model: str | None
    ) -> RunContext:
        """Return the context of an execution.

        In another one, its deadline applies if it is earlier, and so do the limits of its teams.
        """
        outer = current()
        context = await self.context_provider(record.workspace, self._context)
        if model is not None:
            context = msgspec.structs.replace(context, model=context.model_for(model))
        if seconds is not None:
            context = context.within(seconds)
        if outer.frame.execution_id is not None and outer.deadline is not None:
            context = context.within((outer.deadline - self._clock.monotonic_ns()) / 1e9)
        if outer.frame.durable is not None:
            context = journaled(context, outer.frame.durable)
        if outer.frame.team is not None:
            for run in reversed(outer.frame.team.runs()):
                context = context.within_team(run)
            context = msgspec.structs.replace(context, rollout=outer.rollout).advised(
                outer.frame.advice
            )
        return context.part_of(record.id)


def _validate(validator: Validator, values: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the validated values, and the same as JSON data."""
    validated = validator(values)
    return validated, validator.dump(validated)


_may_hold_media = SignatureCache(
    lambda signature: any(may_hold(field.type) for field in signature.input_fields.values())
)


async def _unchanged_context(_workspace: str, context: RunContext) -> RunContext:
    return context


class _StoredRepr(str):
    """A stored `repr`; its own `repr` is the same text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
