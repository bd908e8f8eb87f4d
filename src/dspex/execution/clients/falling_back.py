"""Another model where one fails."""

from itertools import pairwise

import msgspec

from dspex.errors import ModelError
from dspex.execution.clients.budgeted import another, lost
from dspex.execution.clients.identity import ModelIdentity, identify
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import Told


class Fallback:
    """Wraps several models: the first that answers does. `Response.model` says which one it was.

    What only some of them can do is not asked of any: the capabilities are those that all have.
    """

    def __init__(self, first: LanguageModel, *others: LanguageModel) -> None:
        """Take the models in the order in which they are asked."""
        self.models = (first, *others)
        self.name = first.name
        self.identity = _identity(first, *others)
        self.capabilities = frozenset.intersection(*(model.capabilities for model in self.models))

    def __repr__(self) -> str:
        return f"Fallback({', '.join(map(repr, self.models))})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` by the first model that can; raise the last one's error."""
        return await self._answer(request, None)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer piece by piece; once a piece was told, the next model is not asked."""
        return await self._answer(request, emit)

    async def aclose(self) -> None:
        """Free what the models hold."""
        for model in self.models:
            await model.aclose()

    async def _answer(self, request: Request, emit: Emit | None) -> Response:
        told = None if emit is None else Told(emit)
        for model, following in pairwise(self.models):
            try:
                return await ask(model, request, told)
            except ModelError as error:
                if told is not None and told.any:
                    raise
                lost(error)
            await another(request, following)
        return await ask(self.models[-1], request, emit)


def _identity(first: LanguageModel, *others: LanguageModel) -> ModelIdentity:
    """Return the first model's identity, told apart by who answers in its place."""
    one, rest = identify(first), [identify(model).label for model in others]
    return msgspec.structs.replace(one, revision=" or ".join(part for part in (one.revision, *rest) if part))
