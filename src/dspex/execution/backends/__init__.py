"""Where a program runs: one protocol, with an implementation for each place."""

from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.choosing import Backends, Choice, Policy
from dspex.execution.backends.hybrid import HybridBackend
from dspex.execution.backends.isolated import IsolatedBackend
from dspex.execution.backends.lazy import LazyBackend
from dspex.execution.backends.mock import MockBackend
from dspex.execution.backends.native import NativeBackend
from dspex.execution.backends.optimizing import Optimization, OptimizingBackend

__all__ = [
    "Backend",
    "BackendCapability",
    "Backends",
    "Choice",
    "Handle",
    "HybridBackend",
    "IsolatedBackend",
    "LazyBackend",
    "MockBackend",
    "NativeBackend",
    "Optimization",
    "OptimizingBackend",
    "Policy",
]
