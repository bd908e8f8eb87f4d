"""What a dspy program in a worker returned: its outputs, or the error of its last reply."""

from collections.abc import Mapping
from typing import Any

from dspex.errors import (
    AdapterError,
    DefinitionError,
    InputError,
)
from dspex.execution.adapters import Adapter, ChatAdapter, JSONAdapter
from dspex.execution.adapters.replies import reader_of
from dspex.execution.adapters.turns import validate_outputs
from dspex.execution.adapters.xml import XMLAdapter
from dspex.execution.backends.dspy_bridge.contracts import mismatch_error
from dspex.execution.backends.outputs import is_guess
from dspex.execution.frame import payload
from dspex.execution.modules.citations import CitedCall
from dspex.execution.modules.kinds import MODULE_KINDS
from dspex.language.programs import Program
from dspex.language.signatures import Field


def native_error(
    program: Program, reply: str, cited: CitedCall | None = None
) -> AdapterError | None:
    """Return the error that the native adapter raises for the last reply, if any."""
    kind = MODULE_KINDS.get(program.root.kind)
    if kind is None or not kind.replies_with_outputs or not reply:
        return None
    adapter = _adapter_for(reply.lstrip()[:1])
    try:
        adapter.parse(program.signature if cited is None else cited.signature, reply)
    except AdapterError as error:
        return error
    return None


def _adapter_for(character: str) -> Adapter:
    """Return the adapter whose replies begin with a character."""
    if character == "<":
        return XMLAdapter()
    return JSONAdapter() if character == "{" else ChatAdapter()


def read_outputs(program: Program, answer: Any, cited: CitedCall | None = None) -> dict[str, Any]:
    """Return a worker's outputs under our names, followed by additional fields (a reasoning).

    Outputs are validated like a native reply, and the citations of `cited` are resolved.

    Raises:
        AdapterError: a reply does not fit the signature.
        DefinitionError: the outputs of a user's module do not fit it.
    """
    if not isinstance(answer, Mapping):
        raise DefinitionError(f"the dspy program returned {answer!r}, which is not a prediction")
    signature = program.signature if cited is None else cited.signature
    fields = {field.wire_name: field for field in signature.output_fields.values()}
    values = {
        field.name: _read(field, answer[key]) for key, field in fields.items() if key in answer
    }
    if program.root.kind == "dspy":  # its code made the prediction, not a reply
        try:
            outputs = signature.output_validator(values)
        except InputError as error:
            raise mismatch_error(program, answer, error) from None
    else:
        outputs = validate_outputs(signature, payload(answer), values)
    if cited is not None:
        outputs = cited.resolve(outputs, payload(answer))
    if is_guess(program):
        outputs = {name: value for name, value in outputs.items() if name in values}
    return {**outputs, **{key: value for key, value in answer.items() if key not in fields}}


def _read(field: Field, value: Any) -> Any:
    """Return the value of an optional field, which dspy may leave as text: "null" becomes None."""
    return (
        reader_of(field.type)(value) if field.type.is_optional and isinstance(value, str) else value
    )
