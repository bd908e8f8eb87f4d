"""One turn of a conversation with a model."""

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True):
    """A role and its text, as every chat protocol knows them."""

    role: Role
    content: str
