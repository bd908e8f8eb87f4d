"""What the registry holds of a backend: its name, what it needs, and how it is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex.execution.backends.backend import Backend
from dspex.execution.modules import CodeRoot
from dspex.telemetry import Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendResources:
    """What a process gives to a backend that it opens.

    - `settings` has the values of the settings that the kind names.
    - `code` is the root of code programs, None if only data programs run.
    - `observer` receives the events of workers; each pool keeps `spares` warm workers.
    - `others` are the backends that were opened before, by name.
    """

    settings: Mapping[str, Any]
    code: CodeRoot | None
    observer: Observer
    spares: int
    others: Mapping[str, Backend]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendKind:
    """One backend, with everything that opens or describes it.

    - `name` is in settings, records and nodes; `summary` is one line for people.
    - `open` returns the backend and starts nothing: one with workers is a `LazyBackend`.
    - `settings` are the names of the settings that it reads.
    - `missing`, if given, returns what to install or set before it can run, None if nothing.
    - `is_internal`: dspex chooses it, so that neither settings nor help texts name it.
    """

    name: str
    summary: str
    open: Callable[[BackendResources], Backend]
    settings: tuple[str, ...] = ()
    missing: Callable[[Mapping[str, Any]], str | None] | None = None
    is_internal: bool = False
