"""The table of settings, and the JSON Schema of `dspex.toml` that follows from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dspex.settings.kinds import (
    FLAG,
    FUNCTIONS,
    HOSTS,
    HOSTS_WITH_PORTS,
    INTERPRETER,
    MEDIA_MODELS,
    NETWORKS,
    PATH,
    PATTERNS,
    POSTGRES,
    REDIS,
    SECRET_KEY,
    TEXT,
    SettingKind,
    number,
    one_of,
    one_of_names,
    target,
)
from dspex.settings.model_tables import MODELS
from dspex.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its kind and its meaning."""

    kind: SettingKind
    description: str


def _backends() -> Iterable[str]:
    from dspex.execution.backends.kinds import public_kinds  # it loads all of `execution`

    return public_kinds()


SETTINGS: Mapping[str, Setting] = {
    "model": Setting(
        TEXT,
        "The default model: a model string. Credentials in its URL are neither shown nor stored.",
    ),
    "models": Setting(
        MODELS,
        "Models with a name, each a model string or a route, with wrappers: [models.NAME]. The "
        "name is accepted wherever a model string is; in the environment, JSON.",
    ),
    "embedder": Setting(
        TEXT,
        'The default embedder, such as "openai/text-embedding-3-small"; otherwise "offline".',
    ),
    "model_hosts": Setting(
        HOSTS_WITH_PORTS,
        'Hosts ("host" or "host:port", separated by commas) where every workspace of a server '
        'may use models by URL; at other hosts only admins of the workspace "default" may.',
    ),
    "media_models": Setting(
        MEDIA_MODELS,
        "What models take beside text, where dspex does not know it from their names: "
        '"MODEL=vision+audio+documents", separated by commas, or a table.',
    ),
    "adapter": Setting(
        TEXT, 'The default adapter: "chat", "json", "tools", "xml" or one of `adapters`.'
    ),
    "database_url": Setting(
        POSTGRES,
        "A PostgreSQL database; by default the database is a file in state_dir.",
    ),
    "redis_url": Setting(
        REDIS,
        'A Redis or Valkey server for models with `cache = "redis"`: what one process has asked, '
        "all know.",
    ),
    "domain": Setting(target("tickets:DOMAIN"), "Custom resources: an object in the code root."),
    "state_dir": Setting(PATH, "The folder of the database."),
    "cache_dir": Setting(
        PATH,
        "The folder of files that can be recreated, such as assembled model files.",
    ),
    "host": Setting(TEXT, "The address that the server listens on."),
    "port": Setting(number(0, 65535), "The port that the server listens on."),
    "threads": Setting(number(0, 65535), "Threads of local models."),
    "backend": Setting(
        one_of_names(_backends),
        "The default backend: where programs run.",
    ),
    "test_mode": Setting(FLAG, "Whether programs return made-up values instead of calling models."),
    "isolation": Setting(
        one_of("inline", "process"),
        '"process" runs code programs in workers; by default only servers beyond loopback do so.',
    ),
    "dspy_interpreter": Setting(INTERPRETER, "A Python with dspy, if not the one that runs dspex."),
    "workers": Setting(number(1, 256), "The maximum number of workers for code programs."),
    "dspy_workers": Setting(number(1, 256), "The maximum number of workers with dspy."),
    "dspy_concurrency": Setting(number(1, 256), "The calls that a worker with dspy runs at once."),
    "worker_memory_mb": Setting(
        number(0, 1 << 20),
        "The memory, in MB, at which a worker is replaced (0: no limit).",
    ),
    "search_memory_mib": Setting(
        number(0, 1 << 20),
        "The memory, in MiB, in which a process keeps the collections that it searches (0: none).",
    ),
    "job_concurrency": Setting(
        number(1, 256),
        "How many jobs of one kind a `dspex worker start` runs at once.",
    ),
    "evaluation_limit": Setting(
        number(0, 1 << 16),
        "The maximum number of evaluations of all workers together (0: no limit).",
    ),
    "optimization_limit": Setting(
        number(0, 1 << 16),
        "The maximum number of optimizations of all workers together (0: no limit).",
    ),
    "job_stall_seconds": Setting(
        number(0, 86_400),
        "A job is stopped if its code blocks for this many seconds (0: never).",
    ),
    "job_seconds": Setting(
        number(0, 31_536_000),
        "A job is stopped after this many seconds (0: never).",
    ),
    "keep_job_days": Setting(
        number(0, 36_500),
        "Days after which the data of an ended job, except its row, is deleted (0: never).",
    ),
    "secret_key": Setting(
        SECRET_KEY,
        "The server's key for API keys and secrets; by default it is in a file in state_dir.",
    ),
    "auth": Setting(one_of("auto", "on"), '"auto" requires keys only beyond loopback.'),
    "allowed_hosts": Setting(HOSTS, "Accepted host names, separated by commas."),
    "request_timeout": Setting(number(1, 86_400), "Seconds that a request may take."),
    "drain_seconds": Setting(
        number(0, 3600),
        "Seconds that the server keeps listening at least after SIGTERM, while /readyz "
        "reports that it stops.",
    ),
    "request_kib": Setting(number(1, 1 << 20), "The longest body of a request, in KiB."),
    "page_kib": Setting(
        number(1, 1 << 20),
        "The most that one request reads, in KiB; a page of large rows ends early.",
    ),
    "requests_per_minute": Setting(number(1, 1 << 30), "The most requests of a key in a minute."),
    "concurrency": Setting(number(1, 1 << 20), "The most requests of a key at once."),
    "max_connections": Setting(number(16, 1 << 20), "The most connections of the server."),
    "connections_per_address": Setting(number(1, 1 << 20), "The most connections of one address."),
    "idle_timeout": Setting(number(1, 86_400), "Seconds after which an idle connection is closed."),
    "trusted_proxies": Setting(
        NETWORKS,
        "Addresses and networks, separated by commas, whose X-Forwarded-For is trusted.",
    ),
    "store_inputs": Setting(FLAG, "Whether executions are stored with their inputs."),
    "redact": Setting(
        target("privacy:redact"),
        "A function in the code root that redacts stored values.",
    ),
    "redact_patterns": Setting(
        PATTERNS,
        "Regular expressions for what is redacted in stored values; one in the environment, a "
        "list in the file.",
    ),
    "metrics": Setting(
        FUNCTIONS,
        "Functions in the code root that jobs may use as metrics through the API, by name; in "
        "the environment tone=judging:tone, separated by commas.",
    ),
    "tools": Setting(
        FUNCTIONS,
        "Functions (or a Tool with its policy) in the code root that agents may use as tools "
        "through the API, by name.",
    ),
    "adapters": Setting(
        FUNCTIONS,
        "Adapters in the code root, classes or objects, by the names that they have.",
    ),
    "keep_days": Setting(number(0, 100_000), "Days after which executions are deleted (0: never)."),
    "keep_count": Setting(
        number(0, 1_000_000_000),
        "How many executions of a program are kept (0: all).",
    ),
    "quota_executions": Setting(
        number(0, 1_000_000_000),
        "The most executions that a workspace stores (0: no limit).",
    ),
    "quota_mib": Setting(
        number(0, 1_000_000_000),
        "The most JSON, in MiB, that a workspace stores (0: no limit).",
    ),
    "log_level": Setting(
        one_of("debug", "info", "warning", "error"),
        'From which level on messages are logged; "info" logs every execution.',
    ),
    "log_format": Setting(one_of("text", "json"), "The format of log lines."),
}


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `dspex.toml`, with meanings and defaults."""
    defaults = {field.name: field.default for field in fields(Settings)}
    properties = {}
    for name, setting in SETTINGS.items():
        properties[name] = {"description": setting.description, **setting.kind.json_schema}
        if isinstance(default := defaults[name], str | int | Path):
            properties[name]["default"] = str(default) if isinstance(default, Path) else default
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dspex.toml",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
