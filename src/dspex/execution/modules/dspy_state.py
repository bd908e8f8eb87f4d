"""Import and export of the JSON state that dspy saves.

Format: `Module.save` of dspy 3.x, by predictor path (a single `Predict` is flat), with the fields
by position, inputs before outputs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dspex.arguments import checks_values
from dspex.error_text import shorten
from dspex.errors import DefinitionError
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.settings import SETTINGS, setting_problem
from dspex.language.programs import ROOT
from dspex.language.signatures import Field, Signature
from dspex.language.signatures.codec import plain

T = TypeVar("T")
_NAMES: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text"}
_SECRET = re.compile(r"^api_|_(key|token)$|secret|password|header|credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class _PredictorState:
    """The validated state of one predictor."""

    signature: Signature
    demos: list[dict[str, Any]]
    model: str | None
    settings: dict[str, Any]
    foreign: dict[str, Any]


@checks_values
def from_dspy_state(module: Module, state: Mapping[str, Any]) -> None:
    """Load instructions, descriptions, demonstrations and models of a dspy program into `module`.

    The state of a single `Predict` is flat, as dspy saves it; the state of any other module is
    keyed by predictor path. Parts without a counterpart in dspex (prefixes, traces, settings of the
    model client) are kept and written back by `to_dspy_state`. An invalid state changes nothing.

    Raises:
        DefinitionError: the paths or the numbers of fields differ, or a part has the wrong type.
    """
    predictors = _predictors(module)
    parts = _by_path(module, state)
    if parts.keys() != predictors.keys():
        raise DefinitionError(
            f"the state is of a program with the predictors {', '.join(parts) or 'none'}; this "
            f"module has {', '.join(predictors) or 'none'}"
        )
    states = {path: _parse_state(predictors[path], path, part) for path, part in parts.items()}
    for path, part in states.items():
        predictor = predictors[path]
        predictor.signature, predictor.foreign = part.signature, part.foreign
        predictor.bind("demos", part.demos)
        if part.model is not None:
            predictor.model, predictor.settings = part.model, part.settings


@checks_values
def to_dspy_state(module: Module) -> dict[str, Any]:
    """Return the state of `module` in the format of dspy, without API keys."""
    states = {path: _dump_state(predictor) for path, predictor in _predictors(module).items()}
    return {
        **(states[str(ROOT)] if _is_lone(module) else states),
        "metadata": {"dependency_versions": {}},
    }


def _is_lone(module: Module) -> bool:
    return isinstance(module, Predict) and list(_predictors(module)) == [str(ROOT)]


def _by_path(module: Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(state, Mapping):
        raise DefinitionError(f"a state of dspy is an object, not {type(state).__name__}")
    parts = {path: part for path, part in state.items() if path != "metadata"}
    return {str(ROOT): parts} if _is_lone(module) and "signature" in parts else parts


def _predictors(module: Module) -> dict[str, Predict]:
    return {path: part for path, part in module.named_modules() if isinstance(part, Predict)}


def _parse_state(predictor: Predict, path: str, part: Any) -> _PredictorState:
    """Return the validated state of one predictor.

    Raises:
        DefinitionError: a part has the wrong type; the message names it.
    """
    place = f"the state of {path!r}"
    part = _expect(part, dict, place)
    signature = _expect(part.get("signature"), dict, f"{place}: signature")
    instructions = _expect(signature.get("instructions"), str, f"{place}: signature.instructions")
    items = _expect(signature.get("fields"), list, f"{place}: signature.fields")
    fields = list(predictor.signature.fields.values())
    if len(items) != len(fields):
        raise DefinitionError(f"{path!r} has {len(fields)} fields, but {len(items)} in the state")
    updated = predictor.signature.with_instructions(instructions)
    for index, (field, item) in enumerate(zip(fields, items, strict=True)):
        where = f"{place}: signature.fields[{index}]"
        desc = _expect(_expect(item, dict, where).get("description", ""), str, where)
        updated = updated.with_field(field.name, desc="" if desc == _default(field) else desc)
    demos = _expect(part.get("demos", []), list, f"{place}: demos")
    model = part.get("lm")
    name, settings = (None, {}) if model is None else _model_of(model, place)
    return _PredictorState(
        signature=updated,
        demos=[
            dict(_expect(demo, dict, f"{place}: demos[{index}]"))
            for index, demo in enumerate(demos)
        ],
        model=name,
        settings=settings,
        foreign={**part, "lm": model and _without_secrets(model)},
    )


def _model_of(model: Any, place: str) -> tuple[str, dict[str, Any]]:
    lm = _expect(model, dict, f"{place}: lm")
    settings = {name: lm[name] for name in SETTINGS if lm.get(name) is not None}
    for name, value in settings.items():
        if problem := setting_problem(name, value):
            raise DefinitionError(f"{place}: lm.{name} takes {problem}")
    return _expect(lm.get("model"), str, f"{place}: lm.model"), settings


def _expect(value: Any, type_: type[T], place: str) -> T:
    if not isinstance(value, type_):
        raise DefinitionError(
            f"{place} is {_NAMES[type_]}, not {shorten(value)}; nothing was changed"
        )
    return value


def _dump_state(predictor: Predict) -> dict[str, Any]:
    foreign = predictor.foreign
    prefixes = [field.get("prefix") for field in foreign.get("signature", {}).get("fields", ())]
    return {
        "traces": foreign.get("traces", []),
        "train": foreign.get("train", []),
        **{
            name: value
            for name, value in foreign.items()
            if name not in {"traces", "train", "demos", "signature", "lm"}
        },
        "demos": plain(predictor.demos),
        "signature": _signature(predictor.signature, prefixes),
        "lm": _model(predictor, foreign.get("lm")),
    }


def _signature(signature: Signature, prefixes: list[str | None]) -> dict[str, Any]:
    fields = [
        {
            "prefix": (prefixes[number] if number < len(prefixes) else None) or _prefix(field),
            "description": field.desc or _default(field),
        }
        for number, field in enumerate(signature.fields.values())
    ]
    return {"instructions": signature.instructions, "fields": fields}


def _model(predictor: Predict, foreign: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not isinstance(predictor.model, str):
        return None
    extra = {
        name: value
        for name, value in (foreign or {}).items()
        if name not in SETTINGS or value is None
    }
    return {"model_type": "chat", **extra, "model": predictor.model, **plain(predictor.settings)}


def _without_secrets(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in model.items() if not _SECRET.search(name)}


def _default(field: Field) -> str:
    return f"${{{field.wire_name}}}"


def _prefix(field: Field) -> str:
    return " ".join(word.capitalize() for word in field.wire_name.split("_")) + ":"
