"""The base class of models that wrap another model."""

from abc import ABC, abstractmethod

from dspex.execution.clients.identity import identify
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response


class Wrapper(ABC):
    """Has the name and capabilities of the wrapped model; subclasses define how to answer."""

    def __init__(self, model: LanguageModel) -> None:
        """Take the model."""
        self.model = model
        self.name = model.name
        self.identity = identify(model)
        self.capabilities = model.capabilities

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    @abstractmethod
    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request`; with `emit`, in chunks."""

    async def complete(self, request: Request) -> Response:
        """Answer `request`; see `LanguageModel.complete`."""
        return await self.answer(request, None)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` in chunks; see `StreamingModel.stream`."""
        return await self.answer(request, emit)

    async def aclose(self) -> None:
        """Close the wrapped model."""
        await self.model.aclose()


class StreamedReply:
    """Forwards chunks and records whether there was one: after that no retry is allowed."""

    __slots__ = ("_emit", "has_chunks")

    def __init__(self, emit: Emit) -> None:
        """Take the listener."""
        self.has_chunks = False
        self._emit = emit

    async def __call__(self, text: str) -> None:
        """Forward one chunk."""
        self.has_chunks = True
        await self._emit(text)
