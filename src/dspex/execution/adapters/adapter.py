"""The seam between signatures and conversations."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from dspex.language.records import Message
from dspex.language.signatures import Signature


class Prompt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rendered call: the messages, and the shape that the reply is to have.

    `response_schema` (JSON Schema, strict form), `json_mode` and `answer_tool` (name, description and parameters of a
    tool whose arguments are the reply) are wishes: who sends the prompt drops what its model cannot do.
    """

    messages: tuple[Message, ...]
    response_schema: dict[str, Any] | None = None
    json_mode: bool = False
    answer_tool: dict[str, Any] | None = None


class Adapter(Protocol):
    """Renders and parses; stateless but for compiled parts, and safe to share between threads.

    `render` puts demonstrations before the input: incomplete ones (a field missing or None) first, then complete ones.
    An incomplete one without any input or any output is left out. `parse` takes the whole reply.
    """

    name: str

    def render(self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Prompt:
        """Return the prompt for one call; `inputs` are validated already."""
        ...

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in `reply`, validated.

        Raises:
            AdapterError: with `signature`, `reply` and what was `parsed` of it in its context.
        """
        ...
