"""The backends of a process: created from the settings, started on demand, closed in order."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from dspex.errors import InternalError
from dspex.execution.backends import (
    Backend,
    BackendPolicy,
    Backends,
    HybridBackend,
    IsolatedBackend,
    LazyBackend,
    MockBackend,
    NativeBackend,
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
    settings: Settings,
    *,
    code: CodeRoot | None = None,
    observer: Observer | None = None,
    serves: bool = False,
) -> AsyncIterator[Backends]:
    """Yield the backends by name: native, mock, isolated, dspy and hybrid.

    The running loop owns them. Nothing is started or imported for a backend before a program runs
    on it. At the end the workers of dspy are stopped first, then the isolated ones. Meanwhile the
    state folder lists them (see `read_statuses`).

    Args:
        settings: interpreter, numbers of workers, and the default backend.
        code: the root of code programs.
        observer: receives the events of workers.
        serves: whether this process is a server: it is listed before it has workers, and keeps a
            warm spare in each pool.
    """
    publisher = StatusPublisher(settings.state_dir / WORKERS, what="serve" if serves else "run")
    publishing = PublishingObserver(observer or Silent(), publisher)
    isolated = LazyBackend(
        "isolated",
        frozenset({"isolation"} if code is None else {"isolation", "code_programs"}),
        partial(_isolated, settings, code=code, observer=publishing, spares=int(serves)),
    )
    dspy = LazyBackend(
        "dspy",
        frozenset({"code_programs", "streaming", "isolation", "optimizing"}),
        partial(_dspy, settings, code=code, observer=publishing, spares=int(serves)),
    )
    publisher.pools = lambda: [
        stats for stats in (isolated.stats(), dspy.stats()) if stats is not None
    ]
    backends: dict[str, Backend] = {
        "native": NativeBackend(code=code),
        "isolated": isolated,
        "dspy": dspy,
        "mock": MockBackend(kept_calls=0),  # inputs are private, and a server runs forever
    }
    backends["hybrid"] = HybridBackend(dict(backends), code=code)
    policy = BackendPolicy(
        test_mode=settings.test_mode,
        backend=settings.backend,
        isolates_code=settings.isolation == "process",
        missing=lambda name: (
            _missing_dspy(settings) if name == dspy.name and dspy.stats() is None else None
        ),
    )
    async with publisher, AsyncExitStack() as stack:
        if serves:
            publisher.schedule_write()
        stack.push_async_callback(isolated.aclose)
        stack.push_async_callback(dspy.aclose)
        yield Backends(backends, policy)


async def dspy_bridge(backends: Backends) -> "DspyBackend":
    """Return the bridge to dspy; its workers are started if they do not run yet.

    Raises:
        InputError: dspy is not installed; the message shows how to install it.
        WorkerStartError: no worker could be started.
    """
    backends.check("dspy")
    lazy = backends["dspy"]
    if not isinstance(lazy, LazyBackend):
        raise InternalError(
            f"the backend 'dspy' is {type(lazy).__name__}, not the one of `open_backends`"
        )
    bridge: DspyBackend = await lazy.ensure_started()
    return bridge


class PublishingObserver:
    """Notifies the publisher when a worker changes, and forwards everything to another observer."""

    def __init__(self, observer: Observer, publisher: StatusPublisher) -> None:
        """Take the observer to forward to, and the publisher."""
        self.on_span = observer.on_span
        self._observer = observer
        self._publisher = publisher

    def on_event(self, event: Event) -> None:
        """Forward an event."""
        if event.name == "worker":
            self._publisher.schedule_write()
        self._observer.on_event(event)


def _isolated(
    settings: Settings, *, code: CodeRoot | None, observer: Observer, spares: int
) -> IsolatedBackend:
    pool = PoolConfig(name="isolated", minimum=1, maximum=settings.workers, spares=spares)
    return IsolatedBackend(code=code, pool=pool, memory_limit=_memory(settings), observer=observer)


def _dspy(
    settings: Settings, *, code: CodeRoot | None, observer: Observer, spares: int
) -> "DspyBackend":
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


def _missing_dspy(settings: Settings) -> str | None:
    """Return how to install dspy if it is missing.

    The worker checks a configured interpreter itself.
    """
    if settings.dspy_interpreter is None and importlib.util.find_spec("dspy") is None:
        return (
            "needs the package dspy, which is not installed: pip install 'dspex[dspy]' (dspy 3.4 "
            "brings litellm "
            "along), or set DSPEX_DSPY_INTERPRETER to a Python that has it"
        )
    return None
