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
_LAYOUT = re.compile(r"(?:Answer|Respond) with .*", re.DOTALL)
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
    """Answers "question <n>" with "answer <n>" with the probability of its surface.

    Answers are deterministic for a request and seed. The probability depends on the instructions
    (the system message), the demonstrations (earlier turns), whether a reasoning field exists, and
    the temperature. Replies have the layout of chat adapters. A field for instructions gets one of
    `proposals`; any other field gets a sentence.
    """

    def __init__(
        self,
        surface: ResponseSurface | None = None,
        *,
        seed: int = 0,
        proposals: Sequence[str] = PROPOSALS,
        price: float = 1e-6,
    ) -> None:
        """Take the surface, the seed of all answers and the price of a token in dollars."""
        self.name = "simulated"
        self.capabilities: frozenset[Capability] = frozenset({"seed"})
        self.surface: ResponseSurface = surface or Surface()
        self.calls = 0
        self._seed = seed
        self._proposals = proposals
        self._price = price

    async def complete(self, request: Request) -> Response:
        """Answer at random, but equally for equal requests."""
        self.calls += 1
        await asyncio.sleep(0)
        text, tokens = self._reply(request)
        input_tokens = sum(len(message.text) // 4 + 4 for message in request.messages)
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=tokens,
            calls=1,
            cost_usd=(input_tokens + 4 * tokens) * self._price,
        )
        return Response(text=text, usage=usage, model=self.name, finish_reason="stop")

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""

    def truth(self, system: str, demos: Demos, temperature: float) -> float:
        """Return the expected accuracy of a program, without sampling."""
        return self.surface.probability(system, demos, temperature)

    def _reply(self, request: Request) -> tuple[str, int]:
        prompt, draw = request.messages[-1].text, self._draw(request)
        layout = _LAYOUT.search(prompt[max(0, prompt.rfind("\n\n")) :])
        fields = [
            name for name in _FIELD.findall(layout[0] if layout else prompt) if name != "completed"
        ] or ["answer"]
        system = request.messages[0].text if request.messages[0].role == "system" else ""
        values = {name: self._value(name, draw) for name in fields}
        tokens = 20
        if "answer" in values and (number := _number(prompt)) >= 0:
            chance = self.surface.probability(
                system, _demonstrations(request.messages), request.temperature or 0.0
            )
            values["answer"] = f"answer {number}" if draw < chance else "answer unknown"
            tokens = self.surface.tokens(system)
        text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items())
        return f"{text}\n\n[[ ## completed ## ]]", tokens

    def _value(self, field: str, draw: float) -> str:
        if "instruction" in field or field == "rule":
            return self._proposals[int(draw * len(self._proposals))]
        return "Numbered questions with numbered answers."

    def _draw(self, request: Request) -> float:
        """Return a pseudo-random number from 0 to 1 that depends on the request and the seed."""
        messages = [(message.role, message.text) for message in request.messages]
        text = json.dumps([self._seed, messages, request.temperature, request.seed])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


def _demonstrations(messages: Sequence[Message]) -> list[tuple[int, bool]]:
    demos: list[tuple[int, bool]] = []
    turns = [message for message in messages if message.role in {"user", "assistant"}][:-1]
    for question, answer in zip(turns[::2], turns[1::2], strict=False):
        number = _number(question.text)
        demos.append((number, f"answer {number}" in answer.text))
    return demos


def _number(text: str) -> int:
    match = _NUMBER.search(text)
    return int(match[1]) if match else -1
