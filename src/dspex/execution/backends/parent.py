"""The parent as a native program in a worker sees it: models, embedders, people, memory, team."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec

from dspex.errors import BudgetError, DspexError, ExecutionError
from dspex.execution.clients import Capability, Request, Response
from dspex.execution.clients.embedder import EmbeddingKind, Embeddings
from dspex.execution.clients.embedding_request import divide, embeddings_of, join
from dspex.execution.question import EffectKind, Question
from dspex.execution.team_run import TeamLimits, TeamRun

T = TypeVar("T")
Fields = dict[str, dict[str, str]]
current_module: "ContextVar[tuple[int | None, str]]" = ContextVar(
    "dspex_current_module", default=(None, "")
)
_effect: "ContextVar[int | None]" = ContextVar("dspex_worker_effect", default=None)


class Parent:
    """The callbacks of one call."""

    def __init__(self, call: Any) -> None:
        """Take the call of the runtime."""
        self.call = call

    def ask_now(self, command: str, data: Mapping[str, Any]) -> Any:
        """Call back and block this thread.

        Raises:
            DspexError: the error of the parent, which gets its own object back.
        """
        with _typed_errors():
            return self.call.callback(command, data)

    async def ask(self, command: str, data: Mapping[str, Any]) -> Any:
        """Call back from another thread; see `ask_now`."""
        with _typed_errors():
            return await asyncio.to_thread(self.call.callback, command, data)

    async def answer(self, question: Question) -> Mapping[str, Any]:
        """Return the answer of a person; see `AnswerCallback`."""
        signature = question.signature
        data = {
            "signature": signature.to_dict(),
            "inputs": signature.input_validator.dump(dict(question.inputs)),
            "kind": question.kind,
            "ttl": question.ttl,
            "effect": _effect.get(),
        }
        answer: Mapping[str, Any] = await self.ask("ask", data)
        return answer


@contextmanager
def _typed_errors() -> Iterator[None]:
    """Raise the errors of the parent in their classes, so that programs can handle them."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "call"):  # it is not from the parent
            raise
        kind = _classes(DspexError).get(str(getattr(error, "code", "")), ExecutionError)
        raise kind(str(error)) from error


def _classes(kind: type[DspexError]) -> dict[str, type[DspexError]]:
    classes = {kind.code: kind}
    for subclass in kind.__subclasses__():
        classes = {**_classes(subclass), **classes}
    return classes


class WorkerModel:
    """The parent's model."""

    def __init__(
        self,
        parent: Parent,
        about: Mapping[str, Any],
        fields: Fields,
        *,
        model: str | None = None,
    ) -> None:
        """Take the parent and the model.

        Args:
            parent: the parent of the call that the program runs for.
            about: name and capabilities of the model.
            fields: the output fields of predictors by path, empty without a listener.
            model: the model string of a module with its own model.
        """
        self._model = model
        self.name: str = about["name"]
        self.capabilities: frozenset[Capability] = frozenset(about["capabilities"]) - {"streaming"}
        self._parent = parent
        self._fields = fields

    async def complete(self, request: Request) -> Response:
        """Call the model through the parent, which streams to its own listener."""
        span, path = current_module.get()
        request_data: dict[str, Any] = {
            "request": msgspec.to_builtins(request),
            "model": self._model,
        }
        request_data |= {"span": span, "path": path}
        if path in self._fields:
            request_data["fields"] = self._fields[path]
        return msgspec.convert(await self._parent.ask("complete", request_data), Response)

    async def aclose(self) -> None:
        """Do nothing: the parent owns the model."""


class WorkerEmbedder:
    """An embedder of the parent, which has the keys, the budget and the cache."""

    def __init__(self, parent: Parent, name: str) -> None:
        """Take the parent, and the name by which it knows the embedder."""
        self._parent = parent
        self._key = name
        about = parent.ask_now("embedder", {"name": name})
        self.name: str = about["name"]
        self.fingerprint: str = about["fingerprint"]
        self.dimensions: int | None = about["dimensions"]

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text; see `Embedder.embed`."""
        parts = []
        for batch in divide(texts):
            request = {"name": self._key, "texts": list(batch), "kind": kind}
            response = msgspec.convert(await self._parent.ask("embed", request), Response)
            parts.append(embeddings_of(response, len(batch)))
        return join(parts, self.name, self.dimensions)

    async def aclose(self) -> None:
        """Do nothing: the parent owns the embedder."""


class WorkerMemory:
    """The memory of a run that may end while it waits, in the parent; see `DurableRun`.

    The parent is told of each call that begins, so that it knows what is in progress.
    """

    def __init__(self, parent: Parent, *, recalls: bool) -> None:
        """Take the parent, and whether it has results of an earlier run."""
        self._parent = parent
        self.recalls = recalls
        self._numbers = itertools.count(1)

    async def ask(self, question: Question) -> Mapping[str, Any]:
        """Return the answer to a question; see `DurableRun.ask`."""
        return await self._parent.answer(question)

    async def recall(self, kind: EffectKind, key: Callable[[], str]) -> Any:
        """Return the result of an earlier run; see `DurableRun.recall`."""
        if not self.recalls:
            return None
        return await self._parent.ask("recall", {"kind": kind, "key": key()})

    async def perform(
        self,
        kind: EffectKind,
        key: Callable[[], str],
        call: Awaitable[T],
        *,
        encode: Callable[[T], Any],
    ) -> T:
        """Make a call, and have the parent remember its result; see `DurableRun.perform`."""
        number, outer = next(self._numbers), _effect.get()
        effect = {"number": number, "outer": outer, "kind": kind, "key": key()}
        self._parent.call.emit("effect_begun", effect)
        token = _effect.set(number)
        try:
            result = await call
            await self._parent.ask("effect", {"number": number, "result": encode(result)})
        except BaseException:
            self._parent.call.emit("effect_failed", {"number": number})
            raise
        finally:
            _effect.reset(token)
        return result


class WorkerTeam(TeamRun):
    """The team of the parent, which counts the turns of teams in this worker."""

    def __init__(self, parent: Parent, limits: TeamLimits) -> None:
        """Take the parent, and the limits that are enforced here."""
        super().__init__(limits)
        self._parent = parent

    def count_turn(self) -> None:
        """Count a turn there; see `TeamRun.count_turn`."""
        try:
            self._parent.ask_now("turn", {})
        except BudgetError as error:
            self.failure = error
            raise
