"""One turn of a conversation with a model."""

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A request of a model to call the tool `name`; its result has the same `id`."""

    id: str
    name: str
    arguments: dict[str, Any]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A role and its text, as in every chat protocol.

    An assistant message may have `tool_calls`; a message with the role "tool" is the result of the
    call `tool_call_id`.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
