"""The settings as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex.settings.secret import Secret

STATE_FOLDER = ".dspex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process; `table.SETTINGS` describes them.

    `model_url` is the model's URL if it has credentials, which `model` lacks, and so is
    `embedder_url`. `keys` maps the names of environment variables to their secrets.
    """

    model: str | None = None
    model_url: Secret | None = None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    embedder: str | None = None
    embedder_url: Secret | None = None
    model_hosts: str = ""
    media_models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    adapter: str | None = None
    database_url: Secret | None = None
    redis_url: Secret | None = None
    domain: str | None = None
    state_dir: Path = Path(STATE_FOLDER)
    cache_dir: Path = Path("~/.cache/dspex")
    host: str = "127.0.0.1"
    port: int = 8123
    threads: int = 2
    backend: str | None = None
    test_mode: bool = False
    isolation: str | None = None
    dspy_interpreter: str | None = None
    workers: int = 2
    dspy_workers: int = 2
    dspy_concurrency: int = 4
    worker_memory_mb: int = 0
    search_memory_mib: int = 512
    job_concurrency: int = 4
    evaluation_limit: int = 0
    optimization_limit: int = 0
    job_stall_seconds: int = 60
    job_seconds: int = 0
    keep_job_days: int = 30
    keys: Mapping[str, Secret] = field(default_factory=dict)
    secret_key: Secret | None = field(default=None)
    auth: str = "auto"
    allowed_hosts: str = ""
    request_timeout: int = 300
    drain_seconds: int = 1
    request_kib: int = 4096
    page_kib: int = 16384
    requests_per_minute: int = 6000
    concurrency: int = 128
    max_connections: int = 1024
    connections_per_address: int = 512
    idle_timeout: int = 60
    trusted_proxies: str = ""
    store_inputs: bool = True
    redact: str | None = None
    redact_patterns: tuple[str, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    keep_days: int = 0
    keep_count: int = 0
    quota_executions: int = 0
    quota_mib: int = 0
    log_level: str = "warning"
    log_format: str = "text"

    def __post_init__(self) -> None:
        """Remove credentials from URLs of models, so that they are not shown or stored."""
        for name, text in (("model", self.model), ("embedder", self.embedder)):
            if text is None or "://" not in text:
                continue
            from dspex.execution.clients.address import without_credentials

            if (public := without_credentials(text)) != text:
                object.__setattr__(self, f"{name}_url", Secret(text))
                object.__setattr__(self, name, public)
