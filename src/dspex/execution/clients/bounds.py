"""Upper bounds on the tokens of a prompt, before the provider has counted them."""

from collections import OrderedDict

import msgspec

from dspex.execution.clients.language_model import Request
from dspex.execution.clients.media_tokens import content_tokens
from dspex.execution.clients.request_keys import key_by_name
from dspex.language.records import Message

_PER_REQUEST = 64  # what chat templates add to a conversation, including a default system prompt
_PER_MESSAGE = 16
_FOR_TOOLS = 512  # what providers tell their models about tools in general
_PREFIXES = 4096


class PromptBounds:
    """Upper bounds on the tokens of prompts; they get tight for prompts that share a prefix.

    A byte-level tokenizer makes at most one token of each byte of UTF-8. If the provider has
    counted a prompt with the same messages but the last, that count plus the bytes of the last
    message is also a bound. Pictures, recordings and files count by the rules of `media_tokens`,
    which are estimates until the provider has counted more. Not safe for use from several threads.
    """

    def __init__(self) -> None:
        """Start without any counts."""
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._excess: dict[str, int] = {}

    def of(self, model: str, request: Request) -> int:
        """Return an upper bound on the prompt tokens of `request` to the model with this label."""
        bound = _by_bytes(model, request) + self._excess.get(model, 0)
        if len(request.messages) < 2:
            return bound
        count = self._counts.get(_prefix(model, request))
        return bound if count is None else min(bound, count + _size(model, request.messages[-1]))

    def learn(self, model: str, request: Request, *, tokens: int) -> None:
        """Record the provider's count."""
        if (excess := tokens - _by_bytes(model, request)) > self._excess.get(model, 0):
            self._excess[model] = excess
        if len(request.messages) < 2 or tokens < 1:
            return
        key = _prefix(model, request)
        self._counts[key] = min(tokens, self._counts.pop(key, tokens))
        if len(self._counts) > _PREFIXES:
            self._counts.popitem(last=False)


def _by_bytes(model: str, request: Request) -> int:
    size = _PER_REQUEST + sum(_size(model, message) for message in request.messages)
    if request.tools:
        size += _FOR_TOOLS + len(msgspec.json.encode(request.tools))
    if request.response_schema is not None:
        size += len(msgspec.json.encode(request.response_schema))
    return size


def _size(model: str, message: Message) -> int:
    calls = len(msgspec.json.encode(message.tool_calls)) if message.tool_calls else 0
    text = len(message.text.encode(errors="replace"))
    return text + content_tokens(model, message) + calls + _PER_MESSAGE


def _prefix(model: str, request: Request) -> str:
    return key_by_name(model, msgspec.structs.replace(request, messages=request.messages[:-1]))
