"""The calls of a search: each is made once, written to the journal, and kept within the budget."""

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
from dspex.execution.clients.request_keys import request_data
from dspex.language.records import ToolCall, Usage
from dspex.language.records.canonical import content_hash
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.journal import Journal

T = TypeVar("T")
_TICK = 0.05  # seconds between looks at the remaining time during a pause


class SearchStoppedError(Exception):
    """The search ends here; never seen outside of it."""


class ReplyStore:
    """The replies of one search by request. Owned by one event loop.

    A request is sent once: a second one waits for the first, and one that an earlier run of the
    search has sent is not sent again. An error of the model is stored like a reply, so that a
    resumed search equals an uninterrupted one. Requests are distinguished by the identity of their
    model. Replies of journals from before models had identities go by the model's name, and belong
    to the first model of that name. `calls` counts the calls of this run, `spent` those of all
    runs; a failed attempt counts as a call.
    """

    def __init__(
        self, journal: Journal, *, budget: Budget, control: Control, concurrency: int
    ) -> None:
        """Take the journal for the replies and what limits the calls."""
        self.budget = budget
        self.control = control
        self.calls = 0
        self.stop_error: BudgetError | None = None
        self.spent = Usage()
        self.elapsed = 0.0
        self._paused_at: float | None = None
        self._resumed_at = 0.0
        self._journal = journal
        self._counted = budget.counted(journal)
        self._entries = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._replies: dict[str, Mapping[str, Any]] = {}
        self._replies_by_name: dict[str, Mapping[str, Any]] = {}
        self._identities: dict[str, ModelIdentity] = {}
        self._tasks: dict[str, asyncio.Task[Mapping[str, Any]]] = {}
        self._unanswered: set[str] = set()

    async def __aenter__(self) -> "ReplyStore":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel calls that nobody waits for; replies that have arrived are written first."""
        for key, task in self._tasks.items():
            if key in self._unanswered:
                task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.budget.count(self._journal, self._entries)
        self.budget.rest()

    def restore(self, entry: Mapping[str, Any]) -> None:
        """Take an entry about a call from an earlier run of the search.

        Its cost counts against the budget, unless the same budget object has counted it already.
        """
        if entry["kind"] == "answer":
            replies = self._replies if "identity" in entry else self._replies_by_name
            replies[entry["key"]] = entry
        usage = msgspec.convert(entry["usage"], Usage) if "usage" in entry else Usage()
        lost = msgspec.convert(entry["lost"], Spend) if "lost" in entry else Spend()
        self._book(usage, lost)
        self._entries += 1
        if self._entries > self._counted:
            self.budget.book(usage, lost)
        self.elapsed = max(self.elapsed, entry.get("at", 0.0))

    def remaining_seconds(self) -> float | None:
        """Return the seconds that the search has left; None without a limit.

        Pauses do not count.
        """
        remaining = self.budget.left_seconds()
        if remaining is None:
            return None
        paused = (
            0.0
            if self._paused_at is None
            else self.budget.now() - max(self._paused_at, self._resumed_at)
        )
        return remaining + paused

    async def in_time(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Run `work` while there is time; when time is up, stop the search and return None."""
        task = asyncio.ensure_future(work)
        try:
            while (seconds := self.remaining_seconds()) is None or seconds > 0:
                await asyncio.wait({task}, timeout=None if seconds is None else max(seconds, _TICK))
                if task.done():
                    return task.result()
            self.stop_error = self.stop_error or self.budget.time_is_up()
            return None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _book(self, usage: Usage, lost: Spend) -> None:
        self.spent += usage
        self.spent += Usage(calls=lost.calls)

    async def reply(self, model: LanguageModel, request: Request, salt: str) -> Response:
        """Return the reply to `request`; with another `salt` it counts as another request.

        Raises:
            ModelError: the model raised it, now or in an earlier run of the search.
            SearchStoppedError: the search is to end.
        """
        data, identity = request_data(request), identify(model)
        key = content_hash([msgspec.to_builtins(identity), salt, data])
        entry = self._replies.get(key)
        if (
            entry is None
            and self._replies_by_name
            and self._identities.setdefault(model.name, identity) == identity
        ):
            entry = self._replies_by_name.get(content_hash([model.name, salt, data]))
        if entry is None:
            task = self._tasks.get(key)
            if task is None:
                self._unanswered.add(key)
                task = self._tasks[key] = asyncio.create_task(self._call(model, request, key=key))
                task.add_done_callback(partial(self._close, key))
            entry = await asyncio.shield(task)
        else:
            await asyncio.sleep(0)  # let the tasks start that were created together with this one
        return _response(entry)

    def _close(self, key: str, task: "asyncio.Task[Mapping[str, Any]]") -> None:
        self._tasks.pop(key, None)
        if not task.cancelled():
            task.exception()  # mark it as retrieved: whoever waited for it may be gone

    async def _call(self, model: LanguageModel, request: Request, *, key: str) -> Mapping[str, Any]:
        async with self._slots:
            try:
                entry = await self._send(model, request, key=key)
            finally:
                self._unanswered.discard(key)
            self._replies[key] = entry
            await self._append(entry)
            return entry

    async def _send(self, model: LanguageModel, request: Request, *, key: str) -> Mapping[str, Any]:
        await self._wait_while_paused()
        if self.control.is_cancelled or self.stop_error is not None:
            raise SearchStoppedError("the search has ended")
        lost: list[Spend] = []
        entry: dict[str, Any] = {"kind": "answer", "key": key, "model": model.name}
        entry["identity"] = msgspec.to_builtins(identify(model))
        try:
            response = await ask_within(self.budget, model, request, on_lost=lost.append)
        except ModelError as error:
            return (
                entry
                | self._cost_entry(None, lost)
                | {"error": {"class": type(error).__name__, "message": error.message}}
            )
        except BaseException as error:
            if lost:
                await asyncio.shield(self._append({"kind": "lost", **self._cost_entry(None, lost)}))
            if isinstance(error, BudgetError):
                self.stop_error = error
                raise SearchStoppedError(error.message) from error
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
        return entry | self._cost_entry(response.usage, lost)

    async def _append(self, entry: Mapping[str, Any]) -> None:
        await self._journal.append(entry)
        self._entries += 1

    def _cost_entry(self, usage: Usage | None, lost: Sequence[Spend]) -> dict[str, Any]:
        """Book the cost of a call and return it for the journal."""
        lost_total = sum(lost, Spend())
        self._book(usage or Usage(), lost_total)
        self.calls += lost_total.calls + (0 if usage is None else 1)
        entry: dict[str, Any] = {"at": round(self.budget.elapsed, 3)}
        if usage is not None:
            entry["usage"] = msgspec.to_builtins(usage)
        if lost:
            entry["lost"] = msgspec.to_builtins(lost_total)
        return entry

    async def _wait_while_paused(self) -> None:
        """Wait until the search goes on, and exclude that time from the elapsed time."""
        if not self.control.is_paused:
            return
        start = self.budget.now()
        self._paused_at = start if self._paused_at is None else self._paused_at
        await self.control.ready()
        end = self.budget.now()
        self.budget.defer(end - max(start, self._resumed_at))
        self._resumed_at, self._paused_at = end, None


