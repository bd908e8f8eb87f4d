"""The backends of a process: made from the settings, started when they are needed, ended in order."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from dspex.errors import InternalError
from dspex.execution.backends import (
    Backend,
    Backends,
    HybridBackend,
    IsolatedBackend,
    LazyBackend,
    MockBackend,
    NativeBackend,
    Policy,
)
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import PoolConfig
from dspex.execution.workers.status_file import StatusPublisher
from dspex.settings import Settings
from dspex.telemetry import Event, Observer, Silent

if TYPE_CHECKING:  # the bridge is loaded with its first worker
    from dspex.execution.backends.dspy_bridge import DspyBackend

WORKERS = "workers"


@asynccontextmanager
async def open_backends(
    settings: Settings, *, code: CodeRoot | None = None, observer: Observer | None = None, serves: bool = False
) -> AsyncIterator[Backends]:
    """Give the backends by name: native, mock, isolated, dspy and hybrid. Owned by the running loop.

    Nothing is started or imported for a backend before a program runs on it. At the end the workers end: first those
    of dspy, then those of native code. While there are any, the state folder tells of them (see `read_statuses`).

    Args:
        settings: which interpreter, how many workers, and what decides where nobody asked.
        code: where code programs come from.
        observer: hears of workers.
        serves: whether this process lives on to serve others: it tells of itself before it has any worker, and keeps a
            warm spare in each pool.
    """
    publisher = StatusPublisher(settings.state_dir / WORKERS, what="serve" if serves else "run")
    heard = Heard(observer or Silent(), publisher)
    isolated = LazyBackend(
        "isolated",
        frozenset({"isolation"} if code is None else {"isolation", "code_programs"}),
        partial(_isolated, settings, code=code, observer=heard, spares=int(serves)),
    )
    dspy = LazyBackend(
        "dspy",
        frozenset({"code_programs", "streaming", "isolation", "optimizing"}),
        partial(_dspy, settings, code=code, observer=heard, spares=int(serves)),
    )
    publisher.pools = lambda: [found for found in (isolated.stats(), dspy.stats()) if found is not None]
    backends: dict[str, Backend] = {
        "native": NativeBackend(code=code),
        "isolated": isolated,
        "dspy": dspy,
        "mock": MockBackend(kept_calls=0),  # inputs are the callers', and a server runs for ever
    }
    backends["hybrid"] = HybridBackend(dict(backends), code=code)
    policy = Policy(
        test_mode=settings.test_mode,
        backend=settings.backend,
        isolates_code=settings.isolation == "process",
        missing=lambda name: _missing(settings) if name == dspy.name and dspy.stats() is None else None,
    )
    async with publisher, AsyncExitStack() as stack:
        if serves:
            publisher.changed()
        stack.push_async_callback(isolated.aclose)
        stack.push_async_callback(dspy.aclose)
        yield Backends(backends, policy)


async def dspy_bridge(backends: Backends) -> "DspyBackend":
    """Return the bridge to dspy with its workers, which are started where there are none yet.

    Raises:
        InvalidError: dspy is not installed; the message says what to do.
        WorkerStartError: no worker could be started.
    """
    backends.check("dspy")
    lazy = backends["dspy"]
    if not isinstance(lazy, LazyBackend):
        raise InternalError(f"the backend 'dspy' is {type(lazy).__name__}, not what `open_backends` made")
    started: DspyBackend = await lazy.started()
    return started


class Heard:
    """Tells the publisher that a worker has changed, and passes everything on."""

    def __init__(self, observer: Observer, publisher: StatusPublisher) -> None:
        """Take who else listens."""
        self.on_span = observer.on_span
        self._observer = observer
        self._publisher = publisher

    def on_event(self, event: Event) -> None:
        """Pass an event on."""
        if event.name == "worker":
            self._publisher.changed()
        self._observer.on_event(event)


def _isolated(settings: Settings, *, code: CodeRoot | None, observer: Observer, spares: int) -> IsolatedBackend:
    pool = PoolConfig(name="isolated", minimum=1, maximum=settings.workers, spares=spares)
    return IsolatedBackend(code=code, pool=pool, memory_limit=_memory(settings), observer=observer)


def _dspy(settings: Settings, *, code: CodeRoot | None, observer: Observer, spares: int) -> "DspyBackend":
    from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig

    config = DspyConfig(
        interpreter=settings.dspy_interpreter or sys.executable,
        paths=() if code is None else (str(code.folder),),
        pool=PoolConfig(name="dspy", minimum=1, maximum=settings.dspy_workers, spares=spares),
        memory_limit=_memory(settings),
    )
    return DspyBackend(config, code=code, observer=observer)


def _memory(settings: Settings) -> int | None:
    return settings.worker_memory_mb << 20 or None


def _missing(settings: Settings) -> str | None:
    """Say what has to be installed for dspy; an interpreter that was named is asked when its worker starts."""
    if settings.dspy_interpreter is None and importlib.util.find_spec("dspy") is None:
        return (
            "needs the package dspy, which is not installed: pip install 'dspex[dspy]' (dspy 3.4 brings litellm "
            "along), or set DSPEX_DSPY_INTERPRETER to a Python that has it"
        )
    return None
