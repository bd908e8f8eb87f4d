"""The journal of an execution that may wait for people: what it need not request again."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import msgspec

from dspex.error_text import quantity, shorten
from dspex.errors import ConflictError, DivergenceError, QuestionExpiredError
from dspex.execution.clients import LanguageModel, Request, Response, ask
from dspex.execution.clients.language_model import Emit, emit_whole
from dspex.execution.clients.request_keys import request_key
from dspex.execution.clients.wrapper import Wrapper
from dspex.execution.context import RunContext
from dspex.execution.question import DurableRun, EffectKind, Question, waiting_error
from dspex.language.records.canonical import content_hash
from dspex.operations.executions.execution_recorder import ExecutionRecorder
from dspex.operations.executions.question_rows import QuestionRows
from dspex.operations.executions.records import (
    ExecutionEntryRecord,
    ExecutionRecord,
    QuestionRecord,
)

T = TypeVar("T")
SETTLE_SECONDS: Final = 0.05  # other branches get this long to begin their next call
UNUSED_QUESTIONS: Final = 3  # after so many, the program will not come back to any of them
_Call = tuple[EffectKind, Callable[[], str], Callable[[], Any]]


class _Effect:
    """A call in progress; `waiting` counts the questions that wait inside it."""

    __slots__ = ("outer", "waiting")

    def __init__(self, outer: "_Effect | None") -> None:
        self.outer = outer
        self.waiting = 0


_effect: ContextVar[_Effect | None] = ContextVar("dspex_effect", default=None)


class ExecutionJournal:
    """The memory of one execution; see `DurableRun`. Owned by one event loop.

    Until the first question, results are only in this process, so an execution that asks nobody
    costs no write. With the question they are stored, and each later result at once. The run ends
    when all that is in progress waits for people: calls of other branches are finished first, so
    none is made twice.
    """

    def __init__(
        self,
        record: ExecutionRecord,
        rows: QuestionRows,
        *,
        recorder: ExecutionRecorder,
        suspend: Callable[[], None],
        leave: Callable[[], None],
        refusal: Callable[[], str] = str,
    ) -> None:
        """Take the execution.

        Args:
            record: the execution.
            rows: reads and writes its questions and entries.
            recorder: knows what may be stored as it is.
            suspend: ends the run because it waits.
            leave: ends the run because it goes on in another process, or has been cancelled.
            refusal: returns why this execution cannot wait, or an empty text.
        """
        self._record = record
        self._rows = rows
        self._recorder = recorder
        self._suspend = suspend
        self._leave = leave
        self._refusal = refusal
        self._results: dict[tuple[str, str], deque[Any]] = defaultdict(deque)
        self._questions: dict[str, deque[QuestionRecord]] = defaultdict(deque)
        self._unsaved: list[_Call] = []
        self._active: set[_Effect] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()
        self._has_diverged = asyncio.Event()
        self.is_stored = False
        self.waits_for: list[QuestionRecord] = []

    def load(
        self, entries: Iterable[ExecutionEntryRecord], questions: Iterable[QuestionRecord]
    ) -> None:
        """Take what is stored of earlier runs."""
        self.is_stored = True
        for entry in entries:
            self._results[entry.kind, entry.key].append(entry.value["result"])
        for question in questions:
            self._questions[question.key].append(question)

    @property
    def recalls(self) -> bool:
        """Return whether there are results of an earlier run; see `DurableRun`."""
        return bool(self._results)

    async def recall(self, kind: EffectKind, key: Callable[[], str]) -> Any:
        """Return the result of an earlier run; see `DurableRun.recall`."""
        if not self._results:
            return None
        results = self._results.get((kind, key()))
        return results.popleft() if results else None

    async def perform(
        self,
        kind: EffectKind,
        key: Callable[[], str],
        call: Awaitable[T],
        *,
        encode: Callable[[T], Any],
    ) -> T:
        """Make a call and remember its result; see `DurableRun.perform`."""
        effect = _Effect(_effect.get())
        token = _effect.set(effect)
        self._active.add(effect)
        try:
            result = await call
            self._unsaved.append((kind, key, lambda: encode(result)))
            if self.is_stored:
                await self._save()
        finally:
            _effect.reset(token)
            self._active.discard(effect)
            self._look()
        return result

    async def _save(self) -> None:
        """Store results that may be stored as they are; the others stay in this process."""
        async with self._lock:
            rows, kept = self._entries()
            if not rows:
                return
            try:
                await self._rows.add(self._record, entries=rows)
            except ConflictError:
                await self._left()
            self._unsaved = kept + self._unsaved[len(rows) + len(kept) :]

    def _entries(self) -> tuple[list[ExecutionEntryRecord], list[_Call]]:
        rows, kept = [], []
        for call in self._unsaved:
            kind, key, encode = call
            value = encode()
            if self._recorder.keeps(self._record, value):
                rows.append(self._rows.new_entry(self._record, kind, key(), value=value))
            else:
                kept.append(call)
        return rows, kept

    async def ask(self, question: Question) -> Mapping[str, Any]:
        """Return the answer, or wait for it; see `DurableRun.ask`."""
        inputs = question.signature.input_validator.dump(question.inputs)
        shape = question.signature.to_dict()
        key = content_hash({"kind": question.kind, "inputs": inputs, "signature": shape})
        questions = self._questions.get(key)
        row = (
            questions.popleft()
            if questions
            else await self._store_question(question, key=key, inputs=inputs)
        )
        if row.status == "answered":
            return row.answer or {}
        if row.status != "open":
            raise QuestionExpiredError(
                f"nobody answered in time: the question {str(row.id)!r} is {row.status}"
            )
        return await self._wait_for(row)

    async def _store_question(
        self, question: Question, *, key: str, inputs: dict[str, Any]
    ) -> QuestionRecord:
        if self._has_diverged.is_set():
            raise self._divergence(inputs)
        async with self._lock:
            entries, kept = self._entries()
            reason = self._refusal() if not self.is_stored else ""
            if reason or kept:
                reason = reason or "the redaction changes what it would go on with"
                raise waiting_error(question, f"this execution cannot wait: {reason}")
            row = self._rows.new_question(self._record, question, key=key, inputs=inputs)
            try:
                await self._rows.add(self._record, entries=entries, question=row)
            except ConflictError:
                await self._left()
            self._unsaved = self._unsaved[len(entries) :]
            self.is_stored = True
        return row

    async def _left(self) -> None:
        self._leave()
        await asyncio.Event().wait()  # until the task is cancelled

    async def _wait_for(self, row: QuestionRecord) -> Mapping[str, Any]:
        self.waits_for.append(row)
        effect = _effect.get()
        while effect is not None:
            effect.waiting += 1
            effect = effect.outer
        self._look()
        await self._has_diverged.wait()  # usually until the task is cancelled
        raise self._divergence(row.inputs)

    def _unused_questions(self) -> list[QuestionRecord]:
        """Return the closed questions of earlier runs that this run has not asked."""
        rows = [row for questions in self._questions.values() for row in questions]
        return [row for row in rows if row.status != "open"]

    def _divergence(self, inputs: Mapping[str, Any]) -> DivergenceError:
        unused = self._unused_questions()
        earlier = unused[-1]
        return DivergenceError(
            f"the program asks {shorten(inputs)}, but of earlier runs it has not asked again "
            f"{quantity(len(unused), 'question')}, such as {shorten(earlier.inputs)} "
            f"({earlier.status}), so it would ask for ever. Up to a question, a program may depend "
            "only on its inputs, models, tools and answers: get the time or a random number from "
            "an input or a tool"
        )

    def _look(self) -> None:
        """Suspend the run soon, if nothing is in progress."""
        if self.waits_for and self._timer is None and self._is_settled():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SETTLE_SECONDS, self._suspend_if_settled)

    def _suspend_if_settled(self) -> None:
        self._timer = None
        if not self._is_settled():
            return
        if len(self._unused_questions()) >= UNUSED_QUESTIONS:
            self._has_diverged.set()
        else:
            self._suspend()

    def _is_settled(self) -> bool:
        return all(effect.waiting for effect in self._active)


class JournaledModel(Wrapper):
    """A model whose replies a durable run remembers."""

    def __init__(self, model: LanguageModel, run: DurableRun) -> None:
        """Take the model and the run."""
        super().__init__(model)
        self._run = run

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer from an earlier run, in one chunk, or by the model."""

        def key() -> str:
            return request_key(self.identity, request)

        data = await self._run.recall("model", key)
        if data is not None:
            return await emit_whole(request, msgspec.convert(data, Response), emit)
        call = ask(self.model, request, emit)
        return await self._run.perform("model", key, call, encode=msgspec.to_builtins)


def journaled(context: RunContext, run: DurableRun) -> RunContext:
    """Return the context of a run that `run` remembers."""
    return context.durable(run).with_wrapper(lambda model: JournaledModel(model, run))
