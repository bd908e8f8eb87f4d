"""The string form of signatures.

For example: `"question, context: list[str] -> answer: str[max_length=200], score: float?"`.

signature = fields_of | [NAME | STRING] "(" fields_of ")" [STRING]
            (name of the signature; the last string is its instructions)
fields_of = [fields] "->" fields
fields    = field {"," field}
field     = NAME ["as" STRING] [":" type] [STRING] ["=" value] [STRING]
            (name, alias, type, description, default)
type      = postfix {"|" postfix}
postfix   = atom {"?" | "[" rules "]"}
atom      = NAME ["[" bracket "]"] | "(" type ")" | [NAME] "{" [member {"," member}] "}"
bracket   = rules | (type | value) {"," (type | value)}
rules     = NAME "=" value {"," NAME "=" value}
member    = (NAME | STRING) ["?"] ":" type [STRING] ["=" value] [STRING]
            ("?" after the name: it may be absent)
value     = STRING | NUMBER | "true" | "false" | "null"
          | "[" [value {"," value}] "]" | "{" [STRING ":" value ...] "}"

In `Node{value: int, children: list[Node]}`, the name of an enclosing object refers to that object.
"""

from dataclasses import dataclass
from typing import Any

from dspex.error_text import suggest
from dspex.errors import SignatureError
from dspex.language.signatures.field import Field, Role
from dspex.language.signatures.kinds import ALIASES, KINDS
from dspex.language.signatures.tokens import Token, fail, tokenize, unquote
from dspex.language.signatures.types import (
    MISSING,
    Member,
    Type,
    make,
    object_type,
    union,
    unknown_type,
)

_WORDS: dict[str, Any] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}
_DEPTH = 50
_DIGITS = 4000  # more than Python converts to a number


@dataclass(frozen=True, slots=True)
class ParsedSignature:
    """A parsed string signature, and the column of each field in order, for later errors."""

    name: str
    instructions: str
    fields: tuple[Field, ...]
    columns: tuple[int, ...]


def parse(text: str, types: dict[str, Type] | None = None) -> ParsedSignature:
    """Parse the string form; `types` are additional types by name.

    Raises:
        SignatureError: states the column, the text there, and what was expected.
    """
    parser = _Parser(text, types)
    name, instructions = "", ""
    is_wrapped = parser.is_parenthesized()
    if is_wrapped:
        token = parser.take() if parser.peek().text != "(" else None
        name = (
            "" if token is None else unquote(token.text) if token.kind == "string" else token.text
        )
        parser.expect("(", "'('")
    fields = parser.all_fields()
    if is_wrapped:
        parser.expect(")", "',' or ')'")
        instructions = parser.description()
    parser.expect("end", "',' or the end")
    return ParsedSignature(name, instructions, fields, tuple(parser.columns))


def parse_type(text: str, types: dict[str, Type] | None = None) -> Type:
    """Parse the text of a type, such as `list[str][min_items=1]`."""
    parser = _Parser(text, types)
    type_ = parser.type()
    parser.expect("end", "the end of the type")
    return type_


