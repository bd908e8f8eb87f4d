"""What of inputs, outputs and traces is stored: all, redacted, or nothing of the inputs."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from dspex.operations.resources.program import ProgramRecord

Place = Literal["inputs", "outputs", "error", "trace"]
Redact = Callable[[Place, Any], Any]
"""Takes where a JSON value is about to be stored and the value, and returns what is stored instead.

Of a trace, it is given the texts of prompts, replies and errors one by one.
"""
HIDDEN = "(redacted)"
_PAYLOADS = ("inputs_ref", "outputs_ref", "error")


def by_patterns(patterns: Sequence[str]) -> Redact:
    """Return what replaces every match of any pattern, in every text inside a value, by "(redacted)"."""
    compiled = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def clean(value: Any) -> Any:  # noqa: ANN401  # any JSON value
        if isinstance(value, str):
            return compiled.sub(HIDDEN, value)
        if isinstance(value, Mapping):
            return {clean(key): clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list | tuple) else value

    return lambda _place, value: clean(value)


class Keeping:
    """Decides for each program what is stored of its executions."""

    def __init__(self, *, stores_inputs: bool = True, redact: Redact | None = None) -> None:
        """Take what holds for programs that say nothing else, and what every stored value passes through."""
        self._stores_inputs = stores_inputs
        self._redact = redact

    def stores_inputs(self, program: ProgramRecord) -> bool:
        """Return whether inputs of `program` are stored: its own `store_inputs`, else the setting."""
        return bool(program.configuration.get("store_inputs", self._stores_inputs))

    def payloads(self, program: ProgramRecord) -> Literal["stored", "redacted", "withheld"]:
        """Return how executions of `program` are stored."""
        if not self.stores_inputs(program):
            return "withheld"
        return "stored" if self._redact is None else "redacted"

    def kept(self, payloads: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of an execution as they are stored."""
        columns = dict(values)
        if payloads == "withheld":
            columns |= {
                name: _without_inputs(name, columns[name]) for name in ("inputs", "error", "trace") if columns.get(name)
            }
        if self._redact is not None:
            names = [name for name in ("inputs", "outputs", "error", "trace") if columns.get(name)]
            columns |= {name: _redacted(self._redact, name, columns[name]) for name in names}
        return columns


def _redacted(redact: Redact, name: Any, value: Any) -> Any:  # noqa: ANN401
    if name != "trace":
        return _passed(redact, name, value)
    texts = (*_PAYLOADS, "attributes")
    spans = [
        {**span, **{key: _passed(redact, "trace", span[key]) for key in texts if span.get(key)}}
        for span in value.get("spans", ())
    ]
    return {**value, "spans": spans}


def _passed(redact: Redact, place: Place, value: Any) -> Any:  # noqa: ANN401
    """Never let a value through that a failing hook has not seen to its end."""
    try:
        return redact(place, value)
    except Exception as error:  # noqa: BLE001  # code of a user, whose fault must neither fail nor expose the execution
        message = f"(withheld: the redaction hook failed: {type(error).__name__})"
        return message if isinstance(value, str) else {"(withheld)": message}


def _without_inputs(name: str, value: Any) -> Any:  # noqa: ANN401
    if name == "inputs":
        return {}
    if name == "trace":
        hidden = dict.fromkeys(_PAYLOADS)
        return {**value, "spans": [{**span, **hidden, "attributes": {}} for span in value.get("spans", ())]}
    fields = [{**field, "value": HIDDEN, "message": f"expected {field['expected']}"} for field in value["fields"]]
    return {
        **value,
        "message": f"{value['code']} (what it says may hold inputs, which are not stored)",
        "fields": fields,
    }
