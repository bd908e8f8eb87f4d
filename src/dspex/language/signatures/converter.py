"""One table between the notations of types: ours, Python's, JSON Schema's, GraphQL's and dspy's.

Every notation can write every type. Reading back gives an equal type where the notation can hold it: our text and the
Python annotation always (media and ML types by their names), JSON Schema where a type is no name of ours for a basic
one (`probability` comes back as `float[ge=0, le=1]`), GraphQL and dspy for the types in their columns of `TABLE`.
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
from dspex.language.signatures.reading import SchemaReader
from dspex.language.signatures.rendering import type_text
from dspex.language.signatures.types import Type, make, union


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How the other notations name one kind; empty where one has no name for it."""

    python: str
    graphql: str
    dspy: str


TABLE: dict[str, Row] = {
    "str": Row(python="str", graphql="String", dspy="str"),
    "int": Row(python="int", graphql="Int", dspy="int"),
    "float": Row(python="float", graphql="Float", dspy="float"),
    "bool": Row(python="bool", graphql="Boolean", dspy="bool"),
    "any": Row(python="Any", graphql="JSON", dspy="Any"),
    "none": Row(python="None", graphql="", dspy="None"),
    "binary": Row(python="bytes", graphql="", dspy="bytes"),
    "list": Row(python="list", graphql="", dspy="list"),
    "dict": Row(python="dict", graphql="", dspy="dict"),
    "tuple": Row(python="tuple", graphql="", dspy="tuple"),
    "probability": Row(python="probability", graphql="Probability", dspy=""),
    "embedding": Row(python="embedding", graphql="Embedding", dspy=""),
    "Image": Row(python="Image", graphql="", dspy="dspy.Image"),
    "Audio": Row(python="Audio", graphql="", dspy="dspy.Audio"),
    "File": Row(python="File", graphql="", dspy="dspy.File"),
    "Document": Row(python="Document", graphql="", dspy="dspy.Document"),
    "Code": Row(python="Code", graphql="", dspy="dspy.Code"),
    "History": Row(python="History", graphql="", dspy="dspy.History"),
    "ToolCalls": Row(python="ToolCalls", graphql="", dspy="dspy.ToolCalls"),
    "Citations": Row(python="Citations", graphql="", dspy="dspy.Citations"),
}
_FROM_GRAPHQL = {row.graphql: kind for kind, row in TABLE.items() if row.graphql} | {"ID": "str"}
_FROM_DSPY = re.compile(r"\b(?:dspy|typing|t)\.(?=\w)")
_GRAPHQL = re.compile(r"[\[\]!]|\w+")


class TypeConverter:
    """Writes types in other notations and reads them back. It has no state; every method is a pure function."""

    @staticmethod
    def to_text(type_: Type) -> str:
        """Return the words of the string form."""
        return type_text(type_, full=True)

    @staticmethod
    def from_text(text: str) -> Type:
        """Read the words of the string form."""
        return parse_type(text)

    @staticmethod
    def to_json_schema(type_: Type) -> dict[str, Any]:
        """Return JSON Schema 2020-12."""
        return type_schema(type_)

    @staticmethod
    def from_json_schema(schema: dict[str, Any]) -> Type:
        """Read JSON Schema; raise a `SignatureError` where it says what no type can hold."""
        return SchemaReader(schema).whole()

    @staticmethod
    def to_python(type_: Type) -> str:
        """Return a Python annotation as text: `list[int] | None`, `Annotated[str, Field(max_length=3)]`."""
        return _python(type_)

    @staticmethod
    def from_python(text: str) -> Type:
        """Read a Python annotation as text, without evaluating it."""
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise SignatureError(f"{text!r} is no Python annotation: {error}") from None
        return _read_python(tree)

    @staticmethod
    def to_graphql(type_: Type) -> str:
        """Return a GraphQL type, `!` where null is no value; what GraphQL has no type for is `JSON`."""
        return _graphql(type_)

    @staticmethod
    def from_graphql(text: str) -> Type:
        """Read a GraphQL type made of lists and the scalars of the table."""
        return _read_graphql(text)

    @staticmethod
    def to_dspy(type_: Type) -> str:
        """Return the type as dspy's string signatures name it; constraints, which it has no words for, are left out."""
        return _dspy(type_)

    @staticmethod
    def from_dspy(text: str) -> Type:
        """Read a type of dspy's string signatures."""
        return TypeConverter.from_python(_FROM_DSPY.sub("", text))


