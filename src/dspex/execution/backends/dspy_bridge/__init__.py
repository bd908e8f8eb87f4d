"""The real dspy as a backend. `child` alone imports dspy, in a worker; everything else runs here."""

from dspex.execution.backends.dspy_bridge.backend import DspyBackend, DspyConfig

__all__ = ["DspyBackend", "DspyConfig"]
