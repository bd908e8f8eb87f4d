"""Convert the text that a model wrote into the values that field validators take."""

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dspex.execution.adapters.choices import Choices, choice_reader, choices_in
from dspex.language.signatures import Type
from dspex.language.signatures.builtin import SHORTHAND, expand

Reader = Callable[[str], Any]
_decode = msgspec.json.Decoder().decode
_TEXT = {"str", "prompt_template", "binary"}
_CLASSES: Mapping[str, tuple[type, ...]] = {
    "int": (int, float), "float": (int, float), "bool": (bool,),
    "list": (list,), "tuple": (list,), "dict": (dict,),
    "none": (), "atom": (), "any": (dict, list, int, float, bool),
}  # fmt: skip
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)
_ITEM = re.compile(r"[ \t]*(?:\d{1,3}[.)]|[-*\u2022])[ \t]+")
_LITERAL_STARTS = frozenset("[{'\"TFN")
_LONGEST_LITERAL = 100_000


def takes_text(type_: Type) -> bool:
    """Whether any text is already a value of `type_`, so that it must not be parsed."""
    if type_.kind == "any" and (schema := type_.constraint("schema")) is not None:
        return bool(schema.get("type") == "string")
    return type_.kind in _TEXT or (
        type_.kind == "union" and any(takes_text(arg) for arg in type_.args)
    )


def reader_of(type_: Type) -> Reader:
    """Return a function from the text of one field to the value that its validator takes."""
    choices = choices_in(type_)
    if type_.kind == "atom":
        return choices[0].read
    if type_.kind in _TEXT or (type_.kind == "any" and takes_text(type_)):
        return str.strip
    if type_.kind == "any":
        return _free_value
    is_optional, keeps_text = type_.is_optional, takes_text(type_)
    is_text_list = _holds_texts(type_)
    choice, is_object, classes = (
        choice_reader(choices),
        holds_object(type_),
        _classes_beside_text(type_),
    )

    def read(text: str) -> Any:
        if choices and (match := choice(text))[0]:
            return match[1]
        text = text.strip()
        if is_optional and text.lower() in {"", "null", "none"}:
            return None
        try:
            value = _decode(text)
        except (ValueError, RecursionError):
            value = text if keeps_text else _repaired(text)
            if is_text_list and isinstance(value, str):
                value = listed_texts(value) or value
        if keeps_text and not isinstance(value, classes):
            return text  # no member of the union takes JSON of this class: keep the text
        return only_object(value) if is_object else value

    return read


def _holds_texts(type_: Type) -> bool:
    """Whether a value of `type_` is a list of texts, or null."""
    parts = [part for part in (type_.args if type_.kind == "union" else (type_,)) if part.args]
    return len(parts) == 1 and parts[0].kind == "list" and parts[0].args[0].kind in _TEXT


def listed_texts(text: str) -> list[str]:
    """Return the items of a list that a model numbered or marked line by line; empty if it did not.

    Further lines of an item belong to it.
    """
    items: list[str] = []
    for line in text.splitlines():
        if mark := _ITEM.match(line):
            items.append(line[mark.end() :].strip())
        elif not items and line.strip():
            return []
        elif line.strip():
            items[-1] = f"{items[-1]}\n{line.strip()}"
    return items


def _classes_beside_text(type_: Type) -> tuple[type, ...]:
    """Return the classes of JSON values that a union takes besides text."""
    parts = type_.args if type_.kind == "union" else (type_,)
    kinds = {expand(part).kind for part in parts if not takes_text(part)}
    return tuple({cls for kind in kinds for cls in _CLASSES.get(kind, (dict, list))})


def _free_value(text: str) -> Any:
    """Parse text for a field of any type: JSON, also in a code fence, or a Python literal."""
    text = text.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        return _decode(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        pass
    if text[:1] not in _LITERAL_STARTS or len(text) > _LONGEST_LITERAL:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, str | bool | list | dict | None) else text


def fit_of(type_: Type) -> Callable[[Any], Any] | None:
    """Return a function from a field of a JSON reply to the input of its validator.

    None if no conversion is needed. The function accepts an object or a list that a model wrote as
    text inside JSON, and other JSON values where the field is text.
    """
    if type_.kind == "atom":
        return Choices(type_).fit
    parts = type_.args if type_.kind == "union" else (type_,)
    if all(part.kind in {"str", "prompt_template", "none"} for part in parts):
        return _text_in_json
    reader = None if takes_text(type_) else reader_of(type_)
    is_object = holds_object(type_)
    if reader is None and not is_object:
        return None

    def fit(value: Any) -> Any:
        if isinstance(value, str):
            return value if reader is None else reader(value)
        return only_object(value) if is_object else value

    return fit


def _text_in_json(value: Any) -> Any:
    return (
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )


def holds_object(type_: Type) -> bool:
    """Whether a value of `type_` is an object and cannot be a list."""
    kinds = {expand(part).kind for part in (type_.args if type_.kind == "union" else (type_,))}
    return (
        bool(kinds & {"object", "dict"})
        and not kinds & {"list", "tuple", "any", "ref"}
        and not _is_listed(type_)
    )


def _is_listed(type_: Type) -> bool:
    parts = type_.args if type_.kind == "union" else (type_,)
    return any(part.kind in SHORTHAND for part in parts)  # some of these have a list as short form


def only_object(value: Any) -> Any:
    """Unwrap a list that holds a single object: some models wrap every answer."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return value[0]
    return value


def _repaired(text: str) -> Any:
    """Repair broken JSON, or return the text, for which the validator then reports an error."""
    if not text.startswith(("{", "[", "```")):
        return {"True": True, "False": False}.get(text, text)
    return repair(text)


def repair(text: str) -> Any:
    """Repair broken JSON (brackets, single quotes, code fences); slow, so parse strictly first."""
    from json_repair import repair_json

    try:
        return repair_json(text, return_objects=True, skip_json_loads=True)
    except (RecursionError, ValueError, IndexError):  # raised for text beyond repair
        return text
