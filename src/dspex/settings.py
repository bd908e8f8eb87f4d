"""The environment and `dspex.toml`, read once into plain values. No other room reads either.

A flag of the command line decides over the environment, the environment over `dspex.toml` in the working folder.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex.errors import ConfigurationError, suggest

FILE = "dspex.toml"
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

    `model` is the model string for calls that name none; `state_dir` holds the database; `cache_dir` holds what can be
    made again (assembled model files); `keys` maps the name of an environment variable to the secret in it.
    `database_url` names a PostgreSQL database; without it, the database is a file in `state_dir`.
    """

    model: str | None = None
    adapter: str | None = None
    database_url: Secret | None = None
    state_dir: Path = Path(".dspex")
    cache_dir: Path = Path("~/.cache/dspex")
    host: str = "127.0.0.1"
    port: int = 8123
    threads: int = 2
    keys: Mapping[str, Secret] = field(default_factory=dict)


_NAMES: dict[str, type] = {
    "model": str,
    "adapter": str,
    "database_url": Secret,
    "state_dir": Path,
    "cache_dir": Path,
    "host": str,
    "port": int,
    "threads": int,
}


def read_settings(environment: Mapping[str, str] | None = None, *, folder: Path | None = None) -> Settings:
    """Return the settings of this process.

    Args:
        environment: variables `DSPEX_<NAME>` and the API keys of providers; the process's own by default.
        folder: where `dspex.toml` is looked for; the working folder by default.

    Raises:
        ConfigurationError: every problem at once, each with the name of its setting and where it was read.
    """
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    found = _from_file((folder or Path()) / FILE, problems)
    for name in _NAMES:
        if text := environment.get(f"DSPEX_{name.upper()}"):
            found[name] = _value(name, text, f"DSPEX_{name.upper()}", problems=problems)
    if problems:
        raise ConfigurationError("the settings have problems:\n  " + "\n  ".join(problems), problems=problems)
    keys = {name: Secret(value) for name, value in environment.items() if name.endswith("_API_KEY") and value}
    settings = Settings(**{name: value for name, value in found.items() if value is not None}, keys=keys)
    return _expanded(settings, environment)


def _expanded(settings: Settings, environment: Mapping[str, str]) -> Settings:
    from dataclasses import replace

    cache = settings.cache_dir
    if cache == Path("~/.cache/dspex") and (base := environment.get("XDG_CACHE_HOME")):
        cache = Path(base) / "dspex"
    return replace(settings, state_dir=settings.state_dir.expanduser(), cache_dir=cache.expanduser())


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
    wanted = _NAMES[name]
    if wanted is Secret and not str(value).startswith(POSTGRES):  # the value itself is never shown
        problems.append(f"{where}: expected a URL such as postgresql://user:password@host:5432/name")
        return None
    try:
        made = wanted(value)
    except (TypeError, ValueError):
        problems.append(f"{where}: expected {'a whole number' if wanted is int else 'text'}, but it is {value!r}")
        return None
    if wanted is int and not (0 <= made <= 65535):
        problems.append(f"{where}: expected a number from 0 to 65535, but it is {made}")
        return None
    return made
