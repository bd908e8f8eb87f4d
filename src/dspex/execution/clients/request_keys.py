"""Keys of requests, for caches and recordings."""

import msgspec

from dspex.execution.clients.identity import ModelIdentity
from dspex.execution.clients.language_model import Request
from dspex.language.records.canonical import content_hash


def request_key(model: ModelIdentity, request: Request) -> str:
    """Return a hash of model and request that is stable across processes."""
    return content_hash(
        {"model": msgspec.to_builtins(model), "request": msgspec.to_builtins(request)}
    )


def key_by_name(name: str, request: Request) -> str:
    """Return the key of older recordings, which have the model's name and no identity."""
    return content_hash({"model": name, "request": msgspec.to_builtins(request)})
