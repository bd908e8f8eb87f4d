"""Reads the settings from the file, the environment and the command line."""

import os
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from dspex.error_text import suggest
from dspex.errors import ConfigurationError
from dspex.settings.kinds import InvalidSecretError, InvalidTableError, InvalidValueError
from dspex.settings.secret import Secret
from dspex.settings.settings import STATE_FOLDER, Settings
from dspex.settings.table import SETTINGS

FILE = "dspex.toml"
PREFIX = "DSPEX_"

OTHER_VARIABLES = frozenset(
    {
        "DSPEX_API_KEY",
        "DSPEX_WORKER_RUN",
        "DSPEX_SHARED",
        "DSPEX_DSPY_PYTHON",
        "DSPEX_BENCH_LOG",
        "DSPEX_TEST_DSPY_INTERPRETER",
        "DSPEX_TEST_EXAMPLES",
        "DSPEX_TEST_POSTGRES_URL",
        "DSPEX_TEST_SCREENSHOTS",
    }
)
"""Variables that are not settings: a key, a worker's marker, names of tests and benchmarks."""
Checks = Callable[[Settings], Iterable[tuple[str, str]]]
"""Returns (setting, problem) pairs for values that are well-formed but unusable."""


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)


def project_folder() -> Path:
    """Return the nearest folder upwards with a `dspex.toml` or a `.dspex`, else the working folder.

    The working folder is `Path()`. The home folder, those above it and the folder of temporary
    files are no projects of those who work below them.
    """
    here = Path.cwd()
    outside = {Path.home(), *Path.home().parents, Path(gettempdir()), Path(here.anchor)}
    for folder in (here, *here.parents):
        if (folder / FILE).exists() or (folder / STATE_FOLDER).is_dir():
            return Path() if folder == here else folder
        if folder.parent in outside:
            break
    return Path()


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
        folder: the folder of `dspex.toml`; by default that of the project, see `project_folder`,
            where a relative `state_dir` of the file is too.
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
    project = project_folder() if folder is None else Path()
    file, unknown = (folder or project) / FILE, _unknown(environment)
    problems: list[str] = []
    for problem in unknown:
        problems.append(problem) if warn is None else warn(problem.replace(":", " is ignored:", 1))
    values = _from_file(file, problems)
    places = {name: f"{name} in {file}" for name in values}
    if project != Path():
        values["state_dir"] = project / (values.get("state_dir") or STATE_FOLDER)
    sources = [
        (name, environment.get(_variable(name)) or None, _variable(name)) for name in SETTINGS
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
    """Return the environment of a child process that uses the models of these settings."""
    urls = {"model": settings.model_url, "embedder": settings.embedder_url}
    texts = {"model": settings.model, "embedder": settings.embedder}
    texts |= {name: secret.reveal() for name, secret in urls.items() if secret is not None}
    return {**os.environ, **{_variable(name): text for name, text in texts.items() if text}}


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _unknown(environment: Mapping[str, str]) -> list[str]:
    """Return a problem for each variable `DSPEX_<NAME>` that is unknown."""
    names = sorted({_variable(name) for name in SETTINGS} | {"DSPEX_API_KEY"})
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
        if name in SETTINGS:
            values[name] = _value(name, value, f"{name} in {file}", problems=problems)
        else:
            hint = suggest(name, list(SETTINGS))
            problems.append(
                f"{name} in {file}: there is no such setting.{hint} Settings are: "
                f"{', '.join(SETTINGS)}"
            )
    return values


def _value(name: str, value: Any, where: str, *, problems: list[str]) -> Any:
    try:
        return SETTINGS[name].kind.parse(value)
    except InvalidTableError as error:
        problems += [
            f"{where.replace(name, f'{name}.{path}', 1)}: {text}" for path, text in error.problems
        ]
        return None
    except InvalidSecretError as error:
        problems.append(f"{where}: expected {error}")
        return None
    except InvalidValueError as error:
        problems.append(f"{where}: expected {error}, but it is {value!r}")
        return None
