"""The registry of adapters. A new adapter is a file, and a line here; users register theirs."""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dspex.errors import ConfigurationError
from dspex.execution.adapters.adapter import Adapter
from dspex.execution.adapters.chat import ChatAdapter
from dspex.execution.adapters.json import JSONAdapter
from dspex.execution.adapters.tools import ToolAdapter
from dspex.execution.adapters.xml import XMLAdapter

T = TypeVar("T", bound=Any)
_NAME = re.compile(r"[A-Za-z][\w.-]{0,63}")


class AdapterRegistry(Mapping[str, Adapter]):
    """The adapters of this process by name: those of dspex and those of users. Safe to share."""

    def __init__(self, adapters: Iterable[Adapter]) -> None:
        self._builtin: dict[str, Adapter] = {adapter.name: adapter for adapter in adapters}
        self._custom: dict[str, tuple[Adapter, str]] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Adapter:
        return self._builtin[name] if name in self._builtin else self._custom[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._builtin, *self._custom])

    def __len__(self) -> int:
        return len(self._builtin) + len(self._custom)

    def register(self, adapter: Adapter, target: str) -> None:
        """Add an adapter of a user; `target` is the import path of its class or of itself.

        Raises:
            ConfigurationError: another adapter has its name.
        """
        name = adapter.name
        with self._lock:
            before = self._custom.get(name)
            if name in self._builtin or (before is not None and before[1] != target):
                owner = "dspex" if before is None else before[1]
                raise ConfigurationError(
                    f"the adapter {target} is named {name!r}, which is the adapter of {owner}; "
                    "give it another `name`"
                )
            self._custom[name] = (adapter, target)

    def is_builtin(self, adapter: Adapter) -> bool:
        """Return whether an adapter is one of dspex."""
        return self._builtin.get(adapter.name) is adapter

    def holds(self, adapter: Adapter) -> bool:
        """Whether an adapter is registered, so that its name is enough to store it."""
        entry = self.get(adapter.name)
        is_equal = entry is not None and (
            target_of(entry) == target_of(adapter)
            and getattr(entry, "__dict__", None) == getattr(adapter, "__dict__", None)
        )
        return entry is adapter or is_equal

    def targets(self, text: str) -> dict[str, str]:
        """Return the import paths of the users' adapters whose names are in JSON text."""
        return {name: target for name, (_, target) in self._custom.items() if f'"{name}"' in text}


CHAT = ChatAdapter()
JSON = JSONAdapter()
ADAPTERS = AdapterRegistry(
    (
        CHAT,
        JSON,
        ToolAdapter(),
        XMLAdapter(),
    )
)


def target_of(adapter: object) -> str:
    """Return the import path of the class of an adapter."""
    return f"{type(adapter).__module__}:{type(adapter).__qualname__}"


def register_adapter(adapter: T) -> T:
    """Register an adapter under its `name`, and return it; also a decorator of classes.

    Programs that use it can then be stored, since a name is enough to find it; `adapter="name"`
    works wherever an adapter is named. Other processes register it in the same way: by importing
    the module that does it, or by `[adapters]` in dspex.toml.

    Raises:
        ConfigurationError: it lacks a part of `Adapter`, or another adapter has its name.
    """
    instance = adapter() if isinstance(adapter, type) else adapter
    name = getattr(instance, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the adapter {target_of(instance)} needs a `name` of letters, digits, '_', '-' and "
            f"'.', not {name!r}"
        )
    for method in ("render", "parse"):
        if not callable(getattr(instance, method, None)):
            raise ConfigurationError(
                f"the adapter {target_of(instance)} has no method `{method}`; see "
                "dspex.adapters.Adapter"
            )
    ADAPTERS.register(instance, target_of(instance))
    return adapter


def find_adapter(adapter: Adapter | str | None) -> Adapter | None:
    """Return the adapter with a name, such as "chat"; pass adapters and None through.

    Raises:
        ConfigurationError: no adapter has this name.
    """
    if not isinstance(adapter, str):
        return adapter
    if adapter not in ADAPTERS:
        raise ConfigurationError(
            f"unknown adapter {adapter!r}; adapters are: {', '.join(ADAPTERS)}. Register yours "
            "with dspex.adapters.register_adapter, or under [adapters] in dspex.toml: "
            f'{adapter if _NAME.fullmatch(adapter) else "name"} = "app:YourAdapter"'
        )
    return ADAPTERS[adapter]
