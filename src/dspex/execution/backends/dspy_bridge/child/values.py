"""Converts data from the parent to values of dspy's types and users' models, and back."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args, get_origin

import dspy
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from .compat import OWN_TYPES

if TYPE_CHECKING:
    from .contracts import Input

_PLAIN = (str, int, float, bool, type(None), list, dict, tuple, bytes, object)
_TURN = {"role", "content"}
Converters = dict[str, Callable[[Any], Any]]


class ValueRefusedError(ValueError):
    """A value does not fit dspy's type."""

    code = "definition"


class NotFiniteError(ValueError):
    """A program returned nan or an infinity, which would arrive as null."""

    code = "adapter"


def plain(value: Any) -> Any:
    """Return `value` as JSON-ready data like dspy; values without a JSON form become text."""
    return to_jsonable_python(value, fallback=str, inf_nan_mode="null")


def converters_for(program: Any, inputs: "Sequence[Input]") -> Converters:
    """Return the converters from inputs to models and dspy's types; plain types need none.

    An annotation of `forward` has priority over a predictor's input of the same name.
    """
    converters: Converters = {}
    signatures: dict[str, Any] = {}
    for _, predictor in program.named_predictors():
        signature = predictor.signature
        for name, field in signature.input_fields.items():
            if signatures.setdefault(name, signature) is signature:
                _put(converters, name, _converter(name, field.annotation, signature))
    default_signature = next(iter(signatures.values()), None)
    for item in inputs:
        if item.has_hint:
            converters.pop(item.name, None)
            _put(
                converters,
                item.name,
                _converter(item.name, item.hint, signatures.get(item.name, default_signature)),
            )
        if not item.is_required and not _is_json(item.default):
            converters[item.name] = _default_converter(item.default, converters.get(item.name))
    return converters


def _put(converters: Converters, name: str, converter: "Callable[[Any], Any] | None") -> None:
    if converter is not None:
        converters[name] = converter


