"""The trajectory of an agent as text, and tool calls that a model writes as text."""

import ast
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from dspex.errors import AdapterError, ContextTooLongError
from dspex.execution.adapters import Adapter
from dspex.execution.adapters.chat import ChatAdapter
from dspex.execution.adapters.replies import repair
from dspex.execution.adapters.turns import validate_outputs
from dspex.execution.clients import LanguageModel
from dspex.execution.context import RunContext
from dspex.execution.modules.agent_loop import (
    LEFT_OUT,
    THOUGHT,
    TOOL_ARGUMENTS,
    TOOL_NAME,
    TRAJECTORY,
)
from dspex.execution.modules.module import Module
from dspex.language.records import Prediction
from dspex.language.signatures import Signature

_ACTION = re.compile(r"^[ \t]*Action(?: \d+)?:?[ \t]*\[(\w+)\][ \t]*\((.*)\)[ \t]*$", re.M)
_LABEL = re.compile(r"^[ \t]*Thought(?: \d+)?:[ \t]*", re.M)
_LONGEST = 100_000


class TextTrajectory:
    """The steps of an agent as prompts show them."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, str]] = []

    def add(self, thought: str, call: str, observation: str) -> None:
        """Add a step."""
        number = len(self._steps) + 1
        head = f"Thought {number}: {thought}\nCall {number}: {call}\nObservation {number}: "
        self._steps.append((head, observation))

    async def ask(
        self, predictor: Module, context: RunContext, values: Mapping[str, Any]
    ) -> Prediction:
        """Call a predictor with the trajectory; leave out the oldest results if it is too long."""
        while True:
            text = "\n".join(head + observation for head, observation in self._steps)
            try:
                return await predictor.acall(
                    context, **values, **{TRAJECTORY: text or "(nothing yet)"}
                )
            except ContextTooLongError:
                if not self._compact():
                    raise

    def _compact(self) -> bool:
        places = [place for place, (_, text) in enumerate(self._steps) if len(text) > len(LEFT_OUT)]
        for place in places[: (len(places) + 1) // 2]:
            self._steps[place] = (self._steps[place][0], LEFT_OUT)
        return bool(places)


def with_action_form(
    context: RunContext, model: LanguageModel | str | None, adapter: Adapter | None
) -> RunContext:
    """Return the context in which chat replies may also be a line `Action[tool](arguments)`."""
    resolved = context.adapter_for(adapter, context.model_for(model))
    if adapter is not None or type(resolved) is not ChatAdapter:
        return context
    return msgspec.structs.replace(context, adapter=_ActionAdapter())


class _ActionAdapter(ChatAdapter):
    """The chat layout, or a thought followed by a line `Action[tool](arguments)`."""

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs; see `Adapter.parse`."""
        try:
            return super().parse(signature, reply)
        except AdapterError:
            action = read_action(reply)
            if action is None:
                raise
            return validate_outputs(signature, reply, action)


def read_action(reply: str) -> dict[str, Any] | None:
    """Return thought, tool and arguments of the first `Action[tool](arguments)`, None without one.

    The arguments are a JSON object, or Python keywords with literal values.
    """
    match = _ACTION.search(reply)
    if match is None or len(match[2]) > _LONGEST:
        return None
    text = match[2].strip()
    arguments = repair(text) if text.startswith("{") else _keywords(text)
    if not isinstance(arguments, dict):
        return None
    thought = _LABEL.sub("", reply[: match.start()]).strip()
    return {THOUGHT: thought, TOOL_NAME: match[1], TOOL_ARGUMENTS: arguments}


def _keywords(text: str) -> dict[str, Any] | None:
    """Return the keywords of a Python call as literals; nothing is evaluated."""
    try:
        call = ast.parse(f"call({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            return None
        return {
            str(keyword.arg): ast.literal_eval(keyword.value)
            for keyword in call.keywords
            if keyword.arg is not None
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
