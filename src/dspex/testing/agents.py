"""Models for tests of agents: scripts by role, and simulated agents with skills and failures."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex.error_text import suggest
from dspex.errors import DefinitionError, ModelUnavailableError
from dspex.execution.clients import Request, Response
from dspex.language.records import ToolCall, Usage
from dspex.testing.layouts import fill_in, input_value, output_fields
from dspex.testing.scripted import Reply

FINISH = "finish"
Move = Mapping[str, Any] | ToolCall | Sequence[ToolCall] | str | Exception
"""Outputs by field, one or several tool calls, a text as it is, or an error to raise."""


def tool_calls(*calls: ToolCall) -> Response:
    """Return one reply with several tool calls."""
    return Response(text="", usage=Usage(calls=1), model="scripted", tool_calls=calls)


def by_role(scripts: Mapping[str, Reply | Sequence[Reply]]) -> Callable[[Request], Any]:
    """Return a reply for `ScriptedModel` that has a script for each role.

    The key of a script is a text in the prompts of its role, such as a part of its instructions; of
    several that occur, the first one applies. Each script has its own order; its last reply answers
    all later calls.
    """
    lists: dict[str, list[Any]] = {
        role: list(script) if isinstance(script, list | tuple) else [script]
        for role, script in scripts.items()
    }

    def reply(request: Request) -> Any:
        text = "\n".join(message.text for message in request.messages)
        for role, script in lists.items():
            if role in text:
                answer = script.pop(0) if len(script) > 1 else script[0]
                return answer(request) if callable(answer) else answer
        raise AssertionError(f"no role of {list(lists)} is in the prompt: {text[:500]}")

    return reply


class AgentTurn:
    """What a simulated agent sees in one request."""

    def __init__(self, request: Request, seed: int) -> None:
        """Take the request, and the seed of all chances."""
        self.request = request
        self._seed = seed

    @property
    def text(self) -> str:
        """The whole prompt."""
        return "\n".join(message.text for message in self.request.messages)

    @property
    def fields(self) -> list[str]:
        """The outputs that the prompt asks for; empty for an agent that calls tools natively."""
        return [] if self.request.tools else output_fields(self.request)

    @property
    def tools(self) -> list[str]:
        """The names of the tools that may be called."""
        return [tool.name for tool in self.request.tools]

    @property
    def results(self) -> list[str]:
        """The results of the tools that were called, the oldest first."""
        return [message.text for message in self.request.messages if message.role == "tool"]

    def value(self, field: str) -> str:
        """Return the value of an input as text; empty if there is none."""
        return input_value(self.request, field)

    def chance(self, label: str = "") -> float:
        """Return a number from 0 to 1 at random, equal for equal prompts, seeds and labels."""
        parts = [self._seed, self.request.rollout, label, self.text]
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2**56


def check_fields(move: Mapping[str, Any], fields: Sequence[str]) -> None:
    """Raise `AssertionError` unless a move has only outputs that the prompt asks for."""
    for name in move:
        if fields and name not in fields:
            raise AssertionError(
                f"`solve` returned {name!r}, which the prompt does not ask for."
                f"{suggest(name, fields)} It asks for: {', '.join(fields)}"
            )


def simulated_agents(
    solve: Callable[[AgentTurn], Move], *, seed: int = 0, failures: float = 0.0
) -> Callable[[Request], Any]:
    """Return a reply for `ScriptedModel` of agents that behave as `solve` says.

    Outputs are written in the layout of the prompt; for an agent with native tools they are the
    arguments of its last call.

    Args:
        solve: returns what the agent does in one turn.
        seed: of `AgentTurn.chance`.
        failures: the probability that the model cannot be reached.

    Raises:
        DefinitionError: `failures` is not a probability.
    """
    if not isinstance(failures, int | float) or not 0 <= failures <= 1:
        raise DefinitionError(
            "`failures` is the probability that a call fails, a number from 0 to 1, not "
            f"{failures!r}"
        )

    def reply(request: Request) -> Any:
        turn = AgentTurn(request, seed)
        if turn.chance("failure") < failures:
            return ModelUnavailableError("the simulated model cannot be reached")
        move = solve(turn)
        if isinstance(move, Mapping):
            if FINISH in turn.tools:
                return ToolCall("finish", FINISH, dict(move))
            check_fields(move, turn.fields)
            return fill_in(request, move)
        if isinstance(move, Sequence) and not isinstance(move, str):
            return tool_calls(*move)
        if move is None:
            raise AssertionError(f"`solve` returned nothing for the prompt: {turn.text[:500]}")
        return move

    return reply
