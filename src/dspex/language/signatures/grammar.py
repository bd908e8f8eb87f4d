"""The string form: `"question, context: list[str] -> answer: str[max_length=200] "the answer", score: float?"`.

signature   = [fields] "->" fields
fields      = field {"," field}
field       = NAME [":" type] [STRING] ["=" value]
type        = postfix {"|" postfix}
postfix     = atom {"?"}
atom        = NAME {"[" bracket "]"}
bracket     = NAME "=" value {"," NAME "=" value} | (type | value) {"," (type | value)}
value       = STRING | NUMBER | "true" | "false" | "null" | "[" [value {"," value}] "]" | "{" [STRING ":" value ...] "}"
"""

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from dspex.errors import SignatureError
from dspex.language.signatures.field import MISSING, Field, Role
from dspex.language.signatures.types import Type, make, union

_TOKEN = re.compile(
    r"""\s*(?:(?P<arrow>->)|(?P<name>[^\W\d]\w*)|(?P<number>[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"""
    r"""|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[][{}:,=|?]))"""
)
_WORDS: dict[str, Any] = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_DEPTH = 50
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


def parse_fields(text: str) -> tuple[Field, ...]:
    """Return the fields of a whole string signature, inputs first.

    Raises:
        SignatureError: with the column, what was read and what was expected there.
    """
    parser = _Parser(text)
    inputs = () if parser.peek().kind == "arrow" else parser.fields("input")
    parser.expect("arrow", "'->' between inputs and outputs")
    outputs = parser.fields("output")
    parser.expect("end", "',' or the end")
    return (*inputs, *outputs)


def parse_type(text: str) -> Type:
    """Return the type that `text` names, such as `list[str][min_items=1]`."""
    parser = _Parser(text)
    found = parser.type()
    parser.expect("end", "the end of the type")
    return found


class _Parser:
    """One pass over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokenize()
        self.at = 0
        self.depth = 0

    def _tokenize(self) -> list[_Token]:
        tokens, position, end = [], 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None or match.lastgroup is None:
                column = position + len(self.text[position:]) - len(self.text[position:].lstrip())
                self.fail(column, repr(self.text[column]), "a field name, a type or one of -> : , = | ? [ ]")
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            position = match.end()
        return [*tokens, _Token("end", "the end", len(self.text))]

    def fail(self, column: int, read: str, expected: str) -> NoReturn:
        start = max(0, column - 60)
        shown = self.text[start : column + 60].replace("\n", " ")
        raise SignatureError(
            f"at column {column + 1}: expected {expected}, but read {read}\n  {shown}\n  {' ' * (column - start)}^",
            column=column + 1,
        )

    def peek(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def accept(self, text: str) -> bool:
        if self.peek().kind == "mark" and self.peek().text == text:
            self.at += 1
            return True
        return False

    def expect(self, kind: str, expected: str) -> _Token:
        token = self.take()
        if token.kind != kind and token.text != kind:
            self.fail(token.column, repr(token.text) if token.kind != "end" else "the end", expected)
        return token

    def fields(self, role: Role) -> tuple[Field, ...]:
        found = [self.field(role)]
        while self.accept(","):
            found.append(self.field(role))
        return tuple(found)

    def field(self, role: Role) -> Field:
        name = self.expect("name", f"the name of an {role} field").text
        type_ = self.type() if self.accept(":") else make("str")
        desc = _unquote(self.take().text) if self.peek().kind == "string" else ""
        default = self.value() if self.accept("=") else MISSING
        return Field(name=name, type=type_, role=role, desc=desc, default=default)

    def type(self) -> Type:
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail(self.peek().column, "a deeper type", f"at most {_DEPTH} levels of nesting")
        members = [self.postfix()]
        while self.accept("|"):
            members.append(self.postfix())
        self.depth -= 1
        return union(*members)

    def postfix(self) -> Type:
        found = self.atom()
        while self.accept("?"):
            found = union(found, make("none"))
        return found

    def atom(self) -> Type:
        token = self.expect("name", "the name of a type")
        args: list[Any] = []
        rules: dict[str, Any] = {}
        while self.accept("["):
            self.bracket(args, rules)
            self.expect("]", "',' or ']'")
        try:
            return _built(token.text, args, rules)
        except SignatureError as error:
            raise SignatureError(f"at column {token.column + 1}: {error.message}", column=token.column + 1) from None

    def bracket(self, args: list[Any], rules: dict[str, Any]) -> None:
        while True:
            following = self.tokens[min(self.at + 1, len(self.tokens) - 1)]
            if self.peek().kind == "name" and following.text == "=" and following.kind == "mark":
                name = self.take().text
                self.take()
                rules[name] = self.value()
            elif self.peek().kind == "name":
                args.append(self.type())
            else:
                args.append(self.value())
            if not self.accept(","):
                return

    def value(self) -> Any:  # noqa: ANN401  # any JSON value
        token = self.take()
        if token.kind == "string":
            return _unquote(token.text)
        if token.kind == "number":
            return float(token.text) if any(mark in token.text for mark in ".eE") else int(token.text)
        if token.kind == "name" and token.text in _WORDS:
            return _WORDS[token.text]
        if token.text == "[":
            return self._items()
        return self.fail(token.column, repr(token.text), 'a value: "text", a number, true, false, null or [values]')

    def _items(self) -> list[Any]:
        items: list[Any] = []
        while not self.accept("]"):
            items.append(self.value())
            if not self.accept(","):
                self.expect("]", "',' or ']'")
                break
        return items


def _built(name: str, args: list[Any], rules: dict[str, Any]) -> Type:
    if name in {"Literal", "atom"}:
        choices = [*args, *rules.get("one_of", ())]
        if not choices:
            raise SignatureError(f"{name} needs its values: {name}['a', 'b']")
        return Type("atom", constraints=(("one_of", tuple(choices)),))
    if name == "Optional" and len(args) == 1:
        return union(args[0], make("none"))
    if name == "str" and "choices" in rules:
        return Type("atom", constraints=(("one_of", tuple(rules["choices"])),))
    for arg in args:
        if not isinstance(arg, Type):
            raise SignatureError(f"type {name!r} takes types and name=value constraints in brackets, not {arg!r}")
    return make(name, *args, constraints=rules)


def _unquote(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else _ESCAPES.get(m[1], m[1]), text[1:-1])
