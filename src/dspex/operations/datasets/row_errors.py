"""The errors of rows and values that do not fit a signature."""

from collections.abc import Mapping
from typing import Any

from dspex.errors import FieldError, InputError
from dspex.language.signatures import Signature
from dspex.language.signatures.cancellable_run import CancellableRun
from dspex.operations.framework.heavy_work import InputLimits


def row_errors(  # a row and the limits of checking it
    signature: Signature, row: Mapping[str, Any], *, work: CancellableRun, most: InputLimits | None
) -> list[FieldError]:
    """Return the errors of a row; inputs are required, outputs may be missing."""
    inputs = {name: row[name] for name in signature.input_fields if name in row}
    outputs = {name: row[name] for name in signature.output_fields if name in row}
    return [
        *_errors(signature.input_validator, inputs, work=work, most=most),
        *output_errors(signature, outputs, work=work, most=most),
    ]


def output_errors(
    signature: Signature,
    outputs: Mapping[str, Any],
    *,
    work: CancellableRun,
    most: InputLimits | None,
) -> list[FieldError]:
    """Return the errors of outputs, some of which may be missing."""
    return [
        error
        for error in _errors(signature.output_validator, outputs, work=work, most=most)
        if error.field in outputs or error.constraint == "work"
    ]


def _errors(
    validator: Any, values: Mapping[str, Any], *, work: CancellableRun, most: InputLimits | None
) -> list[FieldError]:
    try:
        amount = validator.amount(values)
        if most is not None:
            most.check(amount)
        if validator.is_quick(amount):
            validator(values)
        else:
            validator.run_cancellable(values, work.fresh())
    except InputError as error:
        return [*error.fields]
    return []
