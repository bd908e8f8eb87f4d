"""The name of a request's contents: what caches and recordings go by."""

import msgspec

from dspex.execution.clients.identity import ModelIdentity
from dspex.execution.clients.language_model import Request
from dspex.language.records.canonical import content_hash


def request_key(model: ModelIdentity, request: Request) -> str:
    """Return a hash that is the same for equal requests to one model, in every process."""
    return content_hash({"model": msgspec.to_builtins(model), "request": msgspec.to_builtins(request)})


def key_by_name(name: str, request: Request) -> str:
    """Return the key of a request as it was before models had an identity; old recordings go by it."""
    return content_hash({"model": name, "request": msgspec.to_builtins(request)})
