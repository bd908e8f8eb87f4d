"""The table of types: their names, meanings and constraints.

`docs/signatures.md` prints this table, and a test compares the two.
"""

from dataclasses import dataclass, field
from typing import Literal

ConstraintKind = Literal[
    "count",
    "size",
    "number",
    "step",
    "regex",
    "format",
    "choices",
    "flag",
    "names",
    "name",
    "extra",
    "schema",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row: `arity` is the maximum number of type arguments, `text` describes a value."""

    text: str
    group: Literal["basic", "ml", "composite", "media"]
    arity: int = 0
    constraints: dict[str, ConstraintKind] = field(default_factory=dict)


_NUMBER: dict[str, ConstraintKind] = {
    "ge": "number",
    "gt": "number",
    "le": "number",
    "lt": "number",
    "multiple_of": "step",
}
_STR: dict[str, ConstraintKind] = {
    "min_length": "count", "max_length": "count", "pattern": "regex", "format": "format",
    "choices": "choices",
}  # fmt: skip
_EMBEDDING: dict[str, ConstraintKind] = {
    "dimensions": "size",
    "min_value": "number",
    "max_value": "number",
}

KINDS: dict[str, Kind] = {
    "str": Kind(text="text", group="basic", constraints=_STR),
    "int": Kind(text="a whole number", group="basic", constraints=_NUMBER),
    "float": Kind(
        text="a finite number", group="basic", constraints={**_NUMBER, "precision": "count"}
    ),
    "bool": Kind(text="true or false", group="basic"),
    "atom": Kind(text="one of the listed values", group="basic", constraints={"one_of": "choices"}),
    "any": Kind(text="any value", group="basic", constraints={"schema": "schema"}),
    "none": Kind(text="null, no value", group="basic"),
    "binary": Kind(text="bytes, written as base64", group="basic"),
    "list": Kind(
        text="a list",
        group="composite",
        arity=1,
        constraints={"min_items": "count", "max_items": "count", "unique": "flag"},
    ),
    "tuple": Kind(
        text="a list of fixed length, each place with its own type", group="composite", arity=64
    ),
    "dict": Kind(
        text="a mapping",
        group="composite",
        arity=2,
        constraints={"min_size": "count", "max_size": "count", "required_keys": "names"},
    ),
    "union": Kind(
        text="a value of one of several types",
        group="composite",
        arity=1024,
        constraints={"tag": "name", "required": "flag"},
    ),
    "object": Kind(
        text="an object with named members", group="composite", constraints={"extra": "extra"}
    ),
    "ref": Kind(text="an enclosing object, by its name", group="composite"),
    "embedding": Kind(text="a vector of numbers", group="ml", constraints=_EMBEDDING),
    "probability": Kind(text="a number from 0 to 1", group="ml"),
    "confidence_score": Kind(text="a number from 0 to 1", group="ml"),
    "similarity_score": Kind(text="a number from -1 to 1", group="ml"),
    "reasoning_chain": Kind(
        text="a list of steps in words",
        group="ml",
        constraints={"max_steps": "count", "step_format": "regex"},
    ),
    "token_count": Kind(
        text="a whole number, 0 or more", group="ml", constraints={"max_tokens": "count"}
    ),
    "token_usage": Kind(text="input_tokens and output_tokens", group="ml"),
    "model_output": Kind(text="whatever a model answered", group="ml"),
    "prompt_template": Kind(text="text with {placeholders}", group="ml"),
    "function_call": Kind(text="the name of a function and its arguments", group="ml"),
    "tool_result": Kind(text="what a tool answered", group="ml"),
    "Image": Kind(text="a picture, by URL or data URI", group="media"),
    "Audio": Kind(text="a recording, by URL or data URI", group="media"),
    "File": Kind(text="any file, by URL or data URI", group="media"),
    "Document": Kind(text="a text with a title", group="media"),
    "Code": Kind(text="a text in a programming language", group="media"),
    "History": Kind(text="the earlier turns of a conversation", group="media"),
    "ToolCalls": Kind(text="the calls of functions that a model asks for", group="media"),
    "Citations": Kind(text="passages with their sources", group="media"),
    "Cited": Kind(text="statements with quotes from the passages of an input", group="media"),
    "Passage": Kind(text="a part of a document that a search returned", group="media"),
}

ALIASES = {
    "string": "str", "integer": "int", "boolean": "bool", "number": "float", "map": "dict",
    "object": "dict",
    "bytes": "binary", "None": "none", "null": "none", "Any": "any", "List": "list", "Dict": "dict",
    "Tuple": "tuple",
    "Union": "union",
}  # fmt: skip

CONSTRAINT_ALIASES = {"min": "ge", "max": "le", "gteq": "ge", "lteq": "le"}

FORMATS: dict[str, str] = {
    "date-time": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt "
    r"]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?"
    r"([Zz]|[+-]([01]\d|2[0-3]):?[0-5]\d)?$",
    "date": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
    "time": r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?([Zz]|[+-]([01]\d|2[0-3]):?[0-5]\d)?$",
    "duration": r"^-?P(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)$",
    "email": r"^[^@\s]+@[^@\s]+\.[^@\s.]+$",
    "hostname": r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
    "ipv4": r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$",
    "ipv6": r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$",
    "uri": r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$",
    "uuid": r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$",
    "decimal": r"^[+-]?\d+(\.\d+)?([Ee][+-]?\d+)?$",
}
