"""The host of dspy programs in a worker: loaded by path, and the only importer of dspy."""

from typing import Any

from .host import DspyHost


def create(config: "dict[str, Any]") -> DspyHost:
    """Return the host. Importing dspy before the handshake keeps the first call fast."""
    return DspyHost(config)
