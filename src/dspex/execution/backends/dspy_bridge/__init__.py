"""The real dspy as a backend. Only `child`, which runs in a worker, imports dspy."""

from dspex.execution.backends.dspy_bridge.backend import DspyBackend, DspyConfig

__all__ = ["DspyBackend", "DspyConfig"]
