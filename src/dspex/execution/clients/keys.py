"""The name of a request's contents: what caches and recordings go by."""

import msgspec

from dspex.execution.clients.language_model import Request
from dspex.language.records.canonical import content_hash


def request_key(model: str, request: Request) -> str:
    """Return a hash that is the same for equal requests to one model, in every process."""
    return content_hash({"model": model, "request": msgspec.to_builtins(request)})
