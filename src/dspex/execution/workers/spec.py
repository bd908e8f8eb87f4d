"""The settings of a worker process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex.execution.workers.wire import JSON, LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """The interpreter and the host of a worker, and its limits.

    `host` is a Python file (or package folder) with `create(config) -> host`; it is loaded by path,
    so that `interpreter` may be any Python from 3.10 on, with or without dspex. `paths` come first
    in the child's `sys.path` (a code root). `environment` is added to a clean environment: nothing
    of this process's environment reaches a child. Above `program_limit` programs, a child drops the
    least recently used ones.
    """

    host: Path
    interpreter: str
    config: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    concurrency: int = 1
    codec: int = JSON
    frame_limit: int = LIMIT
    start_seconds: float = 60.0
    shutdown_seconds: float = 2.0
    cancel_seconds: float = 0.7
    memory_limit: int | None = None
    program_limit: int = 128
    request_limit: int | None = None
