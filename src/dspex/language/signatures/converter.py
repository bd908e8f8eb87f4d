"""Converts types between our string form, Python, JSON Schema, GraphQL and dspy.

Every notation can write every type. Reading back gives an equal type if the notation can express
it: our text and Python annotations always (media and ML types by their names); JSON Schema except
for our names of basic types (`probability` becomes `float[ge=0, le=1]`); GraphQL and dspy for the
types in their columns of `TABLE`.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any

from dspex.errors import SignatureError
from dspex.language.signatures.annotations import with_rules
from dspex.language.signatures.builtin import expand
from dspex.language.signatures.grammar import parse_type
from dspex.language.signatures.json_schema import type_schema
from dspex.language.signatures.kinds import ALIASES, KINDS
from dspex.language.signatures.schema_reader import SchemaReader
from dspex.language.signatures.string_form import type_text
from dspex.language.signatures.types import Type, make, union


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeNames:
    """The names of one kind in the other notations; empty if a notation has no name for it."""

    python: str
    graphql: str
    dspy: str


TABLE: dict[str, TypeNames] = {
    "str": TypeNames(python="str", graphql="String", dspy="str"),
    "int": TypeNames(python="int", graphql="Int", dspy="int"),
    "float": TypeNames(python="float", graphql="Float", dspy="float"),
    "bool": TypeNames(python="bool", graphql="Boolean", dspy="bool"),
    "any": TypeNames(python="Any", graphql="JSON", dspy="Any"),
    "none": TypeNames(python="None", graphql="", dspy="None"),
    "binary": TypeNames(python="bytes", graphql="", dspy="bytes"),
    "list": TypeNames(python="list", graphql="", dspy="list"),
    "dict": TypeNames(python="dict", graphql="", dspy="dict"),
    "tuple": TypeNames(python="tuple", graphql="", dspy="tuple"),
    "probability": TypeNames(python="probability", graphql="Probability", dspy=""),
    "embedding": TypeNames(python="embedding", graphql="Embedding", dspy=""),
    "Image": TypeNames(python="Image", graphql="", dspy="dspy.Image"),
    "Audio": TypeNames(python="Audio", graphql="", dspy="dspy.Audio"),
    "File": TypeNames(python="File", graphql="", dspy="dspy.File"),
    "Document": TypeNames(python="Document", graphql="", dspy="dspy.Document"),
    "Code": TypeNames(python="Code", graphql="", dspy="dspy.Code"),
    "History": TypeNames(python="History", graphql="", dspy="dspy.History"),
    "ToolCalls": TypeNames(python="ToolCalls", graphql="", dspy="dspy.ToolCalls"),
    "Citations": TypeNames(python="Citations", graphql="", dspy="dspy.Citations"),
    "Cited": TypeNames(python="Cited", graphql="", dspy=""),
    "Passage": TypeNames(python="Passage", graphql="", dspy=""),
}
_FROM_GRAPHQL = {row.graphql: kind for kind, row in TABLE.items() if row.graphql} | {"ID": "str"}
_FROM_DSPY = re.compile(r"\b(?:dspy|typing|t)\.(?=\w)")
_GRAPHQL = re.compile(r"[\[\]!]|\w+")


class TypeConverter:
    """Writes types in other notations and reads them back. Stateless; every method is pure."""

    @staticmethod
    def to_text(type_: Type) -> str:
        """Return the string form."""
        return type_text(type_, full=True)

    @staticmethod
    def from_text(text: str) -> Type:
        """Read the string form."""
        return parse_type(text)

    @staticmethod
    def to_json_schema(type_: Type) -> dict[str, Any]:
        """Return JSON Schema 2020-12."""
        return type_schema(type_)

    @staticmethod
    def from_json_schema(schema: dict[str, Any]) -> Type:
        """Read JSON Schema; raise `SignatureError` if no type can express it."""
        return SchemaReader(schema).root_type()

    @staticmethod
    def to_python(type_: Type) -> str:
        """Return a Python annotation as text, such as `Annotated[str, Field(max_length=3)]`."""
        rules = {name: value for name, value in type_.constraints if name not in {"one_of", "tag"}}
        match type_.kind:
            case "union":
                text = " | ".join(TypeConverter.to_python(arg) for arg in type_.args)
                rules = dict(type_.constraints)
            case "atom":
                text = f"Literal[{', '.join(repr(value) for value in type_.constraint('one_of'))}]"
            case "object" | "ref":
                return repr(type_text(type_, full=True))  # quoted like a forward reference
            case kind:
                name = TABLE[kind].python if kind in TABLE else kind
                text = (
                    f"{name}[{', '.join(TypeConverter.to_python(arg) for arg in type_.args)}]"
                    if type_.args
                    else name
                )
        options = ", ".join(f"{name}={value!r}" for name, value in rules.items())
        return f"Annotated[{text}, Field({options})]" if options else text

    @staticmethod
    def from_python(text: str) -> Type:
        """Read a Python annotation as text, without evaluating it."""
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise SignatureError(f"{text!r} is not a Python annotation: {error}") from None
        return _read_python(tree)

    @staticmethod
    def to_graphql(type_: Type) -> str:
        """Return a GraphQL type, with `!` if it excludes null; `JSON` if GraphQL has none."""
        if type_.kind == "union":
            members = [arg for arg in type_.args if arg.kind != "none"]
            text = TypeConverter.to_graphql(members[0]) if len(members) == 1 else "JSON!"
            return text.removesuffix("!") if type_.is_optional else text
        if type_.kind == "list" and type_.args:
            return f"[{TypeConverter.to_graphql(type_.args[0])}]!"
        if type_.kind == "atom" and all(
            isinstance(value, str) for value in type_.constraint("one_of")
        ):
            return "String!"
        name = TABLE[type_.kind].graphql if type_.kind in TABLE else ""
        if not name:
            expansion = expand(type_)
            return (
                "JSON!"
                if expansion is type_ or expansion.kind == "object"
                else TypeConverter.to_graphql(expansion)
            )
        return f"{name}!"

    @staticmethod
    def from_graphql(text: str) -> Type:
        """Read a GraphQL type made of lists and the scalars of the table."""
        return _read_graphql(text)

    @staticmethod
    def to_dspy(type_: Type) -> str:
        """Return the type in the notation of dspy's string signatures, which omits constraints."""
        match type_.kind:
            case "union":
                members = [TypeConverter.to_dspy(arg) for arg in type_.args if arg.kind != "none"]
                text = members[0] if len(members) == 1 else f"Union[{', '.join(members)}]"
                return f"Optional[{text}]" if len(members) < len(type_.args) else text
            case "atom":
                return f"Literal[{', '.join(repr(value) for value in type_.constraint('one_of'))}]"
            case "object" | "ref":
                return type_.title or "dict"
        row = TABLE.get(type_.kind)
        if row is None or not row.dspy:
            expansion = expand(type_)
            return type_.kind if expansion is type_ else TypeConverter.to_dspy(expansion)
        return (
            f"{row.dspy}[{', '.join(TypeConverter.to_dspy(arg) for arg in type_.args)}]"
            if type_.args
            else row.dspy
        )

    @staticmethod
    def from_dspy(text: str) -> Type:
        """Read a type of dspy's string signatures."""
        return TypeConverter.from_python(_FROM_DSPY.sub("", text))


