"""The reply as a native tool call: for models that call tools better than they follow a layout."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.field_splitter import FieldSplitter
from dspex.execution.adapters.json import JSONAdapter
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.execution.adapters.turns import describe, is_history
from dspex.language.records import Message
from dspex.language.signatures import Signature

ANSWER = "answer"


class _Plan(msgspec.Struct, frozen=True):
    system: Message
    tool: dict[str, Any]


class ToolAdapter:
    """Asks for one call of the tool `answer`, whose arguments are the output fields.

    A model without the capability "tools" gets the same request for a JSON object instead.
    """

    name = "tools"

    def __init__(self) -> None:
        self._json = JSONAdapter()

    def render(
        self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Prompt:
        """Return the messages and the answer tool; see `Adapter.render`."""
        plan, inner = _plan(signature), self._json.render(signature, demos, inputs)
        return Prompt(
            messages=(plan.system, *inner.messages[1:]),
            response_schema=inner.response_schema,
            json_mode=True,
            answer_tool=plan.tool,
        )

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in the JSON arguments of the call; see `Adapter.parse`."""
        return self._json.parse(signature, reply)

    def splitter(self, signature: Signature) -> FieldSplitter:
        """Return a splitter for the streamed arguments of the call."""
        return self._json.splitter(signature)


def _compile(signature: Signature) -> _Plan:
    inputs = [field for field in signature.input_fields.values() if not is_history(field)]
    outputs = signature.output_fields.values()
    inputs_text = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    system = (
        f"{inputs_text}You answer with these fields:\n{describe(outputs)}\n\n"
        f"Your task: {signature.instructions}\n\n"
        f"Answer by one call of the tool `{ANSWER}`; without tools, respond with a JSON object of "
        "its arguments."
    )
    tool = {
        "name": ANSWER,
        "description": "Give the answer.",
        "parameters": signature.to_json_schema("generic"),
    }
    return _Plan(system=Message("system", system), tool=tool)


_plan = SignatureCache(_compile)
