"""Values of dspy's own types and of users' models: made from what the parent sends, and given back as data."""

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
Taking = dict[str, Callable[[Any], Any]]


class ValueRefusedError(ValueError):
    """A value cannot be what dspy's type wants."""

    code = "definition"


class NotFiniteError(ValueError):
    """A program answered nan or an infinity, which would arrive as nothing."""

    code = "adapter"


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return `value` as JSON-ready data, as dspy would save it; what has no JSON form becomes its text."""
    return to_jsonable_python(value, fallback=str, inf_nan_mode="null")


def takers(program: Any, inputs: "Sequence[Input]") -> Taking:  # noqa: ANN401  # a module of dspy
    """Return how inputs become what `program` expects: models, dspy's types; inputs of plain types are left out.

    An annotation of `forward` decides over the predictor that has an input of the same name.
    """
    takes: Taking = {}
    signatures: dict[str, Any] = {}
    for _, predictor in program.named_predictors():
        signature = predictor.signature
        for name, field in signature.input_fields.items():
            if signatures.setdefault(name, signature) is signature:
                _put(takes, name, _taker(name, field.annotation, signature))
    default_signature = next(iter(signatures.values()), None)
    for item in inputs:
        if item.has_hint:
            takes.pop(item.name, None)
            _put(takes, item.name, _taker(item.name, item.hint, signatures.get(item.name, default_signature)))
        if not item.is_required and not _is_json(item.default):
            takes[item.name] = _default_taker(item.default, takes.get(item.name))
    return takes


def _put(takes: Taking, name: str, taker: "Callable[[Any], Any] | None") -> None:
    if taker is not None:
        takes[name] = taker


def _is_json(value: Any) -> bool:  # noqa: ANN401
    """Whether a value comes over the wire as it is."""
    if isinstance(value, list):
        return all(_is_json(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(part) for key, part in value.items())
    return value is None or type(value) in {str, int, float, bool}


def _default_taker(default: Any, inner: "Callable[[Any], Any] | None") -> "Callable[[Any], Any]":  # noqa: ANN401
    """Return a taker that gives the default itself (a tuple, a model) where its JSON form arrives."""
    shown = plain(default)

    def take(value: Any) -> Any:  # noqa: ANN401
        if value == shown:
            return default
        return value if inner is None else inner(value)

    return take


def taken(taking: Taking, inputs: "dict[str, Any]") -> "dict[str, Any]":
    """Return inputs as a program expects them.

    Raises:
        ValueRefusedError: one of them does not fit its type.
    """
    if not taking:
        return inputs
    return {name: taking[name](value) if name in taking else value for name, value in inputs.items()}


def told(value: Any) -> Any:  # noqa: ANN401
    """Return a value as the parent knows it: dspy's types in the form of dspex, all else as JSON-ready data."""
    return plain(_outward(value))


def _taker(name: str, hint: Any, signature: Any) -> "Callable[[Any], Any] | None":  # noqa: ANN401
    if not _has_classes(hint):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except Exception:  # noqa: BLE001  # a type without a schema (dspy.Tool) takes what it is given
        return None

    def take(value: Any) -> Any:  # noqa: ANN401
        try:
            return adapter.validate_python(_shaped(hint, value, signature))
        except ValidationError as error:
            raise ValueRefusedError(f"the input {name!r} does not fit {hint!r}: {error}") from error

    return take


def _has_classes(hint: Any) -> bool:  # noqa: ANN401
    if parts := get_args(hint):
        if get_origin(hint) in {set, frozenset, tuple}:
            return True
        return str(get_origin(hint)) != "typing.Literal" and any(_has_classes(part) for part in parts)
    return isinstance(hint, type) and hint not in _PLAIN


