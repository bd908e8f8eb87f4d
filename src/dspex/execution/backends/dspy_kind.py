"""The backend dspy in the registry; the bridge is loaded with its first worker."""

import importlib.util
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex.execution.backends.backend import Backend, BackendCapability
from dspex.execution.backends.backend_kind import BackendKind, BackendResources
from dspex.execution.backends.lazy import LazyBackend
from dspex.execution.workers import PoolConfig

if TYPE_CHECKING:
    from dspex.execution.backends.dspy_bridge import DspyBackend


def _open(resources: BackendResources) -> Backend:
    def create() -> "DspyBackend":
        from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig

        settings, code = resources.settings, resources.code
        pool = PoolConfig(
            name="dspy", minimum=1, maximum=settings["dspy_workers"], spares=resources.spares
        )
        config = DspyConfig(
            interpreter=settings["dspy_interpreter"] or sys.executable,
            paths=() if code is None else (str(code.folder),),
            pool=pool,
            concurrency=settings["dspy_concurrency"],
            memory_limit=settings["worker_memory_mb"] << 20 or None,
        )
        return DspyBackend(config, code=code, observer=resources.observer)

    capabilities: frozenset[BackendCapability] = frozenset(
        {"code_programs", "streaming", "isolation", "optimizing"}
    )
    return LazyBackend(KIND.name, capabilities, create)


def _missing(settings: Mapping[str, Any]) -> str | None:
    """Return how to install dspy if it is missing; a worker checks a configured interpreter."""
    if settings["dspy_interpreter"] is None and importlib.util.find_spec("dspy") is None:
        return (
            "needs the package dspy, which is not installed: pip install 'dspex[dspy]' (dspy 3.4 "
            "brings litellm along), or set DSPEX_DSPY_INTERPRETER to a Python that has it"
        )
    return None


KIND = BackendKind(
    name="dspy",
    summary="runs programs on dspy, in workers",
    open=_open,
    settings=("dspy_interpreter", "dspy_workers", "dspy_concurrency", "worker_memory_mb"),
    missing=_missing,
)