def _is_json(value: Any) -> bool:
    """Whether a value arrives over the wire unchanged."""
    if isinstance(value, list):
        return all(_is_json(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(part) for key, part in value.items())
    return value is None or type(value) in {str, int, float, bool}


def _default_converter(
    default: Any,
    inner: "Callable[[Any], Any] | None",
) -> "Callable[[Any], Any]":
    """Return a converter that returns the default (a tuple, a model) for its JSON form."""
    json_form = plain(default)

    def convert(value: Any) -> Any:
        if value == json_form:
            return default
        return value if inner is None else inner(value)

    return convert


def convert_inputs(converters: Converters, inputs: "dict[str, Any]") -> "dict[str, Any]":
    """Return inputs as a program expects them.

    Raises:
        ValueRefusedError: an input does not fit its type.
    """
    if not converters:
        return inputs
    return {
        name: converters[name](value) if name in converters else value
        for name, value in inputs.items()
    }


def to_parent(value: Any) -> Any:
    """Return a value for the parent: dspy's types in the form of dspex, others as JSON data."""
    return plain(_outward(value))


def _converter(name: str, hint: Any, signature: Any) -> "Callable[[Any], Any] | None":
    if not _has_classes(hint):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except Exception:  # noqa: BLE001  # a type without a schema (dspy.Tool) gets the value
        return None

    def convert(value: Any) -> Any:
        try:
            return adapter.validate_python(_to_dspy_form(hint, value, signature))
        except ValidationError as error:
            raise ValueRefusedError(f"the input {name!r} does not fit {hint!r}: {error}") from error

    return convert


def _has_classes(hint: Any) -> bool:
    if parts := get_args(hint):
        if get_origin(hint) in {set, frozenset, tuple}:
            return True
        return str(get_origin(hint)) != "typing.Literal" and any(
            _has_classes(part) for part in parts
        )
    return isinstance(hint, type) and hint not in _PLAIN


def _to_dspy_form(hint: Any, value: Any, signature: Any) -> Any:
    """Return `value` with our media values in the form of dspy's types, according to `hint`."""
    for name, dspy_type in OWN_TYPES.items():
        if isinstance(hint, type) and issubclass(hint, dspy_type):
            return _turns(value, signature) if name == "History" else _INWARD[name](value)
    parts = [part for part in get_args(hint) if part is not type(None)]
    if isinstance(value, list):
        return [_to_dspy_form(_element(hint), item, signature) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        hints = {field.alias or key: field.annotation for key, field in hint.model_fields.items()}
        return {
            key: _to_dspy_form(hints.get(key, Any), item, signature) for key, item in value.items()
        }
    if get_origin(hint) is dict:
        return {key: _to_dspy_form(parts[-1], item, signature) for key, item in value.items()}
    candidates = [part for part in parts if _has_classes(part)]
    return _to_dspy_form(candidates[0], value, signature) if len(candidates) == 1 else value


def _element(hint: Any) -> Any:
    """Return the element type of a list or an optional list."""
    lists = [part for part in (hint, *get_args(hint)) if get_origin(part) in {list, tuple, set}]
    return get_args(lists[0])[0] if lists else Any


def _turns(value: Any, signature: Any) -> Any:
    """Return a history in dspy's form: the input and output fields of each exchange.

    A turn of plain text is the first input or the last output. A history in dspy's form stays as it
    is.
    """
    turns = value.get("messages", []) if isinstance(value, dict) else value
    if not isinstance(turns, list) or not all(
        isinstance(item, dict) and item.keys() == {"role", "content"} for item in turns
    ):
        return value
    fields = signature.input_fields.items()
    inputs = [name for name, field in fields if field.annotation is not OWN_TYPES["History"]]
    default_names = {"user": inputs[:1], "assistant": list(signature.output_fields)[-1:]}
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if not (names := default_names.get(turn["role"])):
            raise ValueRefusedError(
                f"dspy's history supports turns of user and assistant, not of {turn['role']!r}"
            )
        content = (
            turn["content"] if isinstance(turn["content"], dict) else {names[0]: turn["content"]}
        )
        if turn["role"] == "assistant" and messages and not content.keys() & messages[-1].keys():
            messages[-1].update(content)
        else:
            messages.append(dict(content))
    return {"messages": messages}


def _url(value: Any) -> Any:
    return {"url": value["url"]} if isinstance(value, dict) and "url" in value else value


def _audio(value: Any) -> Any:
    if not isinstance(value, dict) or "url" not in value:
        return value
    kind, mark, data = value["url"].partition(";base64,")
    if not mark or not kind.startswith("data:audio/"):
        raise ValueRefusedError(
            "dspy's audio needs the recording itself: give it as data:audio/wav;base64,..."
        )
    return {"data": data, "audio_format": kind.removeprefix("data:audio/")}


def _file(value: Any) -> Any:
    if not isinstance(value, dict) or "url" not in value:
        return value
    if not value["url"].startswith("data:"):
        raise ValueRefusedError(
            "dspy's file needs the bytes themselves: give a URL of the form data:TYPE;base64,..."
        )
    return {"file_data": value["url"], "filename": value.get("name")}


def _code(value: Any) -> Any:
    return {"code": value["text"]} if isinstance(value, dict) and "text" in value else value


def _calls(value: Any) -> Any:
    if not isinstance(value, dict) or "calls" not in value:
        return value
    return {
        "tool_calls": [
            {"name": call["name"], "args": call.get("arguments", {})} for call in value["calls"]
        ]
    }


_INWARD: "dict[str, Callable[[Any], Any]]" = {
    "Image": _url,
    "Audio": _audio,
    "File": _file,
    "Code": _code,
    "ToolCalls": _calls,
    "Reasoning": lambda value: {"content": value} if isinstance(value, str) else value,
}


def _outward(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {key: _outward(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_outward(item) for item in value]
    if isinstance(value, dspy.Example):
        return {key: _outward(item) for key, item in value.items()}
    if not isinstance(value, BaseModel):
        return value
    for name, dspy_type in OWN_TYPES.items():
        if isinstance(value, dspy_type):
            return _OUTWARD[name](value)
    members = {
        field.alias or key: getattr(value, key, None)
        for key, field in type(value).model_fields.items()
    }
    data = to_jsonable_python(value, fallback=str)
    if isinstance(data, dict):
        data |= {
            key: _outward(item) for key, item in members.items() if key in data and _holds_own(item)
        }
    return data


def _holds_own(value: Any) -> bool:
    if isinstance(value, BaseModel):
        dspy_types = tuple(OWN_TYPES.values())
        return isinstance(value, dspy_types) or any(
            _holds_own(getattr(value, key, None)) for key in type(value).model_fields
        )
    parts = (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else ()
    )
    return any(_holds_own(part) for part in parts)


def _file_data(value: Any) -> "dict[str, Any]":
    return {"url": value.file_data or f"file:{value.file_id}", "name": value.filename}


_OUTWARD: "dict[str, Callable[[Any], Any]]" = {
    "History": lambda value: {"messages": value.messages},
    "Image": lambda value: {"url": value.url},
    "Audio": lambda value: {"url": f"data:audio/{value.audio_format};base64,{value.data}"},
    "File": _file_data,
    # the language of the plain Code class is only dspy's default
    "Code": lambda value: {
        "text": value.code,
        "language": None if type(value) is OWN_TYPES["Code"] else value.language,
    },
    "ToolCalls": lambda value: {
        "calls": [{"name": one.name, "arguments": one.args or {}} for one in value.tool_calls]
    },
    "Reasoning": lambda value: value.content,
}


def prediction_of(program: Any, answer: Any) -> "dict[str, Any]":
    """Return the fields of a program's prediction.

    Raises:
        ValueRefusedError: its `forward` did not return a prediction.
        NotFiniteError: the prediction holds a number that is not finite.
    """
    if not isinstance(answer, dspy.Example | dict):  # dspy's predictions are examples too
        name = "forward" if program is None else f"{type(program).__name__}.forward"
        raise ValueRefusedError(
            f"{name} returned {type(answer).__name__}, not a prediction: "
            "return dspy.Prediction(answer=...) with its outputs"
        )
    outputs: dict[str, Any] = to_jsonable_python(_outward(dict(answer.items())), fallback=str)
    _check_finite(outputs, "")
    return outputs


def _check_finite(value: Any, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise NotFiniteError(
            f"the program returned a value that JSON cannot represent ({path.lstrip('.')}: "
            f"{value!r})"
        )
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        _check_finite(part, f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]")
