"""One turn of a conversation with a model."""

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A wish of a model: call the tool `name` with `arguments`. `id` ties the result to it."""

    id: str
    name: str
    arguments: dict[str, Any]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A role and its text, as every chat protocol knows them.

    An assistant's message may hold `tool_calls`; a message of the role "tool" answers the call `tool_call_id`.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
