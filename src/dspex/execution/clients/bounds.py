"""How many tokens a prompt has at most, before the provider has counted them."""

from collections import OrderedDict

import msgspec

from dspex.execution.clients.keys import key_by_name
from dspex.execution.clients.language_model import Request
from dspex.language.records import Message

_PER_REQUEST = 64  # what chat templates put around a conversation, a system prompt of their own included
_PER_MESSAGE = 16
_FOR_TOOLS = 512  # what providers tell their models about tools in general
_PREFIXES = 4096


class PromptBounds:
    """Upper bounds on the tokens of prompts, which become tight where prompts begin alike.

    A byte-level tokenizer makes at most one token of a byte of UTF-8. Where a prompt was counted by the provider that
    has all messages but the last one in common, its count and the bytes of the new last message are a bound too.
    Not safe for use from several threads.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._counted: OrderedDict[str, int] = OrderedDict()
        self._excess: dict[str, int] = {}

    def of(self, model: str, request: Request) -> int:
        """Return how many tokens the prompt of `request` to `model`, by its label, has at most."""
        bound = self._by_bytes(request) + self._excess.get(model, 0)
        if len(request.messages) < 2:
            return bound
        counted = self._counted.get(_prefix(model, request))
        return bound if counted is None else min(bound, counted + _size(request.messages[-1]))

    def learn(self, model: str, request: Request, *, tokens: int) -> None:
        """Take note of what the provider counted."""
        if (more := tokens - self._by_bytes(request)) > self._excess.get(model, 0):
            self._excess[model] = more
        if len(request.messages) < 2 or tokens < 1:
            return
        key = _prefix(model, request)
        self._counted[key] = min(tokens, self._counted.pop(key, tokens))
        if len(self._counted) > _PREFIXES:
            self._counted.popitem(last=False)

    def _by_bytes(self, request: Request) -> int:
        size = _PER_REQUEST + sum(map(_size, request.messages))
        if request.tools:
            size += _FOR_TOOLS + len(msgspec.json.encode(request.tools))
        if request.response_schema is not None:
            size += len(msgspec.json.encode(request.response_schema))
        return size


def _size(message: Message) -> int:
    calls = len(msgspec.json.encode(message.tool_calls)) if message.tool_calls else 0
    return len(message.content.encode(errors="replace")) + calls + _PER_MESSAGE


def _prefix(model: str, request: Request) -> str:
    return key_by_name(model, msgspec.structs.replace(request, messages=request.messages[:-1]))
