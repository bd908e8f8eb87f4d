"""The environment and `dspex.toml`, read once into plain values. No other room reads either.

A flag of the command line decides over the environment, the environment over `dspex.toml` in the working folder.
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

from dspex.errors import ConfigurationError, suggest

FILE = "dspex.toml"
PREFIX = "DSPEX_"
POSTGRES = ("postgresql://", "postgres://")


class Secret:
    """A text that shows itself to nobody but who calls `reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the text."""
        return self._text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that is set from outside.

    `model` is the model string for calls that name none; credentials in its URL are taken out and kept in `model_url`.
    `model_hosts` are the hosts ("host" or "host:port", with commas between them) at which every workspace of a server
    may name models by URL; anywhere else only admins of the workspace `default` may. `state_dir` holds the database;
    `cache_dir` holds what can be made again (assembled model files); `keys` maps the name of an environment variable to
    the secret in it. `secret_key` is the server's own key, for API keys and secrets; without it, a file in `state_dir`
    holds one.
    `database_url` names a PostgreSQL database; without it, the database is a file in `state_dir`.
    `domain` ("pkg.mod:NAME" in the code root) adds resources of one's own.

    Where programs run: `backend` is for programs that name none, `test_mode` answers them with made-up values instead,
    `isolation` "process" runs code programs in workers (None: a server beyond loopback does so, nothing else does).
    `workers` and `dspy_workers` are how many of each there may be at most, `worker_memory_mb` is what one may hold
    before it is replaced (0: no limit), `dspy_interpreter` is a Python that has dspy, where it is not this one.

    `job_concurrency` is how many jobs of one kind a `dspex worker` runs at once; `evaluation_limit` and
    `optimization_limit` are how many run at once in all workers together (0: no limit). A job whose code gives no
    control back for `job_stall_seconds`, or that runs longer than `job_seconds`, is ended (0: never). What
    an ended job has left beside its row is deleted after `keep_job_days` (0: never).

    Of the server: `auth` is "on", or "auto" for keys to be needed only beyond loopback; `allowed_hosts` are names, with
    commas between them, by which it may be called; `drain_seconds` is how long it at least goes on listening when it
    is asked to stop (SIGTERM), while /readyz says no; `request_*`, `page_kib`, `requests_per_minute` and `concurrency`
    are the limits of one request and of one key, in seconds, KiB and calls. There are at most `max_connections`, of one
    address `connections_per_address`, each of which may be idle for `idle_timeout` seconds. `trusted_proxies` are the
    addresses and networks, with commas between them, whose `X-Forwarded-For` is believed.

    Of what is stored: `store_inputs` false leaves inputs out of executions, `redact` ("module:function" in the code
    root) and `redact_patterns` (regular expressions; one in the environment, a list in the file) change what is stored.
    `metrics` are functions in the code root that jobs may name through an API ({"tone": "judging:tone"}; in
    the environment tone=judging:tone, with commas between several).
    A workspace may have at most `quota_executions` stored, and `quota_mib` of JSON (0: no limit).
    Executions older than `keep_days`, or beyond the newest `keep_count` of a program, are deleted (0: never).
    `log_level` "info" tells of every execution; `log_format` is "text" or "json".
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
        """Take credentials out of the model's URL: what is shown, stored and passed on has none."""
        if self.model is not None and "://" in self.model:
            from dspex.execution.clients.address import without_credentials

            shown = without_credentials(self.model)
            if shown != self.model:
                object.__setattr__(self, "model_url", Secret(self.model))
                object.__setattr__(self, "model", shown)


class _UnfitError(ValueError):
    """A value that a setting does not take; says what it does take."""


class _UnshownError(_UnfitError):
    """The same for a value that may be a secret and is not repeated."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _UnfitError("text")
    return value


def _path(value: object) -> Path:
    given = value if isinstance(value, Path) else Path(_text(value))
    try:
        return given.expanduser()
    except RuntimeError:
        raise _UnfitError("a path; there is no such home folder") from None


def _number(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:  # noqa: ANN401  # text or a TOML value
        if isinstance(value, bool | float):  # of the file: rounding it would be another setting
            raise _UnfitError("a whole number")
        try:
            made = int(value)
        except (TypeError, ValueError):
            raise _UnfitError("a whole number") from None
        if not low <= made <= high:
            raise _UnfitError(f"a number from {low} to {high}")
        return made

    return read


def _flag(value: object) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if (text := str(value).lower()) not in known:
        raise _UnfitError("true or false")
    return known[text]


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise _UnfitError(f"one of {', '.join(choices)}")
        return str(value)

    return read


def _postgres(value: object) -> Secret:
    if not str(value).startswith(POSTGRES):
        raise _UnshownError("a URL such as postgresql://user:password@host:5432/name")
    return Secret(str(value))


def _target(example: str) -> Callable[[Any], str]:
    def read(value: object) -> str:
        if not re.fullmatch(r"[\w.]+:[\w.]+", text := _text(value)):
            raise _UnfitError(f"module:name, such as {example}")
        return text

    return read


def _functions(value: object) -> dict[str, str]:
    given: Any = value
    if isinstance(value, str):
        given = dict(part.strip().partition("=")[::2] for part in value.split(",") if part.strip())
    if not isinstance(given, Mapping):
        raise _UnfitError('a table of names and functions, such as tone = "judging:tone"')
    for name in given:
        if not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
            raise _UnfitError(f"a name for each function that is a word of letters, digits and _, not {name!r}")
    return {name: _target("judging:tone")(target) for name, target in given.items()}


def _patterns(value: object) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list):
        raise _UnfitError("a regular expression, or a list of them")
    for pattern in given:
        try:
            re.compile(_text(pattern))
        except re.error as error:
            raise _UnfitError(f"a regular expression ({error})") from None
    return tuple(given)


def _hosts(value: object) -> str:
    text = _text(value)
    if any("/" in name or re.search(r"^[^:]*:\d+$", name) for name in text.split(",")):
        raise _UnfitError("names of hosts with commas between them, without scheme and port, such as api.example.org")
    return text


def _networks(value: object) -> str:
    text = _text(value)
    for name in text.split(","):
        try:
            _ = name.strip() and ipaddress.ip_network(name.strip())
        except ValueError as error:
            raise _UnfitError(f"addresses or networks with commas between them, such as 10.0.0.0/8 ({error})") from None
    return text


def _places(value: object) -> str:
    text = _text(value)
    if "/" in text or "@" in text:
        raise _UnfitError("hosts with commas between them, without a scheme, such as models.example.org:8000")
    return text


def _long(value: object) -> Secret:
    if len(str(value)) < 32:
        raise _UnshownError("at least 32 characters; `openssl rand -hex 32` makes some")
    return Secret(str(value))


def _interpreter(value: object) -> str:
    """A symbolic link is kept: a virtual environment is known by the path that it is started by."""
    found = shutil.which(str(_path(value)))
    if found is None:
        raise _UnfitError("a Python that can be run, such as /path/to/venv/bin/python")
    return str(Path(found).absolute())


_NAMES: dict[str, Callable[[Any], Any]] = {
    "model": _text,
    "model_hosts": _places,
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
    "secret_key": _long,
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
OTHERS = frozenset(
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
"""Variables that are no settings: a provider's key, the mark of a worker, and those of tests and benchmarks."""
Checks = Callable[[Settings], Iterable[tuple[str, str]]]
"""Gives (setting, problem) for values that have the right form and cannot be used."""


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
        environment: variables `DSPEX_<NAME>` and the API keys of providers; the process's own by default.
        folder: where `dspex.toml` is looked for; the working folder by default.
        flags: values from the command line, by the name of the setting; None is not given.
        checks: looks at the settings whose values have the right form; what it finds is reported with the rest.
        warn: takes a sentence for each variable `DSPEX_<NAME>` that no setting has (but for `OTHERS`); without it they
            are problems, as for servers, which must not start beside a setting that somebody misspelt.

    Raises:
        ConfigurationError: every problem at once, each with the name of its setting and where it was read. An unknown
            name in the file is one.
    """
    environment = os.environ if environment is None else environment
    file, unknown = (folder or Path()) / FILE, _unknown(environment)
    problems: list[str] = []
    for problem in unknown:
        problems.append(problem) if warn is None else warn(f"{problem} It is ignored.")
    found = _from_file(file, problems)
    places = {name: f"{name} in {file}" for name in found}
    given = [(name, environment.get(_variable(name)) or None, _variable(name)) for name in _NAMES]
    given += [(name, value, f"--{name.replace('_', '-')}") for name, value in (flags or {}).items()]
    for name, value, where in given:
        if value is not None:
            found[name], places[name] = _value(name, value, where, problems=problems), where
    keys = {name: Secret(value) for name, value in environment.items() if name.endswith("_API_KEY") and value}
    settings = Settings(**{name: value for name, value in found.items() if value is not None}, keys=keys)
    settings = _expanded(settings, environment)
    problems += [f"{places.get(name, name)}: {problem}" for name, problem in checks(settings)]
    if problems:
        raise ConfigurationError("the settings have problems:\n  " + "\n  ".join(problems), problems=problems)
    return settings


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the whole environment of a child of dspex that shall have this process's model, from whatever place."""
    text = settings.model if settings.model_url is None else settings.model_url.reveal()
    return {**os.environ, **({} if text is None else {_variable("model"): text})}


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _unknown(environment: Mapping[str, str]) -> list[str]:
    """Return a problem for each variable that looks like a setting and is none."""
    names = sorted({_variable(name) for name in _NAMES} | {"DSPEX_API_KEY"})
    ours = {name for name, value in environment.items() if value and name.startswith(PREFIX)}
    return [f"{name}: there is no such setting.{_similar(name, names)}" for name in sorted(ours - {*names} - OTHERS)]


def _similar(name: str, names: Sequence[str]) -> str:
    """Return which of `names` may be meant; the prefix that they all have makes none of them similar."""
    hint = suggest(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in names])
    return hint.replace("'", f"'{PREFIX}", 1)


def _expanded(settings: Settings, environment: Mapping[str, str]) -> Settings:
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
    found: dict[str, Any] = {}
    for name, value in data.items():
        if name in _NAMES:
            found[name] = _value(name, value, f"{name} in {file}", problems=problems)
        else:
            hint = suggest(name, list(_NAMES))
            problems.append(f"{name} in {file}: there is no such setting.{hint} Settings are: {', '.join(_NAMES)}")
    return found


def _value(name: str, value: Any, where: str, *, problems: list[str]) -> Any:  # noqa: ANN401  # text or a TOML value
    try:
        return _NAMES[name](value)
    except _UnshownError as error:
        problems.append(f"{where}: expected {error}")
        return None
    except _UnfitError as error:
        problems.append(f"{where}: expected {error}, but it is {value!r}")
        return None


def referred(reference: str) -> Secret:
    """Return the secret behind "env:NAME" or "file:/path", without the line end of a file.

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
        raise ConfigurationError(f"a secret refers to the file {where}, which cannot be read: {error}") from error
