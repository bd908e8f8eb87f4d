"""Backends, the places where a program runs: one protocol with several implementations."""

from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.backend_module import BackendModule
from dspex.execution.backends.choice import BackendPolicy, Backends, Choice
from dspex.execution.backends.hybrid import HybridBackend
from dspex.execution.backends.isolated import IsolatedBackend
from dspex.execution.backends.lazy import LazyBackend
from dspex.execution.backends.mock import MockBackend
from dspex.execution.backends.native import NativeBackend
from dspex.execution.backends.optimization import Optimization, OptimizingBackend

__all__ = [
    "Backend",
    "BackendCapability",
    "BackendModule",
    "BackendPolicy",
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
]
