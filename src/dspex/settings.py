"""The environment and `dspex.toml`, read once into plain values. No other module reads them.

Command-line flags override the environment, which overrides `dspex.toml` in the working folder.
"""

import ipaddress
import os
import re
import shutil
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex.error_text import suggest
from dspex.errors import ConfigurationError

FILE = "dspex.toml"
PREFIX = "DSPEX_"
POSTGRES = ("postgresql://", "postgres://")


class Secret:
    """A text that is hidden in `repr` and is returned by `reveal` only."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, value: object) -> bool:
        return isinstance(value, Secret) and self._text == value._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the text."""
        return self._text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process.

    `model` is the default model string; credentials in its URL are moved to `model_url`.
    `model_hosts` are the hosts ("host" or "host:port", separated by commas) where every workspace
    of a server may use models by URL; at other hosts only admins of the workspace `default` may.
    `state_dir` contains the database; `cache_dir` contains files that can be recreated (assembled
    model files). `keys` maps the names of environment variables to their secrets. `secret_key` is
    the key of the server for API keys and secrets; by default it is in a file in `state_dir`.
    `database_url` names a PostgreSQL database; by default the database is a file in `state_dir`.
    `domain` ("pkg.mod:NAME" in the code root) adds custom resources.

    Where programs run: `backend` is the default backend, `test_mode` returns made-up values,
    `isolation` "process" runs code programs in workers (None: only servers beyond loopback do so).
    `workers` and `dspy_workers` are the maximum numbers of workers, `worker_memory_mb` is the
    memory at which a worker is replaced (0: no limit), `dspy_interpreter` is a Python with dspy, if
    not this one.

    `job_concurrency` is how many jobs of one kind a `dspex worker` runs at once; `evaluation_limit`
    and `optimization_limit` are the limits of all workers together (0: no limit). A job is stopped
    if its code blocks for `job_stall_seconds` or it runs longer than `job_seconds` (0: never). The
    data of an ended job, except its row, is deleted after `keep_job_days` (0: never).

    Of the server: `auth` is "on", or "auto" to require keys only beyond loopback; `allowed_hosts`
    are accepted host names, separated by commas; `drain_seconds` is how long it keeps listening at
    least after SIGTERM, while /readyz reports that it stops; `request_*`, `page_kib`,
    `requests_per_minute` and `concurrency` are the limits of a request and a key, in seconds, KiB
    and calls. `max_connections` limits all connections, `connections_per_address` those of an
    address, and `idle_timeout` their idle time in seconds. `trusted_proxies` are the addresses and
    networks, separated by commas, whose `X-Forwarded-For` is trusted.

    Of stored data: `store_inputs` false leaves inputs out of executions; `redact`
    ("module:function" in the code root) and `redact_patterns` (regular expressions; one in the
    environment, a list in the file) redact stored values. `metrics` are functions in the code root
    that jobs may use through the API ({"tone": "judging:tone"}; in the environment
    tone=judging:tone, separated by commas). A workspace may store at most `quota_executions` and
    `quota_mib` of JSON (0: no limit). Executions older than `keep_days`, or beyond the newest
    `keep_count` of a program, are deleted (0: never). `log_level` "info" logs every execution;
    `log_format` is "text" or "json".
    """

    model: str | None = None
    model_url: Secret | None = None
    model_hosts: str = ""
    adapter: str | None = None
    database_url: Secret | None = None
    domain: str | None = None
    state_dir: Path = Path(".dspex")
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
    worker_memory_mb: int = 0
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
    keep_days: int = 0
    keep_count: int = 0
    quota_executions: int = 0
    quota_mib: int = 0
    log_level: str = "warning"
    log_format: str = "text"

    def __post_init__(self) -> None:
        """Remove credentials from the model's URL, so that they are not shown, stored or forwarded."""
        if self.model is not None and "://" in self.model:
            from dspex.execution.clients.address import without_credentials

            model = without_credentials(self.model)
            if model != self.model:
                object.__setattr__(self, "model_url", Secret(self.model))
                object.__setattr__(self, "model", model)


class _InvalidValueError(ValueError):
    """A value that a setting does not accept; the message describes valid values."""


