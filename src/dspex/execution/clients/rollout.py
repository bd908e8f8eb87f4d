"""Repeat a request to get a different answer."""

from typing import Final

import msgspec

from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import Wrapper

LEAST_TEMPERATURE: Final = 0.7
_SEEDS: Final = 2**31  # the range that every provider accepts
_INNER: Final = 1_000_003  # above the rollout numbers that workers and dspy have already set


class Rollout(Wrapper):
    """Wraps a model for one attempt of `Retry`, so that caches and journals treat requests as new.

    The attempt number is part of the request key. A model with a seed gets a different one, and a
    temperature is raised to at least 0.7, because at 0 most models repeat their answer.
    """

    def __init__(self, model: LanguageModel, number: int) -> None:
        """Take the model, and the number of the attempt, starting at 1."""
        super().__init__(model)
        self.number = number

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer the request as a new one."""
        rollout = self.number * _INNER + request.rollout
        seed = (
            ((request.seed or 0) + self.number) % _SEEDS
            if "seed" in self.capabilities
            else request.seed
        )
        temperature = (
            None if request.temperature is None else max(request.temperature, LEAST_TEMPERATURE)
        )
        return await ask(
            self.model,
            msgspec.structs.replace(request, rollout=rollout, seed=seed, temperature=temperature),
            emit,
        )