class _Parser:
    """A recursive-descent parser of one text."""

    def __init__(self, text: str, types: dict[str, Type] | None) -> None:
        self.text = text
        self.types = types or {}
        self.tokens = tokenize(text)
        self.at = 0
        self.depth = 0
        self.columns: list[int] = []
        self.enclosing: list[str] = []

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def accept(self, mark: str) -> bool:
        is_next = self.peek().kind == "mark" and self.peek().text == mark
        self.at += is_next
        return is_next

    def expect(self, kind: str, expected: str) -> Token:
        token = self.take()
        if token.kind != kind and (token.kind != "mark" or token.text != kind):
            fail(self.text, token.column, f"expected {expected}, but read {token.quoted}")
        return token

    def is_parenthesized(self) -> bool:
        first, second = self.peek(), self.peek(1)
        return first.text == "(" or (
            first.kind in {"name", "string"} and second.kind == "mark" and second.text == "("
        )

    def all_fields(self) -> tuple[Field, ...]:
        inputs = () if self.peek().kind == "arrow" else self.fields("input")
        self.expect(
            "arrow",
            "',' or '->' between inputs and outputs"
            if inputs
            else "'->' between inputs and outputs",
        )
        return (*inputs, *self.fields("output"))

    def fields(self, role: Role) -> tuple[Field, ...]:
        fields = [self.field(role)]
        while self.accept(","):
            fields.append(self.field(role))
        return tuple(fields)

    def field(self, role: Role) -> Field:
        token = self.expect("name", f"the name of an {role} field")
        self.columns.append(token.column)
        alias = None
        if self.peek().kind == "name" and self.peek().text == "as":
            self.take()
            alias = unquote(self.expect("string", "the alias in quotes").text)
        type_ = self.type() if self.accept(":") else make("str")
        desc, default = self.description_and_default()
        return Field(
            name=token.text, type=type_, role=role, desc=desc, default=default, alias=alias
        )

    def description_and_default(self) -> tuple[str, Any]:
        """Read a description and a default, in either order."""
        desc = self.description()
        default = self.value() if self.accept("=") else MISSING
        return desc or self.description(), default

    def description(self) -> str:
        return unquote(self.take().text) if self.peek().kind == "string" else ""

    def enter_level(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            fail(self.text, self.peek().column, f"nested deeper than {_DEPTH} levels")

    def type(self) -> Type:
        self.enter_level()
        members = [self.postfix()]
        while self.accept("|"):
            members.append(self.postfix())
        self.depth -= 1
        return union(*members)

    def postfix(self) -> Type:
        type_ = self.atom()
        while True:
            token = self.peek()
            if self.accept("?"):
                # repeated marks mean the same, and each would walk the whole type
                while self.accept("?"):
                    pass
                type_ = union(type_, make("none"))
            elif self.accept("["):
                type_ = self.constrained_type(token, type_)
            else:
                return type_

    def atom(self) -> Type:
        if self.accept("("):
            type_ = self.type()
            self.expect(")", "'|' or ')'")
            return type_
        if self.peek().text == "{" and self.peek().kind == "mark":
            return self.object("")
        token = self.expect("name", "the name of a type")
        if self.peek().text == "{" and self.peek().kind == "mark":
            return self.object(token.text)
        if token.text in self.enclosing:
            return Type("ref", title=token.text)
        if token.text in self.types:
            return self.types[token.text]
        args: list[Any] = []
        rules: dict[str, Any] = {}
        columns: dict[str, int] = {}
        if (
            token.text not in KINDS
            and token.text not in ALIASES
            and token.text not in {"Literal", "Optional"}
        ):
            self.fail_unknown(token)
        while (
            self.peek().text == "["
            and self.peek().kind == "mark"
            and (not rules or token.text in {"list", "dict"})
        ):
            self.take()
            self.bracket(args, rules, columns)
            self.expect("]", "',' or ']'")
        return self.build_at(token, columns, lambda: _build_type(token.text, args, rules))

    def fail_unknown(self, token: Token) -> None:
        hint = suggest(token.text, list(self.types)) if self.types else ""
        near = f" ({token.text!r} is read as a type here)" if self.peek().kind == "name" else ""
        fail(self.text, token.column, unknown_type(token.text) + hint + near)

    def build_at(self, token: Token, columns: dict[str, int], build: Any) -> Type:
        """Build a type; an error points at the wrong constraint or name."""
        try:
            return build()  # type: ignore[no-any-return]
        except SignatureError as error:
            at = columns.get(str(error.context.get("constraint")), token.column)
            return fail(self.text, at, error)

    def constrained_type(self, token: Token, type_: Type) -> Type:
        """Read the constraints after a group, an object or an optional type."""
        args: list[Any] = []
        rules: dict[str, Any] = {}
        columns: dict[str, int] = {}
        self.bracket(args, rules, columns)
        self.expect("]", "',' or ']'")
        if args:
            fail(self.text, token.column, "only name=value constraints can follow here")
        return self.build_at(token, columns, lambda: _with_rules(type_, rules))

    def bracket(self, args: list[Any], rules: dict[str, Any], columns: dict[str, int]) -> None:
        while True:
            token = self.peek()
            following = self.peek(1)
            if token.kind == "name" and following.text == "=" and following.kind == "mark":
                if token.text in rules:
                    fail(self.text, token.column, f"constraint {token.text!r} is given twice")
                columns[self.take().text] = token.column
                self.take()
                rules[token.text] = self.value()
            elif token.kind in {"string", "number"} or (
                token.text in _WORDS and token.text not in {"None", "null"}
            ):
                args.append(_Value(self.value()))
            else:
                args.append(self.type())
            if not self.accept(","):
                return

    def object(self, title: str) -> Type:
        self.enter_level()
        opening = self.expect("{", "'{'")
        self.enclosing.append(title)
        members: list[Member] = []
        columns: dict[str, int] = {}
        while not self.accept("}"):
            member = self.member(columns)
            columns[member.name] = opening.column
            members.append(member)
            if not self.accept(","):
                self.expect("}", "',' or '}'")
                break
        self.enclosing.pop()
        self.depth -= 1
        return self.build_at(opening, {}, lambda: object_type(title, tuple(members)))

    def member(self, columns: dict[str, int]) -> Member:
        token = self.take()
        if token.kind not in {"name", "string"}:
            fail(self.text, token.column, f"expected the name of a member, but read {token.quoted}")
        name = unquote(token.text) if token.kind == "string" else token.text
        if name in columns:
            fail(self.text, token.column, f"there are two members named {name!r}")
        may_be_absent = self.accept("?")
        type_ = self.type() if self.accept(":") else make("str")
        desc, default = self.description_and_default()
        required = default is MISSING and not may_be_absent
        return Member(name, type_, desc, is_required=required, default=default)

    def value(self) -> Any:
        self.enter_level()
        token = self.take()
        self.depth -= 1
        if token.kind == "string":
            return unquote(token.text)
        if token.kind == "number":
            return self.number(token)
        if token.kind == "name" and token.text in _WORDS:
            return _WORDS[token.text]
        if token.kind == "mark" and token.text in {"[", "{"}:
            self.depth += 1
            value = self.items() if token.text == "[" else self.pairs()
            self.depth -= 1
            return value
        expected = 'a value ("text", a number, true, false, null, [values] or {"key": value})'
        return fail(self.text, token.column, f"expected {expected}, but read {token.quoted}")

    def number(self, token: Token) -> int | float:
        if len(token.text) > _DIGITS:
            fail(self.text, token.column, f"a number of more than {_DIGITS} digits")
        value = float(token.text) if any(mark in token.text for mark in ".eE") else int(token.text)
        if value in (float("inf"), float("-inf")):
            fail(self.text, token.column, "a number too large for a float")
        return value

    def items(self) -> list[Any]:
        items: list[Any] = []
        while not self.accept("]"):
            items.append(self.value())
            if not self.accept(","):
                self.expect("]", "',' or ']'")
                break
        return items

    def pairs(self) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        while not self.accept("}"):
            key = unquote(self.expect("string", "a key in quotes").text)
            self.expect(":", "':'")
            pairs[key] = self.value()
            if not self.accept(","):
                self.expect("}", "',' or '}'")
                break
        return pairs


@dataclass(frozen=True, slots=True)
class _Value:
    """A plain value between brackets, as in `Literal['a', 'b']`."""

    value: Any


def _build_type(name: str, args: list[Any], rules: dict[str, Any]) -> Type:
    if name in {"Literal", "atom"}:
        values = [_literal(arg) for arg in args]
        return make(
            "atom",
            constraints={**rules, "one_of": [*values, *rules.get("one_of", ())]}
            if values
            else rules,
        )
    for arg in args:
        if isinstance(arg, _Value):
            raise SignatureError(
                f"type {name!r} takes types and name=value constraints in brackets, not "
                f"{arg.value!r}"
            )
    if name == "Optional":
        if len(args) != 1:
            raise SignatureError("Optional takes one type: Optional[int], or int?")
        return union(args[0], make("none"))
    return make(name, *args, constraints=rules)


def _literal(arg: object) -> Any:
    if isinstance(arg, _Value):
        return arg.value
    if isinstance(arg, Type) and arg.kind == "none":
        return None
    raise SignatureError(
        "a Literal holds values, not types: quote strings, as in Literal['a', 'b']"
    )


def _with_rules(type_: Type, rules: dict[str, Any]) -> Type:
    if type_.kind == "object":
        return object_type(type_.title, type_.members, constraints=rules, python=type_.python)
    if type_.kind == "union" and rules.keys() <= {"tag", "required"}:
        return make("union", type_, constraints={**dict(type_.constraints), **rules})
    members = tuple(arg for arg in type_.args if arg.kind != "none")
    if type_.kind == "union" and len(members) == 1:
        return union(
            *(arg if arg.kind == "none" else _with_rules(arg, rules) for arg in type_.args)
        )
    return make(type_.kind, *type_.args, constraints={**dict(type_.constraints), **rules})
