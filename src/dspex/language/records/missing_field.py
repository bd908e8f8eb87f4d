"""The message that a record does not have a field."""

from collections.abc import Iterable

from dspex.error_text import suggest


def missing_field(record: str, name: str, fields: Iterable[str]) -> str:
    """Return what is wrong, a similar name, and the fields that the record has."""
    names = list(fields)
    hint = suggest(name, names)
    return f"the {record} has no field {name!r}.{hint} Its fields are: {', '.join(names) or 'none'}"