def _shaped(hint: Any, value: Any, signature: Any) -> Any:  # noqa: ANN401
    """Return `value` with each of our media values inside it in the shape of dspy's type, where `hint` wants one."""
    for name, own in OWN_TYPES.items():
        if isinstance(hint, type) and issubclass(hint, own):
            return _turns(value, signature) if name == "History" else _INWARD[name](value)
    parts = [part for part in get_args(hint) if part is not type(None)]
    if isinstance(value, list):
        return [_shaped(_element(hint), one, signature) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        hints = {field.alias or key: field.annotation for key, field in hint.model_fields.items()}
        return {key: _shaped(hints.get(key, Any), one, signature) for key, one in value.items()}
    if get_origin(hint) is dict:
        return {key: _shaped(parts[-1], one, signature) for key, one in value.items()}
    wanted = [part for part in parts if _has_classes(part)]
    return _shaped(wanted[0], value, signature) if len(wanted) == 1 else value


def _element(hint: Any) -> Any:  # noqa: ANN401
    """Return what a list of `hint` holds, also where the list may be left out."""
    lists = [part for part in (hint, *get_args(hint)) if get_origin(part) in {list, tuple, set}]
    return get_args(lists[0])[0] if lists else Any


def _turns(value: Any, signature: Any) -> Any:  # noqa: ANN401
    """Return a history as dspy has it: for each exchange, the fields that were given and answered.

    A turn that is a text is the first input or the last output. What is in dspy's form already stays as it is.
    """
    turns = value.get("messages", []) if isinstance(value, dict) else value
    if not isinstance(turns, list) or not all(
        isinstance(one, dict) and one.keys() == {"role", "content"} for one in turns
    ):
        return value
    fields = signature.input_fields.items()
    inputs = [name for name, field in fields if field.annotation is not OWN_TYPES["History"]]
    named = {"user": inputs[:1], "assistant": list(signature.output_fields)[-1:]}
    made: list[dict[str, Any]] = []
    for turn in turns:
        if not (names := named.get(turn["role"])):
            raise ValueRefusedError(f"dspy's history has turns of user and assistant, not of {turn['role']!r}")
        said = turn["content"] if isinstance(turn["content"], dict) else {names[0]: turn["content"]}
        if turn["role"] == "assistant" and made and not said.keys() & made[-1].keys():
            made[-1].update(said)
        else:
            made.append(dict(said))
    return {"messages": made}


def _url(value: Any) -> Any:  # noqa: ANN401
    return {"url": value["url"]} if isinstance(value, dict) and "url" in value else value


def _audio(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, dict) or "url" not in value:
        return value
    kind, mark, data = value["url"].partition(";base64,")
    if not mark or not kind.startswith("data:audio/"):
        raise ValueRefusedError("dspy's audio holds the recording itself: give it as data:audio/wav;base64,...")
    return {"data": data, "audio_format": kind.removeprefix("data:audio/")}


def _file(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, dict) or "url" not in value:
        return value
    if not value["url"].startswith("data:"):
        raise ValueRefusedError("dspy's file holds the bytes themselves: give a URL of the form data:TYPE;base64,...")
    return {"file_data": value["url"], "filename": value.get("name")}


def _code(value: Any) -> Any:  # noqa: ANN401
    return {"code": value["text"]} if isinstance(value, dict) and "text" in value else value


def _calls(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, dict) or "calls" not in value:
        return value
    return {"tool_calls": [{"name": one["name"], "args": one.get("arguments", {})} for one in value["calls"]]}


_INWARD: "dict[str, Callable[[Any], Any]]" = {
    "Image": _url,
    "Audio": _audio,
    "File": _file,
    "Code": _code,
    "ToolCalls": _calls,
    "Reasoning": lambda value: {"content": value} if isinstance(value, str) else value,
}


def _outward(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {key: _outward(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_outward(one) for one in value]
    if isinstance(value, dspy.Example):
        return {key: _outward(one) for key, one in value.items()}
    if not isinstance(value, BaseModel):
        return value
    for name, own in OWN_TYPES.items():
        if isinstance(value, own):
            return _OUTWARD[name](value)
    inside = {field.alias or key: getattr(value, key, None) for key, field in type(value).model_fields.items()}
    shown = to_jsonable_python(value, fallback=str)
    if isinstance(shown, dict):
        shown |= {key: _outward(one) for key, one in inside.items() if key in shown and _holds_own(one)}
    return shown


def _holds_own(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, BaseModel):
        own = tuple(OWN_TYPES.values())
        return isinstance(value, own) or any(_holds_own(getattr(value, key, None)) for key in type(value).model_fields)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(_holds_own(part) for part in parts)


def _told_file(value: Any) -> "dict[str, Any]":  # noqa: ANN401
    return {"url": value.file_data or f"file:{value.file_id}", "name": value.filename}


_OUTWARD: "dict[str, Callable[[Any], Any]]" = {
    "History": lambda value: {"messages": value.messages},
    "Image": lambda value: {"url": value.url},
    "Audio": lambda value: {"url": f"data:audio/{value.audio_format};base64,{value.data}"},
    "File": _told_file,
    # the language that dspy's Code has of itself was said by nobody
    "Code": lambda value: {
        "text": value.code,
        "language": None if type(value) is OWN_TYPES["Code"] else value.language,
    },
    "ToolCalls": lambda value: {"calls": [{"name": one.name, "arguments": one.args or {}} for one in value.tool_calls]},
    "Reasoning": lambda value: value.content,
}


def prediction_of(program: Any, answer: Any) -> "dict[str, Any]":  # noqa: ANN401
    """Return the fields of what a program answered.

    Raises:
        ValueRefusedError: its `forward` gave no prediction.
        NotFiniteError: it holds a number that is not finite.
    """
    if not isinstance(answer, dspy.Example | dict):  # dspy's predictions are examples, too
        name = "forward" if program is None else f"{type(program).__name__}.forward"
        raise ValueRefusedError(
            f"{name} returned {type(answer).__name__}, not a prediction: "
            "return dspy.Prediction(answer=...) with its outputs"
        )
    found: dict[str, Any] = to_jsonable_python(_outward(dict(answer.items())), fallback=str)
    _check_finite(found, "")
    return found


def _check_finite(value: Any, path: str) -> None:  # noqa: ANN401
    if isinstance(value, float) and not math.isfinite(value):
        raise NotFiniteError(f"the program answered what no JSON can say ({path.lstrip('.')}: {value!r})")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        _check_finite(part, f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]")
