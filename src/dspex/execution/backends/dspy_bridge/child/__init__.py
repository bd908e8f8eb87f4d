"""The host of dspy programs in a worker: the only place that imports dspy. Loaded by path, without dspex."""

from typing import Any

from .host import DspyHost


def create(config: "dict[str, Any]") -> DspyHost:
    """Return the host; dspy is imported here, so that a worker is warm when it introduces itself."""
    return DspyHost(config)
