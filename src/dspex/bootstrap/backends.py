"""The backends of a process: opened from the registry, started on demand, closed in order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import InternalError
from dspex.execution.backends import Backend, BackendPolicy, Backends, LazyBackend
from dspex.execution.backends.backend_kind import BackendKind, BackendResources
from dspex.execution.backends.kinds import BACKEND_KINDS
from dspex.execution.modules import CodeRoot
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
    """Yield the backends of the registry by name.

    The running loop owns them. Nothing is started or imported for a backend before a program runs
    on it. At the end their workers are stopped, in reverse order. Meanwhile the state folder lists
    them (see `read_statuses`).

    Args:
        settings: what the backends need of them, and the default backend.
        code: the root of code programs.
        observer: receives the events of workers.
        serves: whether this process is a server: it is listed before it has workers, and keeps a
            warm spare in each pool.
    """
    publisher = StatusPublisher(settings.state_dir / WORKERS, what="serve" if serves else "run")
    publishing = PublishingObserver(observer or Silent(), publisher)
    backends: dict[str, Backend] = {}
    for kind in BACKEND_KINDS.values():
        resources = BackendResources(
            settings=_settings_of(kind, settings),
            code=code,
            observer=publishing,
            spares=int(serves),
            others=dict(backends),
        )
        backends[kind.name] = kind.open(resources)
    pooled = [backend for backend in backends.values() if isinstance(backend, LazyBackend)]
    publisher.pools = lambda: [
        stats for backend in pooled if (stats := backend.stats()) is not None
    ]
    policy = BackendPolicy(
        test_mode=settings.test_mode,
        backend=settings.backend,
        isolates_code=settings.isolation == "process",
        missing=partial(_missing, backends, settings),
    )
    async with publisher, AsyncExitStack() as stack:
        if serves:
            publisher.schedule_write()
        for backend in pooled:
            stack.push_async_callback(backend.aclose)
        yield Backends(backends, policy)


def _missing(backends: Mapping[str, Backend], settings: Settings, name: str) -> str | None:
    """Return what a backend needs before it can run; None if nothing, or if it runs already."""
    backend, kind = backends[name], BACKEND_KINDS[name]
    if kind.missing is None or (isinstance(backend, LazyBackend) and backend.stats() is not None):
        return None
    return kind.missing(_settings_of(kind, settings))


def _settings_of(kind: BackendKind, settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in kind.settings}


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
