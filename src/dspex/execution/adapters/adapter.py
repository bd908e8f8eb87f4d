"""The protocol that turns a signature into a prompt and a reply into outputs."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from dspex.language.records import Message
from dspex.language.signatures import Signature


class Prompt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rendered call: the messages and the shape that the reply should have.

    `response_schema` (JSON Schema, strict form), `json_mode` and `answer_tool` (name, description
    and parameters of a tool whose arguments are the reply) are wishes: the caller drops what its
    model does not support.
    """

    messages: tuple[Message, ...]
    response_schema: dict[str, Any] | None = None
    json_mode: bool = False
    answer_tool: dict[str, Any] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the call wishes for nothing beside a reply to its messages."""
        return self.response_schema is None and not self.json_mode and self.answer_tool is None


class Adapter(Protocol):
    """Renders prompts and parses replies.

    Stateless apart from what it caches per signature, and safe to share between threads.

    `render` puts demonstrations before the input: first the incomplete ones (a field is missing or
    None), then the complete ones. It skips an incomplete demonstration that has no input or no
    output. `parse` takes the whole reply.
    """

    name: str

    def render(
        self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Prompt:
        """Return the prompt for one call; the caller has validated `inputs`."""
        ...

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in `reply`, validated.

        Raises:
            AdapterError: its context has `signature`, `reply` and the values already `parsed`.
        """
        ...
