"""Every call of a search: answered once, written down, and only within the budget."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import msgspec

from dspex import errors
from dspex.errors import BudgetError, ConflictError, ModelError
from dspex.execution.clients import LanguageModel, Request, Response
from dspex.execution.clients.budgeted import Budget, ask_within
from dspex.language.records import ToolCall, Usage
from dspex.language.records.canonical import content_hash
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.journal import Journal


class HaltError(Exception):
    """The search ends here; never seen outside of it."""


class Answers:
    """The answers of one search by what was asked; owned by one event loop.

    The same request is asked once: a second one waits for the first, and one that was answered in an earlier life of
    the search is not asked again. An error of the model is an answer too, so that a resumed search equals an
    undisturbed one. `made` counts the calls of this life.
    """

    def __init__(self, journal: Journal, *, budget: Budget, control: Control, concurrency: int) -> None:
        """Take where answers are kept and what limits them."""
        self.budget = budget
        self.control = control
        self.made = 0
        self.halted: BudgetError | None = None
        self.spent = Usage()
        self._journal = journal
        self._gate = asyncio.Semaphore(concurrency)
        self._known: dict[str, Mapping[str, Any]] = {}
        self._open: dict[str, asyncio.Task[Mapping[str, Any]]] = {}
        self._asking: set[str] = set()

    async def __aenter__(self) -> "Answers":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the calls that nobody waits for any more; an answer that has come is written down first."""
        for key, task in self._open.items():
            if key in self._asking:
                task.cancel()
        await asyncio.gather(*self._open.values(), return_exceptions=True)

    def remember(self, entry: Mapping[str, Any]) -> None:
        """Take over an answer of an earlier life; what it cost counts against the budget."""
        self._known[entry["key"]] = entry
        if usage := self.usage_of(entry):
            self._book(usage)

    def usage_of(self, entry: Mapping[str, Any]) -> Usage | None:
        """Return what an answer cost, None for one that failed."""
        return msgspec.convert(entry["usage"], Usage) if "usage" in entry else None

    def _book(self, usage: Usage) -> None:
        self.spent += usage

    async def answer(self, model: LanguageModel, request: Request, salt: str) -> Response:
        """Return the answer to `request`; another `salt` makes it another question.

        Raises:
            ModelError: what the model raised, now or in an earlier life.
            HaltError: the search is to end.
        """
        key = content_hash([model.name, salt, msgspec.to_builtins(request)])
        entry = self._known.get(key)
        if entry is None:
            task = self._open.get(key)
            if task is None:
                self._asking.add(key)
                task = self._open[key] = asyncio.create_task(self._ask(model, request, key=key))
                task.add_done_callback(lambda done: self._open.pop(key, None))
            entry = await asyncio.shield(task)
        return _response(entry)

    async def _ask(self, model: LanguageModel, request: Request, *, key: str) -> Mapping[str, Any]:
        async with self._gate:
            try:
                entry = await self._reply(model, request, key=key)
            finally:
                self._asking.discard(key)
            self._known[key] = entry
            await self._journal.append(entry)
            return entry

    async def _reply(self, model: LanguageModel, request: Request, *, key: str) -> Mapping[str, Any]:
        await self.control.ready()
        if self.control.is_cancelled or self.halted is not None:
            raise HaltError("the search has ended")
        self.made += 1
        entry: dict[str, Any] = {"kind": "answer", "key": key, "model": model.name}
        try:
            response = await ask_within(self.budget, model, request)
        except BudgetError as error:
            self.made -= 1
            self.halted = error
            raise HaltError(error.message) from error
        except ModelError as error:
            return entry | {"error": {"class": type(error).__name__, "message": error.message}}
        self._book(response.usage)
        entry |= {
            "text": response.text,
            "usage": msgspec.to_builtins(response.usage),
            "finish": response.finish_reason,
        }
        if response.tool_calls:
            entry["tools"] = msgspec.to_builtins(response.tool_calls)
        return entry


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
        )
    except (KeyError, msgspec.ValidationError) as error:
        raise ConflictError(f"this is no answer of a search: {entry!r}") from error


class AnsweredModel:
    """Wraps a model for the calls of one search."""

    def __init__(self, model: LanguageModel, answers: Answers, salt: str = "") -> None:
        """Take the model, the answers it shares with the whole search, and what sets its calls apart."""
        self.model = model
        self.name = model.name
        self.capabilities = model.capabilities - {"streaming"}  # an answer is whole, old or new
        self._answers = answers
        self._salt = salt

    async def complete(self, request: Request) -> Response:
        """Return the answer from the journal, or ask."""
        return await self._answers.answer(self.model, request, self._salt)

    async def aclose(self) -> None:
        """Free what the wrapped model holds."""
        await self.model.aclose()