class _InvalidSecretError(_InvalidValueError):
    """The same for a possible secret, whose value the message must not contain."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _InvalidValueError("text")
    return value


def _path(value: object) -> Path:
    path = value if isinstance(value, Path) else Path(_text(value))
    try:
        return path.expanduser()
    except RuntimeError:
        raise _InvalidValueError("a path; there is no such home folder") from None


def _number(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool | float):  # from the file: rounding would change the setting
            raise _InvalidValueError("a whole number")
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise _InvalidValueError("a whole number") from None
        if not low <= number <= high:
            raise _InvalidValueError(f"a number from {low} to {high}")
        return number

    return read


def _flag(value: object) -> bool:
    flags = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if (text := str(value).lower()) not in flags:
        raise _InvalidValueError("true or false")
    return flags[text]


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise _InvalidValueError(f"one of {', '.join(choices)}")
        return str(value)

    return read


def _postgres(value: object) -> Secret:
    if not str(value).startswith(POSTGRES):
        raise _InvalidSecretError("a URL such as postgresql://user:password@host:5432/name")
    return Secret(str(value))


def _target(example: str) -> Callable[[Any], str]:
    def read(value: object) -> str:
        if not re.fullmatch(r"[\w.]+:[\w.]+", text := _text(value)):
            raise _InvalidValueError(f"module:name, such as {example}")
        return text

    return read


def _functions(value: object) -> dict[str, str]:
    functions: Any = value
    if isinstance(value, str):
        functions = dict(
            part.strip().partition("=")[::2] for part in value.split(",") if part.strip()
        )
    if not isinstance(functions, Mapping):
        raise _InvalidValueError('a table of names and functions, such as tone = "judging:tone"')
    for name in functions:
        if not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
            raise _InvalidValueError(
                f"a name for each function that is a word of letters, digits and _, not {name!r}"
            )
    return {name: _target("judging:tone")(target) for name, target in functions.items()}


def _patterns(value: object) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list):
        raise _InvalidValueError("a regular expression, or a list of them")
    for pattern in patterns:
        try:
            re.compile(_text(pattern))
        except re.error as error:
            raise _InvalidValueError(f"a regular expression ({error})") from None
    return tuple(patterns)


def _hosts(value: object) -> str:
    text = _text(value)
    if any("/" in name or re.search(r"^[^:]*:\d+$", name) for name in text.split(",")):
        raise _InvalidValueError(
            "names of hosts separated by commas, without scheme and port, such as api.example.org"
        )
    return text


def _networks(value: object) -> str:
    text = _text(value)
    for name in text.split(","):
        try:
            _ = name.strip() and ipaddress.ip_network(name.strip())
        except ValueError as error:
            raise _InvalidValueError(
                f"addresses or networks separated by commas, such as 10.0.0.0/8 ({error})"
            ) from None
    return text


def _hosts_with_ports(value: object) -> str:
    text = _text(value)
    if "/" in text or "@" in text:
        raise _InvalidValueError(
            "hosts separated by commas, without a scheme, such as models.example.org:8000"
        )
    return text


def _secret_key(value: object) -> Secret:
    if len(str(value)) < 32:
        raise _InvalidSecretError("at least 32 characters; `openssl rand -hex 32` makes some")
    return Secret(str(value))


def _interpreter(value: object) -> str:
    """Return the absolute path; symbolic links stay, because virtual environments depend on them."""
    executable = shutil.which(str(_path(value)))
    if executable is None:
        raise _InvalidValueError("a Python that can be run, such as /path/to/venv/bin/python")
    return str(Path(executable).absolute())


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "model": _text,
    "model_hosts": _hosts_with_ports,
    "adapter": _text,
    "database_url": _postgres,
    "domain": _target("tickets:DOMAIN"),
    "state_dir": _path,
    "cache_dir": _path,
    "host": _text,
    "port": _number(0, 65535),
    "threads": _number(0, 65535),
    "backend": _one_of("native", "isolated", "dspy", "mock"),
    "test_mode": _flag,
    "isolation": _one_of("inline", "process"),
    "dspy_interpreter": _interpreter,
    "workers": _number(1, 256),
    "dspy_workers": _number(1, 256),
    "worker_memory_mb": _number(0, 1 << 20),
    "job_concurrency": _number(1, 256),
    "evaluation_limit": _number(0, 1 << 16),
    "optimization_limit": _number(0, 1 << 16),
    "job_stall_seconds": _number(0, 86_400),
    "job_seconds": _number(0, 31_536_000),
    "keep_job_days": _number(0, 36_500),
    "secret_key": _secret_key,
    "auth": _one_of("auto", "on"),
    "allowed_hosts": _hosts,
    "request_timeout": _number(1, 86_400),
    "drain_seconds": _number(0, 3600),
    "request_kib": _number(1, 1 << 20),
    "page_kib": _number(1, 1 << 20),
    "requests_per_minute": _number(1, 1 << 30),
    "concurrency": _number(1, 1 << 20),
    "max_connections": _number(16, 1 << 20),
    "connections_per_address": _number(1, 1 << 20),
    "idle_timeout": _number(1, 86_400),
    "trusted_proxies": _networks,
    "store_inputs": _flag,
    "redact": _target("privacy:redact"),
    "redact_patterns": _patterns,
    "metrics": _functions,
    "keep_days": _number(0, 100_000),
    "keep_count": _number(0, 1_000_000_000),
    "quota_executions": _number(0, 1_000_000_000),
    "quota_mib": _number(0, 1_000_000_000),
    "log_level": _one_of("debug", "info", "warning", "error"),
    "log_format": _one_of("text", "json"),
}
OTHER_VARIABLES = frozenset(
    {
        "DSPEX_API_KEY",
        "DSPEX_WORKER_RUN",
        "DSPEX_SHARED",
        "DSPEX_DSPY_PYTHON",
        "DSPEX_BENCH_LOG",
        "DSPEX_TEST_DSPY_INTERPRETER",
        "DSPEX_TEST_POSTGRES_URL",
    }
)
"""Variables that are not settings: a key, the marker of a worker, and names of tests and benchmarks."""
Checks = Callable[[Settings], Iterable[tuple[str, str]]]
"""Returns (setting, problem) pairs for values that are well-formed but unusable."""


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)


def read_settings(
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    checks: Checks = lambda _settings: (),
    warn: Callable[[str], None] | None = _warn,
) -> Settings:
    """Return the settings of this process.

    Args:
        environment: variables `DSPEX_<NAME>` and the API keys of providers; `os.environ` by
            default.
        folder: the folder of `dspex.toml`; the working folder by default.
        flags: values from the command line, by the name of the setting; None means absent.
        checks: checks well-formed settings; its problems are reported with the others.
        warn: receives a sentence for each unknown variable `DSPEX_<NAME>` (not in
            `OTHER_VARIABLES`). If None, they are problems: a server must not start with a
            misspelt setting.

    Raises:
        ConfigurationError: lists all problems with setting and source, including unknown names in
            the file.
    """
    environment = os.environ if environment is None else environment
    file, unknown = (folder or Path()) / FILE, _unknown(environment)
    problems: list[str] = []
    for problem in unknown:
        problems.append(problem) if warn is None else warn(problem.replace(":", " is ignored:", 1))
    values = _from_file(file, problems)
    places = {name: f"{name} in {file}" for name in values}
    sources = [
        (name, environment.get(_variable(name)) or None, _variable(name)) for name in _PARSERS
    ]
    sources += [
        (name, value, f"--{name.replace('_', '-')}") for name, value in (flags or {}).items()
    ]
    for name, value, where in sources:
        if value is not None:
            values[name], places[name] = _value(name, value, where, problems=problems), where
    keys = {
        name: Secret(value)
        for name, value in environment.items()
        if name.endswith("_API_KEY") and value
    }
    settings = Settings(
        **{name: value for name, value in values.items() if value is not None}, keys=keys
    )
    settings = _expand_cache_dir(settings, environment)
    problems += [f"{places.get(name, name)}: {problem}" for name, problem in checks(settings)]
    if problems:
        raise ConfigurationError(
            "the settings have problems:\n  " + "\n  ".join(problems), problems=problems
        )
    return settings


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment of a child process that uses the model of these settings."""
    text = settings.model if settings.model_url is None else settings.model_url.reveal()
    return {**os.environ, **({} if text is None else {_variable("model"): text})}


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _unknown(environment: Mapping[str, str]) -> list[str]:
    """Return a problem for each variable `DSPEX_<NAME>` that is unknown."""
    names = sorted({_variable(name) for name in _PARSERS} | {"DSPEX_API_KEY"})
    variables = {name for name, value in environment.items() if value and name.startswith(PREFIX)}
    return [
        f"{name}: there is no such setting.{_similar(name, names)}"
        for name in sorted(variables - {*names} - OTHER_VARIABLES)
    ]


