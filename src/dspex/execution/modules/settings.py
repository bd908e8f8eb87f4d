"""Validation of a predictor's model, adapter and request settings."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from dspex.error_text import shorten, suggest
from dspex.errors import DefinitionError
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.clients import LanguageModel
from dspex.execution.clients.address import credentials_of, without_credentials
from dspex.execution.clients.embedder import Embedder
from dspex.language.programs import ModulePath
from dspex.language.signatures import Signature

SETTINGS = ("temperature", "max_tokens", "top_p", "stop", "seed")
CHECKED = (*SETTINGS, "model", "adapter")  # by `setting_problem`
_RANGES = {
    "temperature": (0.0, math.inf, "a number from 0"),
    "top_p": (0.0, 1.0, "a number from 0 to 1"),
}
_WHOLE = {"max_tokens": (1, "a whole number from 1"), "seed": (0, "a whole number from 0")}


def setting_problem(slot: str, value: object) -> str:
    """Return what a slot accepts instead of `value`, or an empty text if it fits."""
    if value is None:
        return ""
    if slot in _RANGES:
        low, high, description = _RANGES[slot]
        return (
            ""
            if _is_number(value) and low <= value <= high
            else f"{description}, not {shorten(value)}"
        )
    if slot in _WHOLE:
        return _integer_problem(value, *_WHOLE[slot])
    if slot == "stop":
        fits = isinstance(value, str) or (
            isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
        )
        return "" if fits else f"a list of texts that end the reply, not {shorten(value)}"
    if slot == "adapter" and isinstance(value, str):
        return (
            "" if value in ADAPTERS else f"one of the adapters {', '.join(ADAPTERS)}, not {value!r}"
        )
    if slot in {"model", "adapter"} and isinstance(value, bool | int | float | list | Mapping):
        return (
            f"a name such as {'local/gemma3-270m' if slot == 'model' else 'chat'!r}, not "
            f"{shorten(value)}"
        )
    return ""


def _integer_problem(value: object, low: int, description: str) -> str:
    if not _is_number(value) or value < low:
        return f"{description}, not {shorten(value)}"
    if value != int(value):
        return (
            f"{description}, not {value!r}; declare an Integer, or round it: (var('a') * "
            "1.5).round()"
        )
    return ""


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def normalize_setting(slot: str, value: Any) -> Any:
    """Return a valid value as requests need it: 128.0 tokens as 128, one stop text as a list."""
    if slot in _WHOLE and isinstance(value, float) and value.is_integer():
        return int(value)
    return [value] if slot == "stop" and isinstance(value, str) else value


def described_field(slot: str) -> str:
    """Return the field in a slot such as `fields.answer.desc`, or an empty text."""
    parts = slot.split(".")
    return parts[1] if len(parts) == 3 and parts[0] == "fields" and parts[2] == "desc" else ""


def model_string(path: ModulePath, model: LanguageModel | Embedder | str) -> str:
    """Return a model or an embedder as a string to store.

    Raises:
        DefinitionError: it is a URL with credentials, which would be stored with the program.
    """
    if not isinstance(model, str):
        return model.name
    if credentials_of(model):
        raise DefinitionError(
            f"the model of {str(path)!r} is a URL with credentials, which would be stored with the "
            f"program; write {without_credentials(model)!r} and set DSPEX_API_KEY, or set the "
            "model by dspex.configure"
        )
    return model


def demos_problem(signature: Signature, value: object) -> str:
    """Return what a predictor accepts instead of these demonstrations, empty if they fit."""
    if value is None:
        return ""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return f"a list of examples, not {shorten(value)}"
    for demo in value:
        if not isinstance(demo, Mapping):
            return f"examples, each with fields by name, not {shorten(demo)}"
        if not signature.fields.keys() & demo.keys():
            hint = suggest(next(iter(demo), ""), list(signature.fields))
            return (
                f"examples with fields of the signature ({', '.join(signature.fields)}), not "
                f"{shorten(dict(demo))}.{hint}"
            )
        if misspelled := _misspelled(signature, demo):
            return f"examples with fields of the signature: {misspelled}"
    return ""


def _misspelled(signature: Signature, demo: Mapping[str, Any]) -> str:
    """Return what is wrong if a name of `demo` is nearly that of a field that it lacks.

    Other names are allowed: rows of data have further columns.
    """
    missing = [name for name in signature.fields if name not in demo]
    for name in demo:
        if name in signature.fields:
            continue
        if hint := suggest(name, missing, similarity=0.82):
            return f"{shorten(dict(demo))} has {name!r}, which is not one.{hint}"
    return ""
