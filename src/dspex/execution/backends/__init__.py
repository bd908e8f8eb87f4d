"""Where a program runs: one protocol, with an implementation for each place."""

from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.hybrid import HybridBackend
from dspex.execution.backends.isolated import IsolatedBackend
from dspex.execution.backends.mock import MockBackend
from dspex.execution.backends.native import NativeBackend

__all__ = ["Backend", "BackendCapability", "Handle", "HybridBackend", "IsolatedBackend", "MockBackend", "NativeBackend"]
