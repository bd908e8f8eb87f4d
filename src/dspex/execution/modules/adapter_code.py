"""Adapters of users, loaded from a code root."""

from collections.abc import Mapping

from dspex.errors import ConfigurationError
from dspex.execution.adapters.registry import ADAPTERS, register_adapter
from dspex.execution.modules.code import CodeRoot


def load_adapter(name: str, target: str, code: CodeRoot | None) -> None:
    """Import and register the adapter, a class or an object, behind an import path.

    Raises:
        ConfigurationError: code is not loaded here, or the adapter is invalid or has another name.
        DefinitionError: the code root does not have it.
    """
    if code is None:
        raise ConfigurationError(
            f"the adapter {name!r} is code ({target}), and code is not loaded here"
        )
    adapter = register_adapter(code.load(target))
    if adapter.name != name:
        raise ConfigurationError(
            f"the adapter {target} is named {adapter.name!r}, not {name!r}: use one name for both"
        )


def load_adapters(targets: Mapping[str, str], code: CodeRoot | None) -> None:
    """Load and register several adapters, except those that are registered; see `load_adapter`."""
    for name, target in targets.items():
        if name not in ADAPTERS:
            load_adapter(name, target, code)
