"""dspy's adapters by name."""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dspy

if TYPE_CHECKING:
    from collections.abc import Callable

ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}


def create_adapter(name: str) -> Any:
    """Return dspy's adapter of that name, with a cache for the system messages of signatures."""
    dspy_adapter = ADAPTERS[name]()
    dspy_adapter.format_system_message = _SystemMessages(dspy_adapter.format_system_message)
    return dspy_adapter


class _SystemMessages:
    """Caches texts by signature class until the contents of the signature change."""

    def __init__(self, write: "Callable[[Any], str]") -> None:
        self._write = write
        self._cache: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()

    def __deepcopy__(self, memo: "dict[int, Any]") -> "_SystemMessages":
        return self

    def __call__(self, signature: Any) -> str:
        """Return the system message."""
        shape = [
            signature.instructions,
            *(
                (name, field.annotation, field.metadata, field.json_schema_extra)
                for name, field in signature.model_fields.items()
            ),
        ]
        entry = self._cache.get(signature)
        if entry is not None and entry[0] == shape:
            return entry[1]
        text = self._write(signature)
        copied = [
            shape[0],
            *(
                (name, hint, list(marks), dict(extra or {}))
                for name, hint, marks, extra in shape[1:]
            ),
        ]
        self._cache[signature] = (copied, text)
        return text