def _python(type_: Type) -> str:
    rules = {name: value for name, value in type_.constraints if name not in {"one_of", "tag"}}
    match type_.kind:
        case "union":
            made = " | ".join(_python(arg) for arg in type_.args)
            rules = dict(type_.constraints)
        case "atom":
            made = f"Literal[{', '.join(repr(value) for value in type_.constraint('one_of'))}]"
        case "object" | "ref":
            return repr(type_text(type_, full=True))  # an object in quotes, as a forward reference is
        case kind:
            name = TABLE[kind].python if kind in TABLE else kind
            made = f"{name}[{', '.join(_python(arg) for arg in type_.args)}]" if type_.args else name
    said = ", ".join(f"{name}={value!r}" for name, value in rules.items())
    return f"Annotated[{made}, Field({said})]" if said else made


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
    raise SignatureError(f"{ast.unparse(node)!r} is no type")


def _read_generic(name: str, parts: list[ast.expr]) -> Type:
    if name == "Literal":
        return make("atom", constraints={"one_of": [_value(part) for part in parts]})
    if name == "Annotated":
        return _annotated(_read_python(parts[0]), parts[1:])
    if name == "Optional":
        return union(_read_python(parts[0]), make("none"))
    if ALIASES.get(name, name) not in KINDS:
        raise SignatureError(f"there is no generic type {name!r}")
    return make(name, *(_read_python(part) for part in parts))


def _annotated(inner: Type, marks: list[ast.expr]) -> Type:
    rules: dict[str, Any] = {}
    for mark in marks:
        if not isinstance(mark, ast.Call):
            raise SignatureError(f"{ast.unparse(mark)!r} is no Field(...)")
        rules |= {keyword.arg: _value(keyword.value) for keyword in mark.keywords if keyword.arg}
    return with_rules(inner, rules)


def _value(node: ast.expr) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise SignatureError(f"{ast.unparse(node)!r} is no plain value") from None


def _graphql(type_: Type) -> str:
    if type_.kind == "union":
        others = [arg for arg in type_.args if arg.kind != "none"]
        made = _graphql(others[0]) if len(others) == 1 else "JSON!"
        return made.removesuffix("!") if type_.is_optional else made
    if type_.kind == "list" and type_.args:
        return f"[{_graphql(type_.args[0])}]!"
    if type_.kind == "atom" and all(isinstance(value, str) for value in type_.constraint("one_of")):
        return "String!"
    name = TABLE[type_.kind].graphql if type_.kind in TABLE else ""
    if not name:
        made_of = expand(type_)
        return "JSON!" if made_of is type_ or made_of.kind == "object" else _graphql(made_of)
    return f"{name}!"


def _read_graphql(text: str) -> Type:
    words = _GRAPHQL.findall(text)
    if "".join(words) != text.replace(" ", ""):
        raise SignatureError(f"{text!r} is no GraphQL type")

    def read() -> Type:
        word = words.pop(0) if words else ""
        if word == "[":
            made = make("list", read())
            if not words or words.pop(0) != "]":
                raise SignatureError(f"{text!r}: a list that never ends")
        elif word in _FROM_GRAPHQL:
            made = make(_FROM_GRAPHQL[word])
        else:
            raise SignatureError(f"{text!r}: there is no scalar {word!r}; there are: {', '.join(_FROM_GRAPHQL)}")
        if words and words[0] == "!":
            words.pop(0)
            return made
        return union(made, make("none"))

    made = read()
    if words:
        raise SignatureError(f"{text!r}: something follows the type: {''.join(words)!r}")
    return made


def _dspy(type_: Type) -> str:
    match type_.kind:
        case "union":
            others = [_dspy(arg) for arg in type_.args if arg.kind != "none"]
            made = others[0] if len(others) == 1 else f"Union[{', '.join(others)}]"
            return f"Optional[{made}]" if len(others) < len(type_.args) else made
        case "atom":
            return f"Literal[{', '.join(repr(value) for value in type_.constraint('one_of'))}]"
        case "object" | "ref":
            return type_.title or "dict"
    row = TABLE.get(type_.kind)
    if row is None or not row.dspy:
        made_of = expand(type_)
        return type_.kind if made_of is type_ else _dspy(made_of)
    return f"{row.dspy}[{', '.join(_dspy(arg) for arg in type_.args)}]" if type_.args else row.dspy
