"""From `field=value` arguments to inputs."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dspex.errors import InvalidError
from dspex.language.signatures import Signature, Type
from dspex.surfaces.cli.files import file_text


def inputs_of(arguments: Sequence[str], signature: Signature, *, file: Path | None = None) -> dict[str, Any]:
    """Return inputs by field name.

    `field=value` takes the text for a text field, and JSON for every other; `field=@path` reads a file, `field=-` the
    standard input. Values beside a `file` (a JSON object) decide over those in it.

    Raises:
        InvalidError: an argument has no `=`, or a file cannot be read.
    """
    found: dict[str, Any] = _object(file) if file is not None else {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise InvalidError(
                f"expected field=value, but got {argument!r}; fields are: {', '.join(signature.input_fields)}"
            )
        field = signature.input_fields.get(name)
        found[name] = _read(_content(text), None if field is None else field.type)
    return found


def _read(text: str, type_: Type | None) -> Any:  # noqa: ANN401  # any JSON value
    """Return the text of an argument as a value; what may be any value but is a text by default, as far as it shows."""
    if type_ is None or _is_text(type_):
        return text
    kinds = {part.kind for part in type_.args} if type_.kind == "union" else set()
    if {"str", "any"} <= kinds and text[:1] not in {"[", "{"}:
        return text
    return _json_or_text(text)


def _is_text(type_: Type) -> bool:
    """Whether every value is a text; a choice may hold numbers."""
    return type_.kind == "str" or (
        type_.kind == "atom" and all(isinstance(value, str) for value in type_.constraint("one_of"))
    )


def _content(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    return file_text(Path(text[1:]))


def _json_or_text(text: str) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise InvalidError("lists and objects in it are nested too deeply") from None


def _object(file: Path) -> dict[str, Any]:
    found = _json_or_text(_content(f"@{file}"))
    if not isinstance(found, Mapping):
        raise InvalidError(f"{str(file)!r} does not hold a JSON object of inputs")
    return dict(found)
