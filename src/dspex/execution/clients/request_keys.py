"""Keys of requests, for caches and recordings."""

from typing import Any

import msgspec

from dspex.execution.clients.identity import ModelIdentity
from dspex.execution.clients.language_model import Request
from dspex.language.records.canonical import content_hash
from dspex.language.records.message import without_bytes


def request_data(request: Request) -> dict[str, Any]:
    """Return a request as recordings hold it: the bytes of media as their SHA-256."""
    messages = without_bytes(request.messages)
    if messages is request.messages:
        return msgspec.to_builtins(request)  # type: ignore[no-any-return]  # a struct is a dict
    rest = msgspec.structs.replace(request, messages=())
    return {**msgspec.to_builtins(rest), "messages": msgspec.to_builtins(messages)}


def request_key(model: ModelIdentity, request: Request) -> str:
    """Return a hash of model and request that is stable across processes."""
    return content_hash({"model": msgspec.to_builtins(model), "request": request_data(request)})


def key_by_name(name: str, request: Request) -> str:
    """Return the key of older recordings, which have the model's name and no identity."""
    return content_hash({"model": name, "request": request_data(request)})