def _similar(name: str, names: Sequence[str]) -> str:
    """Return a suggestion from `names`; the common prefix does not count as similarity."""
    hint = suggest(name.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in names])
    return hint.replace("'", f"'{PREFIX}", 1)


def _expand_cache_dir(settings: Settings, environment: Mapping[str, str]) -> Settings:
    from dataclasses import replace

    cache = settings.cache_dir
    if cache == Path("~/.cache/dspex"):
        base = environment.get("XDG_CACHE_HOME")
        cache = Path(base) / "dspex" if base else cache.expanduser()
    return replace(settings, cache_dir=cache)


def _from_file(file: Path, problems: list[str]) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{file}: cannot be read: {error}")
        return {}
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name in _PARSERS:
            values[name] = _value(name, value, f"{name} in {file}", problems=problems)
        else:
            hint = suggest(name, list(_PARSERS))
            problems.append(
                f"{name} in {file}: there is no such setting.{hint} Settings are: "
                f"{', '.join(_PARSERS)}"
            )
    return values


def _value(name: str, value: Any, where: str, *, problems: list[str]) -> Any:
    try:
        return _PARSERS[name](value)
    except _InvalidSecretError as error:
        problems.append(f"{where}: expected {error}")
        return None
    except _InvalidValueError as error:
        problems.append(f"{where}: expected {error}, but it is {value!r}")
        return None


def resolve_secret(reference: str) -> Secret:
    """Return the secret of a reference "env:NAME" or "file:/path", without a final line end.

    Raises:
        ConfigurationError: the variable is not set, or the file cannot be read.
    """
    kind, _, where = reference.partition(":")
    if kind == "env":
        if text := os.environ.get(where):
            return Secret(text)
        raise ConfigurationError(f"a secret refers to the variable {where}, which is not set")
    try:
        return Secret(Path(where).read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"a secret refers to the file {where}, which cannot be read: {error}"
        ) from error
