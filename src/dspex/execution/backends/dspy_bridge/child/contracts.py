"""The inputs and outputs of a dspy module, read from its code without running it."""

import inspect
import json
import typing
from dataclasses import dataclass
from functools import partialmethod
from types import FunctionType
from typing import Any

import dspy

from .returns import Outputs, Shape, forward_of, outputs_of, passed_inputs
from .types import hint_schema, schema_of

_NAMED = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})
_NOTHING = inspect.Parameter.empty


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a module: `hint` is its annotation, `field` a predictor's field of that name."""

    name: str
    hint: Any = _NOTHING
    default: Any = _NOTHING
    field: Any = None

    @property
    def has_hint(self) -> bool:
        """Whether its parameter is annotated."""
        return self.hint is not _NOTHING

    @property
    def is_required(self) -> bool:
        """Whether a caller has to pass it."""
        return self.default is _NOTHING


def contract_of(program: Any) -> "dict[str, Any]":
    """Return `{inputs, outputs, guess}`: the fields as data, and why outputs are a guess."""
    try:
        outputs = outputs_of_module(program)
    except Exception as error:  # noqa: BLE001  # code that cannot be analysed must still run
        outputs = Outputs(sure={}, why=f"reading its code failed: {error!r}")
    inputs = [data for item in inputs_of(program) if (data := _input(item)) is not None]
    guess = "" if outputs.sure else outputs.why or "its code could not be read"
    names = outputs.sure or outputs.perhaps or _last_outputs(program)
    return {
        "inputs": inputs,
        "outputs": [_output(name, field) for name, field in names.items()],
        "guess": guess,
    }


def inputs_of(program: Any, callers: "frozenset[int]" = frozenset()) -> "list[Input]":
    """Return the inputs of a module, in the order of the parameters of its `forward`.

    `callers` are the ids of the modules that pass their keywords on to it.
    """
    if (signature := _signature_of(program)) is not None:
        return _of_signature(signature)
    if (inner := _wrapped(program)) is not None:
        return inputs_of(inner, callers)
    if isinstance(program, dspy.MultiChainComparison):
        fields = _of_signature(program.predict.signature)
        items = [item for item in fields if not item.name.startswith("reasoning_attempt_")]
        return [Input(name="completions", hint=list), *items]
    return [] if id(program) in callers else _of_forward(program, callers)


def _of_signature(signature: Any) -> "list[Input]":
    return [
        Input(
            name=name,
            field=field,
            default=_NOTHING
            if field.is_required()
            else field.get_default(call_default_factory=True),
        )
        for name, field in signature.input_fields.items()
    ]


def _of_forward(program: Any, callers: "frozenset[int]") -> "list[Input]":
    function = forward_of(program)
    described = _described_inputs(program)
    hints, parameters = hints_of(function), _parameters(program, function)
    takes: dict[str, Input] = {}
    for item in parameters:
        if item.kind in _NAMED:
            hint = hints.get(item.name, _NOTHING)
            takes[item.name] = Input(
                name=item.name, hint=hint, default=item.default, field=described.get(item.name)
            )
    rest = [item.name for item in parameters if item.kind is item.VAR_KEYWORD]
    if rest:
        for extra in _of_keywords(program, rest[0], described=described, callers=callers):
            takes.setdefault(extra.name, extra)
    return list(takes.values())


def _parameters(program: Any, function: Any) -> "list[inspect.Parameter]":
    """Return the parameters of `forward` without `self`; static methods and objects have none."""
    place = inspect.getattr_static(type(program), "forward", None)
    is_method = place is None or isinstance(place, FunctionType | partialmethod)
    return list(inspect.signature(function).parameters.values())[int(is_method) :]


def _of_keywords(
    program: Any,
    name: str,
    *,
    described: "dict[str, Any]",
    callers: "frozenset[int]",
) -> "list[Input]":
    """Return the inputs in `**name`: inputs of modules that get it, and keys read from it."""
    receivers, keys = passed_inputs(program, name)
    inputs: dict[str, Input] = {}
    for module, explicit in receivers:
        for item in inputs_of(module, callers | {id(program)}):
            if item.name not in explicit:
                inputs.setdefault(item.name, item)
    for key, default in keys.items():
        if key not in inputs:
            inputs[key] = Input(
                name=key,
                field=described.get(key),
                default=_NOTHING if default is None else default[0],
            )
    if not inputs and (predictors := program.predictors()):
        return _of_signature(predictors[0].signature)
    return list(inputs.values())


