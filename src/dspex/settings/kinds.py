"""Kinds of settings: what each accepts, as a parser and as JSON Schema."""

import ipaddress
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex.settings.secret import Secret

_POSTGRES = ("postgresql://", "postgres://")
_TARGET = r"[\w.]+:[\w.]+"
_NAME = r"[A-Za-z_]\w{0,63}"


@dataclass(frozen=True, slots=True)
class SettingKind:
    """Parses values of the environment or the file; `schema` describes those of the file.

    `parse` raises `InvalidValueError`. A function as `schema` is called when it is needed.
    """

    parse: Callable[[Any], Any]
    schema: Mapping[str, Any] | Callable[[], Mapping[str, Any]]

    @property
    def json_schema(self) -> Mapping[str, Any]:
        """The JSON Schema of values in the file."""
        return self.schema() if callable(self.schema) else self.schema


class InvalidValueError(ValueError):
    """A value that a setting does not accept; the message describes valid values."""


class InvalidTableError(InvalidValueError):
    """A table with wrong fields; `problems` has the path and what is wrong with each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("a table")
        self.problems = problems


class InvalidSecretError(InvalidValueError):
    """The same for a possible secret, whose value the message must not contain."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValueError("text")
    return value


def _path(value: object) -> Path:
    path = value if isinstance(value, Path) else Path(_text(value))
    try:
        return path.expanduser()
    except RuntimeError:
        raise InvalidValueError("a path; there is no such home folder") from None


def number(low: int, high: int) -> SettingKind:
    """Return the kind of whole numbers between two inclusive limits."""

    def read(value: Any) -> int:
        if isinstance(value, bool | float):  # from the file: rounding would change the setting
            raise InvalidValueError("a whole number")
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise InvalidValueError("a whole number") from None
        if not low <= number <= high:
            raise InvalidValueError(f"a number from {low} to {high}")
        return number

    return SettingKind(read, {"type": "integer", "minimum": low, "maximum": high})


def _flag(value: object) -> bool:
    flags = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if (text := str(value).lower()) not in flags:
        raise InvalidValueError("true or false")
    return flags[text]


def one_of(*choices: str) -> SettingKind:
    """Return the kind of texts that are one of `choices`."""
    return one_of_names(lambda: choices)


def one_of_names(names: Callable[[], Iterable[str]]) -> SettingKind:
    """Return the kind of texts that are one of `names()`, called when a value is read."""

    def read(value: object) -> str:
        if value not in (choices := [*names()]):
            raise InvalidValueError(f"one of {', '.join(choices)}")
        return str(value)

    return SettingKind(read, lambda: {"enum": [*names()]})


def _postgres(value: object) -> Secret:
    if not str(value).startswith(_POSTGRES):
        raise InvalidSecretError("a URL such as postgresql://user:password@host:5432/name")
    return Secret(str(value))


def _redis(value: object) -> Secret:
    from dspex.execution.clients.address import REDIS_FORMS, is_redis_url  # it loads all clients

    if not is_redis_url(str(value)):
        raise InvalidSecretError(REDIS_FORMS)
    return Secret(str(value))


def target(example: str) -> SettingKind:
    """Return the kind of names of objects in the code root, such as `example`."""

    def read(value: object) -> str:
        if not re.fullmatch(_TARGET, text := _text(value)):
            raise InvalidValueError(f"module:name, such as {example}")
        return text

    return SettingKind(read, {"type": "string", "pattern": f"^{_TARGET}$"})


def _functions(value: object) -> dict[str, str]:
    functions: Any = value
    if isinstance(value, str):
        functions = dict(
            part.strip().partition("=")[::2] for part in value.split(",") if part.strip()
        )
    if not isinstance(functions, Mapping):
        raise InvalidValueError('a table of names and functions, such as tone = "judging:tone"')
    for name in functions:
        if not re.fullmatch(_NAME, name):
            raise InvalidValueError(
                f"a name for each function that is a word of letters, digits and _, not {name!r}"
            )
    return {name: _FUNCTION.parse(function) for name, function in functions.items()}


