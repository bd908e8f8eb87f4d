"""A language model with a known response surface, to measure optimizers against."""

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence

from dspex.execution.clients import Capability, Request, Response
from dspex.language.records import Message, Usage
from dspex.testing.surfaces import Demos, ResponseSurface, Surface

_NUMBER = re.compile(r"question (\d+)")
_FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]")
_ASKS = re.compile(r"(?:Answer|Respond) with .*", re.DOTALL)
PROPOSALS = (
    "Be careful.",
    "Be exact.",
    "Think step by step.",
    "Answer as a poem.",
    "You are an expert.",
    "Be brief.",
    "Be careful and exact.",
    "Answer as a careful expert.",
)


class SimulatedModel:
    """Answers "question <n>" with "answer <n>" as often as its surface says; deterministic for request and seed.

    The chance depends on the instructions (the system message), the demonstrations (earlier turns), whether reasoning
    is asked for, and the temperature. Replies are laid out as chat adapters ask for them. Asked to write instructions,
    it offers one of `proposals`; any other field is filled with a sentence.
    """

    def __init__(
        self,
        surface: ResponseSurface | None = None,
        *,
        seed: int = 0,
        proposals: Sequence[str] = PROPOSALS,
        price: float = 1e-6,
    ) -> None:
        """Take the surface, the seed of all answers and the dollars for a token."""
        self.name = "simulated"
        self.capabilities: frozenset[Capability] = frozenset({"seed"})
        self.surface: ResponseSurface = surface or Surface()
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

    def truth(self, system: str, demos: Demos, temperature: float) -> float:
        """Return the expected accuracy of a program, without sampling."""
        return self.surface.probability(system, demos, temperature)

    def _reply(self, request: Request) -> tuple[str, int]:
        said, draw = request.messages[-1].content, self._draw(request)
        asks = _ASKS.search(said[max(0, said.rfind("\n\n")) :])
        fields = [name for name in _FIELD.findall(asks[0] if asks else said) if name != "completed"] or ["answer"]
        system = request.messages[0].content if request.messages[0].role == "system" else ""
        values = {name: self._value(name, draw) for name in fields}
        tokens = 20
        if "answer" in values and (number := _number(said)) >= 0:
            chance = self.surface.probability(system, _demonstrations(request.messages), request.temperature or 0.0)
            values["answer"] = f"answer {number}" if draw < chance else "answer unknown"
            tokens = self.surface.tokens(system)
        text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items())
        return f"{text}\n\n[[ ## completed ## ]]", tokens

    def _value(self, field: str, draw: float) -> str:
        if "instruction" in field:
            return self._proposals[int(draw * len(self._proposals))]
        return "Numbered questions with numbered answers."

    def _draw(self, request: Request) -> float:
        """Return a number from 0 to 1 that is as random as the request is new."""
        shown = [(message.role, message.content) for message in request.messages]
        text = json.dumps([self._seed, shown, request.temperature, request.seed])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


def _demonstrations(messages: Sequence[Message]) -> list[tuple[int, bool]]:
    found: list[tuple[int, bool]] = []
    turns = [message for message in messages if message.role in {"user", "assistant"}][:-1]
    for asked, said in zip(turns[::2], turns[1::2], strict=False):
        number = _number(asked.content)
        found.append((number, f"answer {number}" in said.content))
    return found


def _number(text: str) -> int:
    found = _NUMBER.search(text)
    return int(found[1]) if found else -1
