"""The ML and media types, each defined by basic and composite types."""

from collections.abc import Callable
from typing import Any

from dspex.language.records.passage import Passage
from dspex.language.signatures import content
from dspex.language.signatures.types import Member, Type, make, object_type, union

_STR, _INT, _FLOAT, _ANY = make("str"), make("int"), make("float"), make("any")
_URL = make("str", constraints={"format": "uri"})

CLASSES: dict[type, str] = {
    content.Image: "Image",
    content.Audio: "Audio",
    content.File: "File",
    content.Document: "Document",
    content.Code: "Code",
    content.History: "History",
    content.ToolCalls: "ToolCalls",
    content.Citations: "Citations",
    content.Cited: "Cited",
    Passage: "Passage",
    content.FunctionCall: "function_call",
    content.ToolResult: "tool_result",
    content.TokenUsage: "token_usage",
}

# the member that a bare text or list is assigned to when coercing
SHORTHAND = {
    "Image": "url", "Audio": "url", "File": "url", "Document": "text", "Code": "text",
    "History": "messages",
    "ToolCalls": "calls", "Citations": "items", "Passage": "text",
}  # fmt: skip


def expand(type_: Type) -> Type:
    """Return the definition of an ML or media type; other types are returned unchanged."""
    expansion = _EXPANSIONS.get(type_.kind)
    return expansion(dict(type_.constraints)) if expansion else type_


def _optional(name: str, type_: Type) -> Member:
    return Member(name, union(type_, make("none")), is_required=False, default=None)


def _embedding(rules: dict[str, Any]) -> Type:
    bounds = {"ge": rules.get("min_value"), "le": rules.get("max_value")}
    number = make(
        "float", constraints={name: value for name, value in bounds.items() if value is not None}
    )
    size = rules.get("dimensions")
    return make("list", number, constraints={"min_items": size, "max_items": size} if size else {})


def _chain(rules: dict[str, Any]) -> Type:
    step = make(
        "str", constraints={"pattern": rules["step_format"]} if "step_format" in rules else {}
    )
    return make(
        "list", step, constraints={"max_items": rules["max_steps"]} if "max_steps" in rules else {}
    )


def _count(rules: dict[str, Any]) -> Type:
    return make(
        "int",
        constraints={"ge": 0, **({"le": rules["max_tokens"]} if "max_tokens" in rules else {})},
    )


def _constant(type_: Type) -> Callable[[dict[str, Any]], Type]:
    return lambda _: type_


def _object(python: type, *members: Member) -> Type:
    return object_type(python.__name__, members, python=python)


_UNIT = make("float", constraints={"ge": 0, "le": 1})
_CALL = _object(
    content.FunctionCall,
    Member("name", _STR),
    Member("arguments", make("dict", _STR, _ANY), is_required=False, default={}),
    _optional("id", _STR),
)
_RESULT = _object(
    content.ToolResult,
    Member("content", _ANY),
    _optional("name", _STR),
    _optional("id", _STR),
    Member("is_error", make("bool"), is_required=False, default=False),
)
_USAGE = _object(
    content.TokenUsage,
    Member("input_tokens", _INT, is_required=False, default=0),
    Member("output_tokens", _INT, is_required=False, default=0),
)
_CITATION = _object(
    content.Citation,
    Member("text", _STR),
    _optional("source", _STR),
    _optional("start", _INT),
    _optional("end", _INT),
)
_SOURCE = _object(
    content.CitedSource,
    Member("passage", make("int", constraints={"ge": 1})),
    _optional("sentence", make("int", constraints={"ge": 1})),
    Member("quote", _STR, is_required=False, default=""),
    _optional("document", _STR),
    _optional("version", _INT),
    _optional("start", _INT),
    _optional("end", _INT),
)
_STATEMENT = _object(
    content.CitedStatement,
    Member("text", _STR),
    Member("sources", make("list", _SOURCE), is_required=False, default=[]),
)
_PASSAGE = _object(
    Passage,
    Member("text", _STR),
    Member("id", _STR, is_required=False, default=""),
    Member("score", _FLOAT, is_required=False, default=0.0),
    Member("metadata", make("dict", _STR, _ANY), is_required=False, default={}),
    _optional("document", _STR),
    _optional("version", _INT),
    _optional("start", _INT),
    _optional("end", _INT),
)
_TURN = _object(content.Turn, Member("role", _STR), Member("content", _ANY))

_EXPANSIONS: dict[str, Callable[[dict[str, Any]], Type]] = {
    "embedding": _embedding,
    "probability": _constant(_UNIT),
    "confidence_score": _constant(_UNIT),
    "similarity_score": _constant(make("float", constraints={"ge": -1, "le": 1})),
    "reasoning_chain": _chain,
    "token_count": _count,
    "token_usage": _constant(_USAGE),
    "model_output": _constant(_ANY),
    "prompt_template": _constant(_STR),
    "function_call": _constant(_CALL),
    "tool_result": _constant(_RESULT),
    "Image": _constant(
        _object(
            content.Image,
            Member("url", _URL),
            _optional("media_type", _STR),
            _optional("detail", _STR),
        )
    ),
    "Audio": _constant(_object(content.Audio, Member("url", _URL), _optional("media_type", _STR))),
    "File": _constant(
        _object(
            content.File,
            Member("url", _URL),
            _optional("name", _STR),
            _optional("media_type", _STR),
        )
    ),
    "Document": _constant(
        _object(
            content.Document,
            Member("text", _STR),
            _optional("title", _STR),
            _optional("source", _STR),
        )
    ),
    "Code": _constant(_object(content.Code, Member("text", _STR), _optional("language", _STR))),
    "History": _constant(
        _object(
            content.History, Member("messages", make("list", _TURN), is_required=False, default=[])
        )
    ),
    "ToolCalls": _constant(
        _object(
            content.ToolCalls, Member("calls", make("list", _CALL), is_required=False, default=[])
        )
    ),
    "Citations": _constant(
        _object(
            content.Citations,
            Member("items", make("list", _CITATION), is_required=False, default=[]),
        )
    ),
    "Cited": _constant(
        _object(
            content.Cited,
            Member("statements", make("list", _STATEMENT), is_required=False, default=[]),
        )
    ),
    "Passage": _constant(_PASSAGE),
}
