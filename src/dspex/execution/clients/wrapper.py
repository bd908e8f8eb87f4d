"""A model around another one."""

from abc import ABC, abstractmethod

from dspex.execution.clients.identity import identify
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response


class Wrapper(ABC):
    """Has the name and the abilities of the model that it wraps; what it adds is how a request is answered."""

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
        """Answer `request`, piece by piece where somebody listens."""

    async def complete(self, request: Request) -> Response:
        """Answer `request`; see `LanguageModel.complete`."""
        return await self.answer(request, None)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` piece by piece; see `StreamingModel.stream`."""
        return await self.answer(request, emit)

    async def aclose(self) -> None:
        """Free what the wrapped model holds."""
        await self.model.aclose()


class Told:
    """Passes pieces on and knows whether there was one: then no other attempt may begin anew."""

    __slots__ = ("_emit", "any")

    def __init__(self, emit: Emit) -> None:
        """Take who listens."""
        self.any = False
        self._emit = emit

    async def __call__(self, text: str) -> None:
        """Pass one piece on."""
        self.any = True
        await self._emit(text)
