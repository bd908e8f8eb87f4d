"""Backends: where programs run, and the worker processes that some of them use.

`NativeBackend` runs in this process, `MockBackend` returns made-up values, `IsolatedBackend` runs
code programs in workers, and `DspyBackend` runs them on dspy.
"""

from dspex.execution.backends import (
    Backend,
    IsolatedBackend,
    MockBackend,
    NativeBackend,
    Optimization,
)
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.backends.dspy_bridge.retriever import DspyRetriever
from dspex.execution.workers import Pool, PoolConfig, WorkerSpec

__all__ = [
    "Backend",
    "DspyBackend",
    "DspyConfig",
    "DspyRetriever",
    "IsolatedBackend",
    "MockBackend",
    "NativeBackend",
    "Optimization",
    "Pool",
    "PoolConfig",
    "WorkerSpec",
]
