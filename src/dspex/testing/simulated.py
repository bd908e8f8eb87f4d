"""A language model with a known response surface, to measure optimizers against."""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dspex.execution.clients import Capability, Request, Response
from dspex.language.records import Usage

_NUMBER = re.compile(r"question (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """How probable a right answer is, on the logit scale; every part adds to `base`.

    Args:
        base: with nothing set.
        words: what a word in the instructions adds, whatever its case.
        demonstrations: what the n-th useful demonstration adds; a useful one is right, and its question's number
            divides by `useful`.
        useful: see there.
        harmful: what a wrong demonstration takes away.
        warmth: the best temperature, which depends on whether the instructions ask for reasoning.
        reasoning: what the word "step" adds; it also makes replies `long` tokens instead of `short` ones.
    """

    base: float = -1.0
    words: Mapping[str, float] = field(default_factory=lambda: {"careful": 0.8, "exact": 0.6, "poem": -1.0})
    demonstrations: Sequence[float] = (0.6, 0.4, 0.2, 0.1)
    useful: int = 3
    harmful: float = 0.5
    warmth: tuple[float, float] = (0.2, 0.8)
    reasoning: float = 0.7
    steepness: float = 1.5
    short: int = 10
    long: int = 60

    def probability(self, system: str, demos: Sequence[tuple[int, bool]], temperature: float) -> float:
        """Return the chance of a right answer under instructions, (question, is right) demonstrations and heat."""
        said = system.lower()
        value = self.base + sum(worth for word, worth in self.words.items() if word in said)
        value += self.reasoning if "step" in said else 0.0
        useful = sum(is_right and number % self.useful == 0 for number, is_right in demos)
        value += sum(self.demonstrations[:useful])
        value -= self.harmful * sum(not is_right for _, is_right in demos)
        best = self.warmth["step" in said]
        value -= self.steepness * (temperature - best) ** 2
        return 1 / (1 + math.exp(-value))


class SimulatedModel:
    """Answers "question <n>" with "answer <n>" as often as its surface says; deterministic for request and seed.

    The chance depends on the instructions (the system message), the demonstrations (earlier turns) and the
    temperature. Replies are laid out for the chat adapter. Asked to write instructions, it offers one of `proposals`.
    """

    def __init__(
        self,
        surface: Surface | None = None,
        *,
        seed: int = 0,
        proposals: Sequence[str] = ("Be careful.", "Be exact.", "Think step by step.", "Answer as a poem."),
        price: float = 1e-6,
    ) -> None:
        """Take the surface, the seed of all answers and the dollars for a token."""
        self.name = "simulated"
        self.capabilities: frozenset[Capability] = frozenset()
        self.surface = surface or Surface()
        self.calls = 0
        self._seed = seed
        self._proposals = proposals
        self._price = price

    async def complete(self, request: Request) -> Response:
        """Answer by chance, the same for the same request."""
        self.calls += 1
        await asyncio.sleep(0)
        text, tokens = self._reply(request)
        given = sum(len(message.content) // 4 + 4 for message in request.messages)
        usage = Usage(input_tokens=given, output_tokens=tokens, calls=1, cost_usd=(given + 4 * tokens) * self._price)
        return Response(text=text, usage=usage, model=self.name, finish_reason="stop")

    async def aclose(self) -> None:
        """Hold nothing."""

    def truth(self, system: str, demos: Sequence[tuple[int, bool]], temperature: float) -> float:
        """Return the expected accuracy of a program, without sampling."""
        return self.surface.probability(system, demos, temperature)

    def _reply(self, request: Request) -> tuple[str, int]:
        asked = request.messages[-1].content
        draw = self._draw(request)
        if "[[ ## instruction ## ]]" in asked:
            return f"[[ ## instruction ## ]]\n{self._proposals[int(draw * len(self._proposals))]}", 20
        if "[[ ## description ## ]]" in asked:
            return "[[ ## description ## ]]\nNumbered questions with numbered answers.", 20
        number = _number(asked)
        system = request.messages[0].content if request.messages[0].role == "system" else ""
        chance = self.surface.probability(system, _demonstrations(request), request.temperature or 0.0)
        answer = f"answer {number}" if draw < chance else "answer unknown"
        tokens = self.surface.long if "step" in system.lower() else self.surface.short
        return f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]", tokens

    def _draw(self, request: Request) -> float:
        """Return a number from 0 to 1 that is as random as the request is new."""
        shown = [(message.role, message.content) for message in request.messages]
        text = json.dumps([self._seed, shown, request.temperature, request.seed])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


def _demonstrations(request: Request) -> list[tuple[int, bool]]:
    found: list[tuple[int, bool]] = []
    turns = [message for message in request.messages if message.role in {"user", "assistant"}][:-1]
    for asked, said in zip(turns[::2], turns[1::2], strict=False):
        number = _number(asked.content)
        found.append((number, f"answer {number}" in said.content))
    return found


def _number(text: str) -> int:
    found = _NUMBER.search(text)
    return int(found[1]) if found else -1