def _described_inputs(program: Any) -> "dict[str, Any]":
    """Return the input fields of all predictors by name; those with descriptions first."""
    fields: dict[str, Any] = {}
    for predictor in program.predictors():
        for name, field in predictor.signature.input_fields.items():
            if name not in fields or (
                description_of(name, field) and not description_of(name, fields[name])
            ):
                fields[name] = field
    return fields


def outputs_of_module(program: Any, callers: "frozenset[int]" = frozenset()) -> Outputs:
    """Return the outputs of a module; `callers` are the ids of the modules whose code calls it."""
    if (signature := _signature_of(program)) is not None:
        return Outputs(sure=dict(signature.output_fields))
    if (inner := _wrapped(program)) is not None:
        return outputs_of_module(inner, callers)

    def shape_of(module: Any) -> "Shape | None":
        if id(module) in inside:
            return None
        return outputs_of_module(module, inside).sure or None

    inside = callers | {id(program)}
    return outputs_of(program, shape_of)


def _signature_of(program: Any) -> Any:
    """Return the signature of one of dspy's own modules, None for a user's module."""
    if isinstance(program, dspy.Predict) and not is_users(program):
        return program.signature
    signature = vars(program).get("signature")
    is_signature = isinstance(signature, type) and issubclass(signature, dspy.Signature)
    return signature if is_signature and not is_users(program) else None


def _wrapped(program: Any) -> Any:
    """Return the module inside one of dspy's wrappers (BestOfN, Refine)."""
    inner = vars(program).get("module")
    return inner if isinstance(inner, dspy.Module) and not is_users(program) else None


def is_users(program: Any) -> bool:
    """Whether a user wrote the `forward` of this module."""
    return str(getattr(forward_of(program), "__module__", "")).partition(".")[0] != "dspy"


def _last_outputs(program: Any) -> Shape:
    predictors = program.predictors()
    return dict(predictors[-1].signature.output_fields) if predictors else {}


def hints_of(function: Any) -> "dict[str, Any]":
    """Return the annotations of a function, without unresolvable ones."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001  # names imported under TYPE_CHECKING do not exist
        hints = getattr(function, "__annotations__", {})
        return {name: hint for name, hint in hints.items() if not isinstance(hint, str)}


def json_default(value: Any) -> "tuple[bool, Any]":
    """Return whether a default has a JSON form (infinity does not), and that form."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        data = to_jsonable_python(value)
        json.dumps(data, allow_nan=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError):
        return False, None
    return True, data


def _input(item: Input) -> "dict[str, Any] | None":
    """Return an input as data; None if its default has no JSON form, so that it always applies."""
    data: dict[str, Any] = {
        "name": item.name,
        "role": "input",
        "desc": "",
        "schema": {},
        "typed": True,
    }
    if item.field is not None:
        data |= {
            "desc": description_of(item.name, item.field),
            "schema": schema_of(item.field),
            "typed": False,
        }
    elif not item.has_hint:
        data["typed"] = False
    if item.has_hint:
        data |= {"schema": hint_schema(item.hint), "typed": True}
    if item.is_required:
        return data
    has_json, default = json_default(item.default)
    return {**data, "default": default} if has_json else None


def _output(name: str, field: Any) -> "dict[str, Any]":
    if field is None:
        return {"name": name, "role": "output", "desc": "", "schema": {}}
    # without the bounds of the field (`le=1`): dspy shows them to the model but does not enforce
    # them
    schema = hint_schema(field.annotation)
    return {"name": name, "role": "output", "desc": description_of(name, field), "schema": schema}


def description_of(name: str, field: Any) -> str:
    """Return the user's description of a field; dspy's placeholder counts as none."""
    desc = (field.json_schema_extra or {}).get("desc") or ""
    return "" if desc == f"${{{name}}}" else str(desc)
