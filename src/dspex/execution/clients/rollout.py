"""The same question once more, and another answer wanted."""

from typing import Final

import msgspec

from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import Wrapper

LEAST_TEMPERATURE: Final = 0.7
_SEEDS: Final = 2**31  # what every provider takes
_INNER: Final = 1_000_003  # more than a request has had already, in a worker or from dspy


class Rollout(Wrapper):
    """Wraps a model for one attempt of `Retry`: every request is a new one, for caches and journals too.

    Its number is part of the key of a request. A model that takes a seed gets another one, and a temperature that was
    set is at least 0.7: at 0 most models answer alike.
    """

    def __init__(self, model: LanguageModel, number: int) -> None:
        """Take the model, and the number of the attempt from 1 on."""
        super().__init__(model)
        self.number = number

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer the request as one that was not made before."""
        rollout = self.number * _INNER + request.rollout
        seed = ((request.seed or 0) + self.number) % _SEEDS if "seed" in self.capabilities else request.seed
        heat = None if request.temperature is None else max(request.temperature, LEAST_TEMPERATURE)
        return await ask(
            self.model, msgspec.structs.replace(request, rollout=rollout, seed=seed, temperature=heat), emit
        )
