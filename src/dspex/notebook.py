"""How classes show themselves in notebooks, without loading HTML before a notebook asks."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_html(target: str) -> Callable[[Any], str]:
    """Return a method `_repr_html_` that calls the function "package.module:name" with its object.

    The module is imported at the first call.
    """
    module, _, name = target.partition(":")

    def _repr_html_(instance: Any) -> str:
        markup: str = getattr(import_module(module), name)(instance)
        return markup

    return _repr_html_
