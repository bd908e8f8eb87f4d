"""The registry of adapters. A new adapter is a file, and a line here."""

from collections.abc import Mapping

from dspex.errors import ConfigurationError
from dspex.execution.adapters.adapter import Adapter
from dspex.execution.adapters.chat import ChatAdapter
from dspex.execution.adapters.json import JSONAdapter
from dspex.execution.adapters.tools import ToolAdapter
from dspex.execution.adapters.xml import XMLAdapter

CHAT = ChatAdapter()
JSON = JSONAdapter()
ADAPTERS: Mapping[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        CHAT,
        JSON,
        ToolAdapter(),
        XMLAdapter(),
    )
}


def find_adapter(adapter: Adapter | str | None) -> Adapter | None:
    """Return the adapter with a name, such as "chat"; pass adapters and None through.

    Raises:
        ConfigurationError: no adapter has this name.
    """
    if not isinstance(adapter, str):
        return adapter
    if adapter not in ADAPTERS:
        raise ConfigurationError(
            f"unknown adapter {adapter!r}; adapters are: {', '.join(ADAPTERS)}"
        )
    return ADAPTERS[adapter]
