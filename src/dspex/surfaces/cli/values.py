"""Inputs from `field=value` arguments."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dspex.errors import InvalidError
from dspex.execution.adapters.media import is_media
from dspex.language.records.media_types import media_type_of
from dspex.language.signatures import Field, Signature, Type
from dspex.language.signatures.content import data_uri, read_media
from dspex.surfaces.cli.files import read_text_file


def parse_inputs(
    arguments: Sequence[str], signature: Signature, *, file: Path | None = None
) -> dict[str, Any]:
    """Return inputs by field name.

    In `field=value`, the value is text for a text field and JSON for any other; `field=@path`
    reads a file and `field=-` the standard input. For a picture, recording or file, or a list of
    them, `field=@path` is the file itself. Arguments override the values in `file`, a JSON object.

    Raises:
        InvalidError: an argument lacks `=`, or a file cannot be read.
        MediaError: the file of a picture, recording or file cannot be read or is too large.
    """
    return parse_fields(arguments, signature.input_fields, file=file)


def parse_fields(
    arguments: Sequence[str], fields: Mapping[str, Field], *, file: Path | None = None
) -> dict[str, Any]:
    """Return values by field name; see `parse_inputs`.

    Raises:
        InvalidError: an argument lacks `=`, or a file cannot be read.
        MediaError: the file of a picture, recording or file cannot be read or is too large.
    """
    values: dict[str, Any] = _read_object(file) if file is not None else {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise InvalidError(
                f"expected field=value, but got {argument!r}; fields are: {', '.join(fields)}"
            )
        field = fields.get(name)
        type_ = None if field is None else field.type
        if type_ is not None and text.startswith("@") and _is_media(type_):
            values[name] = _media(name, Path(text[1:]), is_list=type_.kind == "list")
        else:
            values[name] = parse_value(_content(text), type_)
    return values


def _is_media(type_: Type) -> bool:
    return is_media(type_.args[0] if type_.kind == "list" and type_.args else type_)


def _media(field: str, path: Path, *, is_list: bool) -> Any:
    """Return the JSON form of a file, or a list with it."""
    data = read_media(path, field=field)
    media_type = media_type_of(data, path.name) or "application/octet-stream"
    value = {"url": data_uri(data, media_type), "media_type": media_type, "name": path.name}
    return [value] if is_list else value


def parse_value(text: str, type_: Type | None) -> Any:
    """Return the value of a text; of a type "any or text", only `[` and `{` start JSON."""
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