def _media_models(value: object) -> dict[str, tuple[str, ...]]:
    models: Any = value
    if isinstance(value, str):  # a URL may have a "=", a list of media has none
        models = dict(
            part.strip().rpartition("=")[::2] for part in value.split(",") if part.strip()
        )
    if not isinstance(models, Mapping):
        raise InvalidValueError('a table of models and media, such as "ollama/x" = "vision"')
    media = {model: tuple(filter(None, str(words).split("+"))) for model, words in models.items()}
    for model, words in media.items():
        if not model or not {"vision", "audio", "documents"}.issuperset(words):
            raise InvalidValueError('models with "vision", "audio" and "documents", joined by "+"')
    return media


def _patterns(value: object) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list):
        raise InvalidValueError("a regular expression, or a list of them")
    for pattern in patterns:
        try:
            re.compile(_text(pattern))
        except re.error as error:
            raise InvalidValueError(f"a regular expression ({error})") from None
    return tuple(patterns)


def _hosts(value: object) -> str:
    text = _text(value)
    if any("/" in name or re.search(r"^[^:]*:\d+$", name) for name in text.split(",")):
        raise InvalidValueError(
            "names of hosts separated by commas, without scheme and port, such as api.example.org"
        )
    return text


def _networks(value: object) -> str:
    text = _text(value)
    for name in text.split(","):
        try:
            _ = name.strip() and ipaddress.ip_network(name.strip())
        except ValueError as error:
            raise InvalidValueError(
                f"addresses or networks separated by commas, such as 10.0.0.0/8 ({error})"
            ) from None
    return text


def _hosts_with_ports(value: object) -> str:
    text = _text(value)
    if "/" in text or "@" in text:
        raise InvalidValueError(
            "hosts separated by commas, without a scheme, such as models.example.org:8000"
        )
    return text


def _secret_key(value: object) -> Secret:
    if len(str(value)) < 32:
        raise InvalidSecretError("at least 32 characters; `openssl rand -hex 32` makes some")
    return Secret(str(value))


def _interpreter(value: object) -> str:
    """Return the absolute path; links stay, because virtual environments depend on them."""
    executable = shutil.which(str(_path(value)))
    if executable is None:
        raise InvalidValueError("a Python that can be run, such as /path/to/venv/bin/python")
    return str(Path(executable).absolute())


_STRING: Mapping[str, Any] = {"type": "string"}
_FUNCTION = target("judging:tone")
TEXT = SettingKind(_text, _STRING)
PATH = SettingKind(_path, _STRING)
FLAG = SettingKind(_flag, {"type": "boolean"})
POSTGRES = SettingKind(_postgres, {"type": "string", "pattern": "^postgres(ql)?://"})
REDIS = SettingKind(_redis, {"type": "string", "pattern": "^(rediss?|unix)://"})
HOSTS = SettingKind(_hosts, {"type": "string", "pattern": "^[^/]*$"})
HOSTS_WITH_PORTS = SettingKind(_hosts_with_ports, {"type": "string", "pattern": "^[^/@]*$"})
NETWORKS = SettingKind(_networks, _STRING)
SECRET_KEY = SettingKind(_secret_key, {"type": "string", "minLength": 32})
INTERPRETER = SettingKind(_interpreter, _STRING)
PATTERNS = SettingKind(
    _patterns,
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
)
_MEDIA = r"((vision|audio|documents)(\+(vision|audio|documents))*)?"
MEDIA_MODELS = SettingKind(
    _media_models,
    {
        "anyOf": [
            {"type": "string", "pattern": rf"^(\s*[^,]+={_MEDIA}\s*(,|$))*$"},
            {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": f"^{_MEDIA}$"},
            },
        ]
    },
)
FUNCTIONS = SettingKind(
    _functions,
    {
        "type": "object",
        "propertyNames": {"pattern": f"^{_NAME}$"},
        "additionalProperties": _FUNCTION.schema,
    },
)
