"""Every call of a search: answered once, written down, and only within the budget."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from dspex import errors
from dspex.errors import BudgetError, ConflictError, ModelError
from dspex.execution.clients import Budget, LanguageModel, Request, Response, ask_within
from dspex.execution.clients.budget import Spend
from dspex.execution.clients.identity import CUSTOM, ModelIdentity, identify
from dspex.language.records import ToolCall, Usage
from dspex.language.records.canonical import content_hash
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.journal import Journal

T = TypeVar("T")
_TICK = 0.05  # during a pause, what is left is looked at so often


class HaltError(Exception):
    """The search ends here; never seen outside of it."""


class Answers:
    """The answers of one search by what was asked; owned by one event loop.

    The same request is asked once: a second one waits for the first, and one that was answered in
    an earlier life of the search is not asked again. An error of the model is an answer too, so
    that a resumed search equals an undisturbed one. Which model was asked, its identity says.
    Answers that were written down before there was one go by the name, and to the first model of
    that name that asks. `made` counts the calls of this life, `spent` all of them; a failed attempt
    is a call.
    """

    def __init__(
        self, journal: Journal, *, budget: Budget, control: Control, concurrency: int
    ) -> None:
        """Take where answers are kept and what limits them."""
        self.budget = budget
        self.control = control
        self.made = 0
        self.halted: BudgetError | None = None
        self.spent = Usage()
        self.elapsed = 0.0
        self._paused_at: float | None = None
        self._resumed_at = 0.0
        self._journal = journal
        self._counted = budget.counted(journal)
        self._entries = 0
        self._gate = asyncio.Semaphore(concurrency)
        self._known: dict[str, Mapping[str, Any]] = {}
        self._by_name: dict[str, Mapping[str, Any]] = {}
        self._names: dict[str, ModelIdentity] = {}
        self._open: dict[str, asyncio.Task[Mapping[str, Any]]] = {}
        self._asking: set[str] = set()

    async def __aenter__(self) -> "Answers":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the calls that nobody waits for any more; an answer that has come is written down first."""
        for key, task in self._open.items():
            if key in self._asking:
                task.cancel()
        await asyncio.gather(*self._open.values(), return_exceptions=True)
        self.budget.count(self._journal, self._entries)
        self.budget.rest()

    def remember(self, entry: Mapping[str, Any]) -> None:
        """Take over an entry of an earlier life, if it is about a call.

        What that cost counts against the budget, unless it was the same budget in that life too.
        """
        if entry["kind"] == "answer":
            answers = self._known if "identity" in entry else self._by_name
            answers[entry["key"]] = entry
        usage = msgspec.convert(entry["usage"], Usage) if "usage" in entry else Usage()
        lost = msgspec.convert(entry["lost"], Spend) if "lost" in entry else Spend()
        self._book(usage, lost)
        self._entries += 1
        if self._entries > self._counted:
            self.budget.book(usage, lost)
        self.elapsed = max(self.elapsed, entry.get("at", 0.0))

    def left_seconds(self) -> float | None:
        """Return the seconds that are left to the search, None where there is no limit; a pause does not count."""
        left = self.budget.left_seconds()
        if left is None:
            return None
        paused = (
            0.0
            if self._paused_at is None
            else self.budget.now() - max(self._paused_at, self._resumed_at)
        )
        return left + paused

    async def in_time(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do `work` as long as the search has time; None, with the search ended, where it did not suffice."""
        task = asyncio.ensure_future(work)
        try:
            while (left := self.left_seconds()) is None or left > 0:
                done, _ = await asyncio.wait(
                    {task}, timeout=None if left is None else max(left, _TICK)
                )
                if done:
                    return task.result()
            self.halted = self.halted or self.budget.time_is_up()
            return None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _book(self, usage: Usage, lost: Spend) -> None:
        self.spent += usage
        self.spent += Usage(calls=lost.calls)

    async def answer(self, model: LanguageModel, request: Request, salt: str) -> Response:
        """Return the answer to `request`; another `salt` makes it another question.

        Raises:
            ModelError: what the model raised, now or in an earlier life.
            HaltError: the search is to end.
        """
        asked, identity = msgspec.to_builtins(request), identify(model)
        key = content_hash([msgspec.to_builtins(identity), salt, asked])
        entry = self._known.get(key)
        if (
            entry is None
            and self._by_name
            and self._names.setdefault(model.name, identity) == identity
        ):
            entry = self._by_name.get(content_hash([model.name, salt, asked]))
        if entry is None:
            task = self._open.get(key)
            if task is None:
                self._asking.add(key)
                task = self._open[key] = asyncio.create_task(self._ask(model, request, key=key))
                task.add_done_callback(partial(self._close, key))
            entry = await asyncio.shield(task)
        else:
            await asyncio.sleep(0)  # what was begun with it begins now, and not after its end
        return _response(entry)

    def _close(self, key: str, task: "asyncio.Task[Mapping[str, Any]]") -> None:
        self._open.pop(key, None)
        if not task.cancelled():
            task.exception()  # who asked may be gone, and nobody else has to hear of it

    async def _ask(self, model: LanguageModel, request: Request, *, key: str) -> Mapping[str, Any]:
        async with self._gate:
            try:
                entry = await self._reply(model, request, key=key)
            finally:
                self._asking.discard(key)
            self._known[key] = entry
            await self._append(entry)
            return entry

    async def _reply(
        self, model: LanguageModel, request: Request, *, key: str
    ) -> Mapping[str, Any]:
        await self._ready()
        if self.control.is_cancelled or self.halted is not None:
            raise HaltError("the search has ended")
        lost: list[Spend] = []
        entry: dict[str, Any] = {"kind": "answer", "key": key, "model": model.name}
        entry["identity"] = msgspec.to_builtins(identify(model))
        try:
            response = await ask_within(self.budget, model, request, on_lost=lost.append)
        except ModelError as error:
            return (
                entry
                | self._costs(None, lost)
                | {"error": {"class": type(error).__name__, "message": error.message}}
            )
        except BaseException as error:
            if lost:
                await asyncio.shield(self._append({"kind": "lost", **self._costs(None, lost)}))
            if isinstance(error, BudgetError):
                self.halted = error
                raise HaltError(error.message) from error
            raise
        entry |= {
            "text": response.text,
            "finish": response.finish_reason,
            "seconds": response.seconds,
        }
        entry["model"] = response.model
        if response.identity is not None:
            entry["identity"] = msgspec.to_builtins(response.identity)
        if response.tool_calls:
            entry["tools"] = msgspec.to_builtins(response.tool_calls)
        return entry | self._costs(response.usage, lost)

    async def _append(self, entry: Mapping[str, Any]) -> None:
        await self._journal.append(entry)
        self._entries += 1

    def _costs(self, usage: Usage | None, lost: Sequence[Spend]) -> dict[str, Any]:
        """Book what a call has cost, and return what is to be written down of it."""
        gone = sum(lost, Spend())
        self._book(usage or Usage(), gone)
        self.made += gone.calls + (0 if usage is None else 1)
        found: dict[str, Any] = {"at": round(self.budget.elapsed, 3)}
        if usage is not None:
            found["usage"] = msgspec.to_builtins(usage)
        if lost:
            found["lost"] = msgspec.to_builtins(gone)
        return found

    async def _ready(self) -> None:
        """Wait as long as the search is paused, and let that time not count."""
        if not self.control.is_paused:
            return
        began = self.budget.now()
        self._paused_at = began if self._paused_at is None else self._paused_at
        await self.control.ready()
        ended = self.budget.now()
        self.budget.defer(ended - max(began, self._resumed_at))
        self._resumed_at, self._paused_at = ended, None


def _response(entry: Mapping[str, Any]) -> Response:
    if found := entry.get("error"):
        kind = getattr(errors, found["class"], ModelError)
        raise kind(found["message"])
    try:
        return Response(
            text=entry["text"],
            usage=msgspec.convert(entry["usage"], Usage),
            model=entry["model"],
            finish_reason=entry.get("finish"),
            tool_calls=msgspec.convert(entry.get("tools", ()), tuple[ToolCall, ...]),
            seconds=entry.get("seconds"),
            identity=_identity(entry),
        )
    except (KeyError, msgspec.ValidationError) as error:
        raise ConflictError(f"this is no answer of a search: {entry!r}") from error


def _identity(entry: Mapping[str, Any]) -> ModelIdentity | None:
    identity = msgspec.convert(entry["identity"], ModelIdentity) if "identity" in entry else None
    return None if identity is None or identity.provider == CUSTOM else identity


@dataclass(slots=True)
class Cut:
    """Whether a call of some work was refused because the search ends: then what came of the work does not count."""

    is_short: bool = False


class AnsweredModel:
    """Wraps a model for the calls of one search."""

    def __init__(
        self, model: LanguageModel, answers: Answers, *, salt: str = "", cut: Cut | None = None
    ) -> None:
        """Take the model, the answers it shares with the whole search, and what sets its calls apart.

        `cut` takes note of a call that was refused: the program that made it may go on with
        something else.
        """
        self.model = model
        self.name = model.name
        self.identity = identify(model)
        self.capabilities = model.capabilities - {"streaming"}  # an answer is whole, old or new
        self._answers = answers
        self._salt = salt
        self._cut = cut or Cut()

    async def complete(self, request: Request) -> Response:
        """Return the answer from the journal, or ask."""
        try:
            return await self._answers.answer(self.model, request, self._salt)
        except HaltError:
            self._cut.is_short = True
            raise

    async def aclose(self) -> None:
        """Free what the wrapped model holds."""
        await self.model.aclose()
