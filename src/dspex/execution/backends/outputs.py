"""Checks the outputs of a program against its signature; additional outputs are allowed."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dspex.error_text import shorten
from dspex.errors import InputError
from dspex.language.programs import Program

GUESS = "guess"


def is_guess(program: Program) -> bool:
    """Whether the outputs of a program were guessed at its import, so that some may be missing."""
    return bool(program.root.config.get("contract") == GUESS)


def check_outputs(program: Program, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validated outputs, followed by outputs that are not in the signature.

    Raises:
        InputError: a declared output is missing or does not fit.
    """
    signature = program.signature
    declared = {name: answer[name] for name in signature.output_fields if name in answer}
    try:
        outputs: dict[str, Any] = signature.validate_outputs(declared)
    except InputError as error:
        target = program.root.config.get("target")  # of a class or function of the user
        if target is None:
            raise
        raise error.with_message(f"{target}: {error.message}") from error
    if is_guess(program):
        outputs = {name: value for name, value in outputs.items() if name in declared}
    if len(declared) < len(answer):
        outputs.update((name, value) for name, value in answer.items() if name not in declared)
    return outputs


def dump_outputs(program: Program, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked outputs as JSON; additional outputs without a JSON form become text."""
    signature = program.signature
    declared = {name: value for name, value in outputs.items() if name in signature.output_fields}
    dumped = signature.output_validator.dump(declared)
    if len(declared) == len(outputs):
        return dumped
    more = {name: _json_form(value) for name, value in outputs.items() if name not in declared}
    return {**dumped, **more}


def _json_form(value: object) -> Any:
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return msgspec.json.decode(to_json(value, fallback=str, inf_nan_mode="strings"))
    except (PydanticSerializationError, ValueError, RecursionError):  # a lone surrogate or a cycle
        return shorten(value)
