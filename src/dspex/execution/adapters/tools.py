"""The reply as a native tool call: for models that call functions more reliably than they keep to a layout."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.compiled import PerSignature
from dspex.execution.adapters.json import JSONAdapter
from dspex.execution.adapters.splitting import Splitter
from dspex.execution.adapters.turns import describe
from dspex.language.records import Message
from dspex.language.signatures import Signature

ANSWER = "answer"


class _Plan(msgspec.Struct, frozen=True):
    system: Message
    tool: dict[str, Any]


class ToolAdapter:
    """Asks for one call of the tool `answer`, whose arguments are the output fields.

    A model without the capability "tools" is not offered one: it reads the same request for a JSON object.
    """

    name = "tools"

    def __init__(self) -> None:
        self._json = JSONAdapter()

    def render(self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Prompt:
        """Return system message, demonstrations, the input and the tool; see `Adapter.render`."""
        plan, inner = _plan(signature), self._json.render(signature, demos, inputs)
        return Prompt(
            messages=(plan.system, *inner.messages[1:]),
            response_schema=inner.response_schema,
            json_mode=True,
            answer_tool=plan.tool,
        )

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in the arguments of the call, which `reply` holds as JSON; see `Adapter.parse`."""
        return self._json.parse(signature, reply)

    def splitter(self, signature: Signature) -> Splitter:
        """Return what reads the arguments of the call while they come."""
        return self._json.splitter(signature)


def _compile(signature: Signature) -> _Plan:
    inputs, outputs = signature.input_fields.values(), signature.output_fields.values()
    given = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    system = (
        f"{given}You answer with these fields:\n{describe(outputs)}\n\n"
        f"Your task: {signature.instructions}\n\n"
        f"Answer by one call of the tool `{ANSWER}`; without tools, respond with a JSON object of its arguments."
    )
    tool = {
        "name": ANSWER,
        "description": "Give the answer.",
        "parameters": signature.to_json_schema("generic"),
    }
    return _Plan(system=Message("system", system), tool=tool)


_plan = PerSignature(_compile)
