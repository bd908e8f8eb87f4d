"""The JSON state that dspy saves of its programs, in and out, for the modules that both have.

Format: `Module.save` of dspy 3.x: by predictor path, with the fields by position, inputs before outputs.
"""

import re
from collections.abc import Mapping
from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.settings import SETTINGS
from dspex.language.signatures import Field, Signature
from dspex.language.signatures.codec import plain

_SECRET = re.compile(r"^api_|_(key|token)$|secret|password|header|credential")


def from_dspy_state(module: Module, state: Mapping[str, Any]) -> None:
    """Give the predictors of `module` the instructions, descriptions, demonstrations and models of a dspy program.

    What dspex has no word for (prefixes, traces, settings of the model client) is kept and written again by
    `to_dspy_state`, so that nothing is lost on the way.

    Raises:
        DefinitionError: the paths or the numbers of fields differ.
    """
    predictors = _predictors(module)
    stored = {path: part for path, part in state.items() if path != "metadata"}
    if stored.keys() != predictors.keys():
        raise DefinitionError(
            f"the state is of a program with the predictors {', '.join(stored) or 'none'}; this module has "
            f"{', '.join(predictors) or 'none'}"
        )
    for path, part in stored.items():
        _restore(predictors[path], path, part)


def to_dspy_state(module: Module) -> dict[str, Any]:
    """Return the state of `module` as dspy saves and loads it; no key is in it."""
    found = {path: _state(predictor) for path, predictor in _predictors(module).items()}
    return {**found, "metadata": {"dependency_versions": {}}}


def _predictors(module: Module) -> dict[str, Predict]:
    return {path: part for path, part in module.named_modules() if isinstance(part, Predict)}


def _restore(predictor: Predict, path: str, part: Mapping[str, Any]) -> None:
    stored, fields = part["signature"]["fields"], list(predictor.signature.fields.values())
    if len(stored) != len(fields):
        raise DefinitionError(f"{path!r} has {len(fields)} fields, but {len(stored)} in the state")
    made = predictor.signature.with_instructions(part["signature"]["instructions"])
    for field, other in zip(fields, stored, strict=True):
        desc = other.get("description", "")
        made = made.with_field(field.name, desc="" if desc == _default(field) else desc)
    predictor.signature = made
    predictor.demos = [dict(demo) for demo in part.get("demos", ())]
    if (model := part.get("lm")) is not None:
        predictor.model = model["model"]
        predictor.settings = {name: model[name] for name in SETTINGS if model.get(name) is not None}
    predictor.foreign = {**part, "lm": model and _without_secrets(model)}


def _state(predictor: Predict) -> dict[str, Any]:
    kept = predictor.foreign
    prefixes = [field.get("prefix") for field in kept.get("signature", {}).get("fields", ())]
    return {
        "traces": kept.get("traces", []),
        "train": kept.get("train", []),
        **{name: value for name, value in kept.items() if name not in {"traces", "train", "demos", "signature", "lm"}},
        "demos": plain(predictor.demos),
        "signature": _signature(predictor.signature, prefixes),
        "lm": _model(predictor, kept.get("lm")),
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


def _model(predictor: Predict, kept: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not isinstance(predictor.model, str):
        return None
    others = {name: value for name, value in (kept or {}).items() if name not in SETTINGS or value is None}
    return {"model_type": "chat", **others, "model": predictor.model, **plain(predictor.settings)}


def _without_secrets(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in model.items() if not _SECRET.search(name)}


def _default(field: Field) -> str:
    return f"${{{field.wire_name}}}"


def _prefix(field: Field) -> str:
    return " ".join(word.capitalize() for word in field.wire_name.split("_")) + ":"
