"""Inputs from `field=value` arguments."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dspex.errors import InvalidError
from dspex.language.signatures import Signature, Type
from dspex.surfaces.cli.files import read_text_file


def parse_inputs(
    arguments: Sequence[str], signature: Signature, *, file: Path | None = None
) -> dict[str, Any]:
    """Return inputs by field name.

    In `field=value`, the value is text for a text field and JSON for any other; `field=@path`
    reads a file and `field=-` the standard input. Arguments override the values in `file`, a
    JSON object.

    Raises:
        InvalidError: an argument lacks `=`, or a file cannot be read.
    """
    inputs: dict[str, Any] = _read_object(file) if file is not None else {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise InvalidError(
                f"expected field=value, but got {argument!r}; fields are: "
                f"{', '.join(signature.input_fields)}"
            )
        field = signature.input_fields.get(name)
        inputs[name] = _parse(_content(text), None if field is None else field.type)
    return inputs


def _parse(text: str, type_: Type | None) -> Any:
    """Return the value of an argument; of a type "any or text", only `[` and `{` start JSON."""
    if type_ is None or _is_text(type_):
        return text
    kinds = {part.kind for part in type_.args} if type_.kind == "union" else set()
    if {"str", "any"} <= kinds and text[:1] not in {"[", "{"}:
        return text
    return _json_or_text(text)


def _is_text(type_: Type) -> bool:
    """Return whether every value of the type is text; a Literal may contain numbers."""
    return type_.kind == "str" or (
        type_.kind == "atom" and all(isinstance(value, str) for value in type_.constraint("one_of"))
    )


def _content(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    return read_text_file(Path(text[1:]))


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise InvalidError("lists and objects in it are nested too deeply") from None


def _read_object(file: Path) -> dict[str, Any]:
    value = _json_or_text(_content(f"@{file}"))
    if not isinstance(value, Mapping):
        raise InvalidError(f"{str(file)!r} does not contain a JSON object of inputs")
    return dict(value)
