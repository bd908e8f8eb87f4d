"""Convert the text cells of rows into the values that a signature declares."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dspex.errors import InputError
from dspex.execution.adapters.replies import reader_of, takes_text
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.language.signatures import MISSING, Field, Signature, Validator

_ReadValue = Callable[[str], Any]


def read_row(signature: Signature, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `row` with text parsed as JSON in every field that does not hold text.

    CSV files hold only text, and rows written by hand may. Text that cannot be parsed as a value of
    its field stays as it is: an input then fails when the row is run, an expected answer matches
    nothing.
    """
    readers = _readers(signature)
    return {
        name: readers[name](value) if isinstance(value, str) and name in readers else value
        for name, value in row.items()
    }


def _compile(signature: Signature) -> dict[str, _ReadValue]:
    return {
        field.name: _reader(field)
        for field in signature.fields.values()
        if not takes_text(field.type)
        and (field.type.kind != "any" or field.type.constraint("schema") is not None)
    }


_readers = SignatureCache(_compile)


def _reader(field: Field) -> _ReadValue:
    reader = reader_of(field.type)
    validator = Validator("the value", [replace(field, default=MISSING, alias=None, role="input")])

    def read(text: str) -> Any:
        value = reader(text)
        try:
            data = validator.dump(validator({field.name: value}))[field.name]
        except InputError:
            return text
        # of a document, for example
        is_short_form = isinstance(value, str) and isinstance(data, dict | list)
        return text if is_short_form else data

    return read
