"""Ask the next model when one fails."""

from itertools import pairwise

from dspex.arguments import checks_names
from dspex.errors import ModelError
from dspex.execution.clients.attempts import current_attempts
from dspex.execution.clients.budgeted import another, lost
from dspex.execution.clients.identity import joint_identity
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import StreamedReply


@checks_names
class Fallback:
    """Wraps several models and asks them in order until one answers; `Response.model` names it.

    Its capabilities are what all models share.
    """

    def __init__(self, first: LanguageModel, *others: LanguageModel) -> None:
        """Take the models in the order in which to ask them."""
        self.models = (first, *others)
        self.name = first.name
        self.identity = joint_identity(self.models)
        self.capabilities = frozenset.intersection(*(model.capabilities for model in self.models))

    def __repr__(self) -> str:
        return f"Fallback({', '.join(map(repr, self.models))})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` by the first model that succeeds; raise the last model's error."""
        return await self._answer(request, None)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer in chunks; after the first chunk no other model is asked."""
        return await self._answer(request, emit)

    async def aclose(self) -> None:
        """Close all models."""
        for model in self.models:
            await model.aclose()

    async def _answer(self, request: Request, emit: Emit | None) -> Response:
        stream = None if emit is None else StreamedReply(emit)
        for model, next_model in pairwise(self.models):
            try:
                return await ask(model, request, stream)
            except ModelError as error:
                has_chunks = stream is not None and stream.has_chunks
                attempts = current_attempts()
                if has_chunks or (attempts is not None and not attempts.take()):
                    raise
                lost(error)
            await another(request, next_model)
        return await ask(self.models[-1], request, emit)
