"""Resolves what the settings of a program name: tools, models and embedders."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dspex.errors import ConfigurationError
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.tools import tools_named


@dataclass(frozen=True, slots=True)
class ModelNames:
    """A check for each setting that names a model; it raises `ConfigurationError`."""

    checks: Mapping[str, Callable[[str], None]]


def resolve_names(
    operations: Operations, settings: Mapping[str, Any], *, known: Collection[str]
) -> dict[str, Any]:
    """Return settings with the tools that they name, after a check of models and embedders.

    Members of a team, its single agent and the modules of an ensemble have the same settings.
    `known` are the names of the module's settings; if `tools` is one of them, all modules but teams
    need it.

    Raises:
        InvalidError: there is no such tool, or a name is not that of a model.
    """

    def resolve(part: Any, path: str) -> Any:
        if not isinstance(part, Mapping):
            return part
        for name, check in operations.services[ModelNames].checks.items():
            if isinstance(text := part.get(name), str):
                _check(check, text, f"{path}.{name}")
        if "tools" not in part or (part is settings and "tools" not in known):
            return part
        return {**part, "tools": tools_named(operations, part["tools"], f"{path}.tools")}

    place = "configuration"
    settings = dict(settings)
    if "tools" in known and "members" not in known:
        settings.setdefault("tools", None)
    settings = dict(resolve(settings, place))
    if "single" in settings:
        settings["single"] = resolve(settings["single"], f"{place}.single")
    if isinstance(members := settings.get("members"), Mapping):
        settings["members"] = {
            name: resolve(part, f"{place}.members.{name}") for name, part in members.items()
        }
    if isinstance(modules := settings.get("modules"), list):
        settings["modules"] = [
            resolve(part, f"{place}.modules[{number}]") for number, part in enumerate(modules)
        ]
    return settings


def _check(check: Callable[[str], None], text: str, path: str) -> None:
    try:
        check(text)
    except ConfigurationError as error:
        kind = path.rpartition(".")[2]
        raise invalid(
            path, text, f"a {kind}", message=error.message, constraint="definition"
        ) from error
