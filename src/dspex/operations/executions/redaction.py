"""Redaction: how inputs, outputs and traces are stored."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from dspex.operations.programs.records import ProgramRecord

PayloadName = Literal["inputs", "outputs", "error", "trace"]
Redact = Callable[[PayloadName, Any], Any]
"""Takes the place where a JSON value will be stored and the value; returns the value to store.

For a trace, it is called for each text of prompts, replies and errors.
"""
HIDDEN = "(redacted)"
_PAYLOADS = ("inputs_ref", "outputs_ref", "error")


def pattern_redactor(patterns: Sequence[str]) -> Redact:
    """Return a hook that replaces every match of a pattern by "(redacted)".

    It does so in all texts of a value.
    """
    compiled = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return compiled.sub(HIDDEN, value)
        if isinstance(value, Mapping):
            return {clean(key): clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list | tuple) else value

    return lambda _place, value: clean(value)


class PayloadPolicy:
    """Decides how the executions of each program are stored."""

    def __init__(self, *, stores_inputs: bool = True, redact: Redact | None = None) -> None:
        """Take the default for programs without a setting, and the redaction hook."""
        self._stores_inputs = stores_inputs
        self._redact = redact

    def stores_inputs(self, program: ProgramRecord) -> bool:
        """Return whether inputs of `program` are stored: its `store_inputs`, or the default."""
        return bool(program.configuration.get("store_inputs", self._stores_inputs))

    def payloads(self, program: ProgramRecord) -> Literal["stored", "redacted", "withheld"]:
        """Return how executions of `program` are stored."""
        if not self.stores_inputs(program):
            return "withheld"
        return "stored" if self._redact is None else "redacted"

    def keeps(self, value: Any) -> bool:
        """Return whether the redaction hook leaves a JSON value as it is."""
        return self._redact is None or _call_hook(self._redact, "outputs", value) == value

    def prepare(self, payloads: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of an execution as they will be stored."""
        columns = dict(values)
        if payloads == "withheld":
            columns |= {
                name: _without_inputs(name, columns[name])
                for name in ("inputs", "error", "trace")
                if columns.get(name)
            }
        if self._redact is not None:
            names = [name for name in ("inputs", "outputs", "error", "trace") if columns.get(name)]
            columns |= {name: _apply_hook(self._redact, name, columns[name]) for name in names}
        return columns


def _apply_hook(redact: Redact, name: Any, value: Any) -> Any:
    if name != "trace":
        return _call_hook(redact, name, value)
    texts = (*_PAYLOADS, "attributes")
    spans = [
        {**span, **{key: _call_hook(redact, "trace", span[key]) for key in texts if span.get(key)}}
        for span in value.get("spans", ())
    ]
    return {**value, "spans": spans}


def _call_hook(redact: Redact, place: PayloadName, value: Any) -> Any:
    """Call the redaction hook; if it fails, withhold the value."""
    try:
        return redact(place, value)
    except Exception as error:  # noqa: BLE001  # user code
        # its failure must neither fail the execution nor expose its data
        message = f"(withheld: the redaction hook failed: {type(error).__name__})"
        return message if isinstance(value, str) else {"(withheld)": message}


def _without_inputs(name: str, value: Any) -> Any:
    if name == "inputs":
        return {}
    if name == "trace":
        hidden = dict.fromkeys(_PAYLOADS)
        return {
            **value,
            "spans": [{**span, **hidden, "attributes": {}} for span in value.get("spans", ())],
        }
    fields = [
        {**field, "value": HIDDEN, "message": f"expected {field['expected']}"}
        for field in value["fields"]
    ]
    return {
        **value,
        "message": f"{value['code']} (the message may contain inputs, which are not stored)",
        "fields": fields,
    }
