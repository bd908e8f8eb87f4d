"""Repeat a request: to get a different answer, or to see whether the answer is the same."""

from typing import Final

import msgspec

from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import Wrapper

LEAST_TEMPERATURE: Final = 0.7
_SEEDS: Final = 2**31  # the range that every provider accepts
_INNER: Final = 1_000_003  # above the rollout numbers that workers and dspy have already set

_REPEATED: Final = 10_007  # more than the repeats of a program, whose seeds are consecutive


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


class Repetition(Wrapper):
    """Wraps a model to ask it the same again: a new request for caches and journals.

    A model with a seed gets a different one; the temperature stays, unlike in a `Rollout`.
    """

    def __init__(self, model: LanguageModel, number: int) -> None:
        """Take the model, and the number of the repetition, starting at 1."""
        super().__init__(model)
        self.number = number

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer the request as a new one."""
        number = self.number * _REPEATED
        changes = (
            {"seed": ((request.seed or 0) + number) % _SEEDS}
            if "seed" in self.capabilities
            else {"rollout": request.rollout + number}
        )
        return await ask(self.model, msgspec.structs.replace(request, **changes), emit)