def _response(entry: Mapping[str, Any]) -> Response:
    if error := entry.get("error"):
        kind = getattr(errors, error["class"], ModelError)
        raise kind(error["message"])
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
        raise ConflictError(f"this journal entry is not a reply of a search: {entry!r}") from error


def _identity(entry: Mapping[str, Any]) -> ModelIdentity | None:
    identity = msgspec.convert(entry["identity"], ModelIdentity) if "identity" in entry else None
    return None if identity is None or identity.provider == CUSTOM else identity


@dataclass(slots=True)
class Truncation:
    """Whether a call was refused because the search ends: the result does not count."""

    is_cut: bool = False


class ReplayedModel:
    """Wraps a model for the calls of one search: known requests are answered from its journal."""

    def __init__(
        self,
        model: LanguageModel,
        replies: ReplyStore,
        *,
        salt: str = "",
        truncation: Truncation | None = None,
    ) -> None:
        """Take the model and the reply store of the search.

        Args:
            model: the model for requests that have no reply yet.
            replies: shared by all calls of the search.
            salt: makes its requests different from those with another salt.
            truncation: records a refused call, because the program that made it may go on.
        """
        self.model = model
        self.name = model.name
        self.identity = identify(model)
        self.capabilities = model.capabilities - {"streaming"}  # replies arrive whole
        self._replies = replies
        self._salt = salt
        self._truncation = truncation or Truncation()

    async def complete(self, request: Request) -> Response:
        """Return the reply from the journal, or call the model."""
        try:
            return await self._replies.reply(self.model, request, self._salt)
        except SearchStoppedError:
            self._truncation.is_cut = True
            raise

    async def aclose(self) -> None:
        """Close the wrapped model."""
        await self.model.aclose()