def _read_python(node: ast.expr) -> Type:
    match node:
        case ast.Constant(value=None):
            return make("none")
        case ast.Constant(value=str(text)):
            return parse_type(text)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return union(_read_python(left), _read_python(right))
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return make(name)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return _read_generic(name, parts)
    raise SignatureError(f"{ast.unparse(node)!r} is not a type")


def _read_generic(name: str, parts: list[ast.expr]) -> Type:
    if name == "Literal":
        return make("atom", constraints={"one_of": [_value(part) for part in parts]})
    if name == "Annotated":
        return _annotated(_read_python(parts[0]), parts[1:])
    if name == "Optional":
        return union(_read_python(parts[0]), make("none"))
    if ALIASES.get(name, name) not in KINDS:
        raise SignatureError(f"{name!r} is not a generic type")
    return make(name, *(_read_python(part) for part in parts))


def _annotated(inner: Type, marks: list[ast.expr]) -> Type:
    rules: dict[str, Any] = {}
    for mark in marks:
        if not isinstance(mark, ast.Call):
            raise SignatureError(f"{ast.unparse(mark)!r} is not Field(...)")
        rules |= {keyword.arg: _value(keyword.value) for keyword in mark.keywords if keyword.arg}
    return with_rules(inner, rules)


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise SignatureError(f"{ast.unparse(node)!r} is not a plain value") from None


def _read_graphql(text: str) -> Type:
    words = _GRAPHQL.findall(text)
    if "".join(words) != text.replace(" ", ""):
        raise SignatureError(f"{text!r} is not a GraphQL type")

    def read() -> Type:
        word = words.pop(0) if words else ""
        if word == "[":
            type_ = make("list", read())
            if not words or words.pop(0) != "]":
                raise SignatureError(f"{text!r}: the list is not closed with ]")
        elif word in _FROM_GRAPHQL:
            type_ = make(_FROM_GRAPHQL[word])
        else:
            raise SignatureError(
                f"{text!r}: unknown scalar {word!r}; scalars are: {', '.join(_FROM_GRAPHQL)}"
            )
        if words and words[0] == "!":
            words.pop(0)
            return type_
        return union(type_, make("none"))

    type_ = read()
    if words:
        raise SignatureError(f"{text!r}: unexpected text after the type: {''.join(words)!r}")
    return type_
