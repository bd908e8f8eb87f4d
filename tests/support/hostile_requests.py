"""Requests that try to hold or fill a server, each within the default limit of a body."""

import base64
import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints
from urllib.parse import quote

from dspex.operations.domain import DOMAIN
from dspex.operations.framework.action import Action

MOST = 4 * 1024 * 1024 - 4096
LOOK_AHEAD = r"^(?=.)(.+)+\x01$"


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a body, built only when they are sent.

    All of them together would fill the memory.
    """

    size: int
    build: Callable[[], bytes]

    def __add__(self, other: "Body | bytes") -> "Body":
        return _joined(self, body_of(other))

    def __radd__(self, other: bytes) -> "Body":
        return _joined(body_of(other), self)


@dataclasses.dataclass(frozen=True, slots=True)
class Attack:
    """One request; a path of "websocket" sends its body as a message there."""

    name: str
    path: str
    content: Body | None

    def body(self) -> bytes | None:
        """Build the body."""
        return None if self.content is None else self.content.build()[: MOST + 4096]


def body_of(value: Body | bytes) -> Body:
    return value if isinstance(value, Body) else Body(len(value), lambda: value)


def _joined(*parts: Body) -> Body:
    return Body(sum(part.size for part in parts), lambda: b"".join(part.build() for part in parts))


def filled(begin: str, part: str, end: str, *, most: int = MOST) -> Body:
    """Return a text of about `most` bytes."""
    count = (most - len(begin) - len(end)) // len(part.encode())
    return Body(most, lambda: (begin + part * count + end).encode())


def listed(begin: str, part: str, end: str, *, most: int = MOST) -> Body:
    """Return the same with commas between the parts."""
    count = (most - len(begin) - len(end)) // (len(part.encode()) + 1)
    return Body(most, lambda: (begin + ",".join([part] * count) + end).encode())


def keyed(begin: str, value: str, end: str, *, most: int = MOST, name: str = "k") -> Body:
    """Return an object's text with many different keys."""
    count = (most - len(begin) - len(end)) // (len(name) + len(value) + 11)

    def build() -> bytes:
        return (begin + ",".join(f'"{name}{n:07}":{value}' for n in range(count)) + end).encode()

    return Body(most, build)


VALUES: dict[str, Body] = {
    "objects": listed("[", "{}", "]"),
    "lists": listed("[", "[]", "]"),
    "texts": listed("[", '""', "]"),
    "short texts": listed("[", '"ab"', "]"),
    "numbers": listed("[", "1", "]"),
    "floats": listed("[", "0.1", "]"),
    "nulls": listed("[", "null", "]"),
    "records": listed("[", '{"x":"a"}', "]"),
    "good records": listed("[", '{"x":1}', "]"),
    "rows": listed("[", '{"question":"what is it","answer":"nothing"}', "]"),
    "keys": keyed("{", "1", "}"),
    "long keys": keyed("{", "1", "}", name="k" * 200),
    "key": filled('{"', "k", '":1}'),
    "text": filled('"', "a", '"'),
    "wide text": filled('"', "\u00e9", '"'),
    "escapes": filled('"', "\\u00e9", '"'),
    "zeros": filled('"', "\\u0000", '"'),
    "halves": filled('"', "\\ud800", '"'),
    "deep": Body(MOST, lambda: b"[" * (MOST // 2) + b"]" * (MOST // 2)),
    "deep objects": Body(3_000_000, lambda: b'{"v":' * 500_000 + b"1" + b"}" * 500_000),
    "tree": body_of(b'{"v":{"a":' * 90 + b"1" + b"}}" * 90),
    "wrong tree": body_of(b'{"v":{"a":' * 90 + b'"z"' + b"}}" * 90),
    "wide tree": listed("[", '{"v":{"a":{"v":"z"}}}', "]"),
    "digits": Body(MOST, lambda: b"1" * MOST),
    "fraction": Body(MOST, lambda: b"0." + b"1" * MOST),
    "exponent": body_of(b"1e" + b"9" * 1000),
    "nested lists": listed("[", "[[[[[]]]]]", "]"),
    "turns": listed('{"messages":[', '{"role":"user","content":"hello"}', "]}"),
    "empty turns": listed('{"messages":[', "{}", "]}"),
    "pairs": listed("[", '{"key":"a","value":1}', "]"),
    "rows of columns": b"[" + keyed("{", "1", "}", most=MOST - 2) + b"]",
    # as many values as the text allows
    "many objects": listed("[", "{}", "]", most=80_000),
    "many numbers": listed("[", "1", "]", most=120_000),
    "many turns": listed('{"messages":[', "{}", "]}", most=80_000),
    "many records": listed("[", '{"x":"a"}', "]", most=300_000),
    "padded objects": filled('["', "a", '",', most=MOST - 710_000)
    + listed("", "{}", "]", most=700_000),
    "padded lists": filled('["', "a", '",', most=MOST - 710_000)
    + listed("", "[]", "]", most=700_000),
    "padded rows": filled('[{"a":"', "a", '"},', most=MOST - 900_000)
    + listed("", '{"a":1}', "]", most=890_000),
    "padded columns": filled('[{"a":"', "a", '"},', most=MOST - 1_790_000)
    + keyed("{", "1", "}]", most=1_790_000),
    "spaced objects": listed("[", "{}" + " " * 40, "]"),
    "spaced records": listed("[", '{"x":1}' + " " * 40, "]"),
    "spaced turns": listed('{"messages":[', '{"role":"u","content":{}}' + " " * 50, "]}"),
}
SIGNATURES: dict[str, Callable[[], str]] = {
    "look-ahead": lambda: f"question: str[pattern={json.dumps(LOOK_AHEAD)}] -> answer",
    "recursive union": lambda: "question: N{v: (A{n: N} | B{n: N} | int)} -> answer",
    "classes": lambda: "question: str[pattern='" + r"\\w" * 20_000 + "'] -> answer",
    "some classes": lambda: (
        ", ".join(rf"q{n}: str[pattern='\\w{{200}}']" for n in range(900)) + " -> answer"
    ),
    "marks": lambda: "question: int" + "?" * 1_000_000 + " -> answer",
    "fewer marks": lambda: "question: int" + "?" * 90_000 + " -> answer",
    "optional pattern": lambda: "question: str[pattern='" + "a?" * 1900 + "'] -> answer",
    "fields": lambda: ", ".join(f"a{n}" for n in range(200_000)) + " -> answer",
    "most fields": lambda: ", ".join(f"a{n}: float = 1" for n in range(990)) + " -> answer",
    "members": lambda: (
        "question: {" + ", ".join(f"a{n}: {{b: float = 1}}" for n in range(990)) + "} -> answer"
    ),
    "objects": lambda: (
        ", ".join(f"a{n}: {{b: {{c: {{d: {{e}}}}}}}}" for n in range(900)) + " -> answer"
    ),
    "alternatives": lambda: (
        "question: list[" + " | ".join(f"A{n}{{a{n}: int}}" for n in range(99)) + "] -> answer"
    ),
    "similar": lambda: (
        "question: list[" + " | ".join(f"A{n}{{x?: int}}" for n in range(99)) + "] -> answer"
    ),
    "name": lambda: "a" * 400_000 + " -> answer",
    "choices": lambda: (
        "question: Literal[" + ", ".join(f"'{n}'" for n in range(400_000)) + "] -> answer"
    ),
    "most choices": lambda: (
        "question: Literal[" + ", ".join(f"{n}" for n in range(9_000)) + "] -> answer"
    ),
    "parentheses": lambda: "question: " + "(" * 1_000_000,
    "nesting": lambda: "question: " + "{a: " * 40 + "int" + "}" * 40 + " -> answer",
    "quotes": lambda: "question: '" + "\\" * 4_000_000,
    "default": lambda: "question: any = " + "[" * 1_000_000,
    "wide default": lambda: "question: any = [" + "1," * 45_000 + "1] -> answer",
    "unknown type": lambda: "question: " + "x" * 90_000 + " -> answer",
    "unknown constraint": lambda: "question: str[" + "x" * 90_000 + "=1] -> answer",
    "digits": lambda: "question: int = " + "1" * 90_000 + " -> answer",
    "spaces": lambda: " " * 4_000_000 + "question -> answer",
    "repetitions": lambda: "question: str[pattern='((((a{100}){100}){100}){100}){100}'] -> answer",
    "schema of alternatives": lambda: (
        "question: any[schema="
        + json.dumps(
            {
                "items": {
                    "anyOf": [
                        *({"type": "object", "required": [f"a{n}"]} for n in range(900)),
                        True,
                    ]
                }
            }
        )
        + "] -> answer"
    ),
    "schema of patterns": lambda: (
        "question: any[schema="
        + json.dumps(
            {"anyOf": [{"items": {"pattern": f"(x|y|z){{1,9}}a{n}[a-z]*$"}} for n in range(900)]}
        )
        + "] -> answer"
    ),
    "schema of a long pattern": lambda: (
        'question: any[schema={"pattern": "(\\\\w{1,6}){1,6}$"}] -> answer'
    ),
    "costly": lambda: r"question: str[pattern='(\\w{1,13}){1,13}$'] -> answer",
}
QUERIES: dict[str, str] = {
    "aliases": "{" + " ".join(f"a{n}: __typename" for n in range(1900)) + "}",
    "long name": "{ " + "a" * 32_000 + " }",
    "unknown names": "{" + " ".join(f"executiens{n}" for n in range(1000)) + "}",
    "near names": "{ programs { nodes { " + " ".join(f"nam{n}" for n in range(400)) + " } } }",
    "deep": "{ programs { nodes " * 300 + "}" * 600,
    "braces": "{" * 32_000,
    "comment": "#" * 32_700,
    "spreads": "".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }} " for n in range(28))
    + "{ ...f0 }",
    "arguments": "{ programs(" + " ".join(f"a{n}: 1" for n in range(600)) + ") { totalCount } }",
    "ids": "{ programs(filter: {idIn: [" + ",".join(['"a"'] * 1900) + "]}) { totalCount } }",
    "same": "{" + " ".join(["programs { totalCount }"] * 150) + "}",
    "variables": "query(" + " ".join(f"$v{n}: Int" for n in range(450)) + ") { __typename }",
    "directives": "{ __typename " + "@skip(if: false) " * 300 + "}",
    "text": '{ programs(filter: {nameContains: "' + "a" * 32_000 + '"}) { totalCount } }',
    "lists": "{ programs(filter: {nameIn: " + "[" * 900 + "]" * 900 + "}) { totalCount } }",
}


def rest(name: str, path: str, body: Body) -> Attack:
    return Attack(name, path, body)


def _object(**parts: Body | bytes) -> Body:
    names = [json.dumps(name).encode() + b":" for name in parts]
    values = [body_of(value) for value in parts.values()]

    def build() -> bytes:
        return (
            b"{"
            + b",".join(name + value.build() for name, value in zip(names, values, strict=True))
            + b"}"
        )

    return Body(
        sum(len(name) + value.size for name, value in zip(names, values, strict=True)), build
    )


def text_of(value: str | Callable[[], str]) -> Body:
    if isinstance(value, str):
        return body_of(json.dumps(value).encode())
    return Body(0, lambda: json.dumps(value()).encode())


def known() -> Iterator[Attack]:
    """Yield the attacks that were found, and their kin."""
    yield from executions()
    yield from declarations()
    yield from datasets()
    yield from documents()
    yield from lists()


INPUTS = (
    "items",
    "talk",
    "numbers",
    "map",
    "tree",
    "word",
    "free",
    "vector",
    "choice",
    "once",
    "data",
    "unknown",
)


def executions() -> Iterator[Attack]:
    """Yield executions with every kind of value, as one input and as all inputs."""
    for name, value in VALUES.items():
        yield rest(
            f"execute plain: inputs are {name}", "/v1/programs/plain/execute", _object(inputs=value)
        )
        yield rest(
            f"execute plain: {name}",
            "/v1/programs/plain/execute",
            _object(inputs=_object(question=value)),
        )
        for field in INPUTS:
            body = _object(inputs=_object(**{field: value}))
            yield rest(f"execute typed: {field} is {name}", "/v1/programs/typed/execute", body)
        for program in ("native plain", "native typed"):
            body = _object(inputs=_object(**{"question" if "plain" in program else "free": value}))
            yield rest(f"execute {program}: {name}", f"/v1/programs/{quote(program)}/execute", body)


def declarations() -> Iterator[Attack]:
    """Yield signatures in all actions that take one."""
    for name, signature in SIGNATURES.items():
        text = text_of(signature)
        yield rest(
            f"create_program: {name}",
            "/v1/actions/create_program",
            _object(name=text_of(name), signature=text, backend=b'"mock"'),
        )
        program = quote(name)
        for inputs in ("{}", '{"question": [{}, {"a1": 1}], "unknown": 1}', '{"question": "a"}'):
            yield rest(
                f"run: {name} on {inputs}",
                f"/v1/programs/{program}/execute",
                _object(inputs=inputs.encode()),
            )
        yield rest(
            f"create_signature: {name}", "/v1/actions/create_signature", _object(signature=text)
        )
        for data in ("objects", "records", "texts"):
            yield rest(
                f"validate_dataset: {name} with {data}",
                "/v1/actions/validate_dataset",
                _object(dataset=text_of(f"data of {data}"), signature=text),
            )


def prepared() -> Iterator[Attack]:
    """Yield what makes the data sets that declarations are tried on."""
    parts = {"objects": "{}", "records": '{"x":"a"}', "texts": '"' + "a" * 200 + '"'}
    for name, part in parts.items():
        rows = (
            listed('[{"question":[', part, "]}]", most=80_000)
            if name != "texts"
            else filled('[{"question":"', "a", '"}]', most=4_000_020)
        )
        yield rest(
            f"data: {name}",
            "/v1/actions/create_dataset",
            _object(name=text_of(f"data of {name}"), rows=rows),
        )


def datasets() -> Iterator[Attack]:
    """Yield rows of every kind."""
    for name, value in VALUES.items():
        yield rest(
            f"create_dataset: rows are {name}",
            "/v1/actions/create_dataset",
            _object(name=b'"d"', rows=value),
        )
        row = _object(name=b'"d"', rows=b"[" + _object(a=value) + b"]")
        yield rest(f"create_dataset: a row of {name}", "/v1/actions/create_dataset", row)
    rows = listed("[", "{}", "]", most=299_990)
    yield rest(
        "create_dataset: 100,000 empty rows",
        "/v1/actions/create_dataset",
        _object(name=b'"e"', rows=rows),
    )


def documents() -> Iterator[Attack]:
    """Yield GraphQL documents and variables, over HTTP and over a websocket."""
    mutation = (
        "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { id status "
        "outputs } }"
    )
    create = "mutation($input: CreateDatasetInput!) { createDataset(input: $input) { id rows } }"
    listing = (
        "query($ids: [ID!], $text: String) { programs(filter: {idIn: $ids, nameContains: $text}) { "
        "totalCount } }"
    )
    for name, query in QUERIES.items():
        yield rest(f"query: {name}", "/graphql", _object(query=text_of(query)))
        yield rest(f"stream: {name}", "/graphql/stream", _object(query=text_of(query)))
        yield from _message(f"message: {name}", _object(query=text_of(query)))
    for name, value in VALUES.items():
        typed = _object(input=_object(program=b'"typed"', inputs=_object(free=value)))
        yield rest(
            f"mutation: {name}", "/graphql", _object(query=text_of(mutation), variables=typed)
        )
        rows = _object(input=_object(name=b'"g"', rows=value))
        yield rest(
            f"mutation: rows are {name}", "/graphql", _object(query=text_of(create), variables=rows)
        )
        yield rest(
            f"variable: {name}",
            "/graphql",
            _object(query=text_of(listing), variables=_object(ids=value)),
        )
        yield rest(
            f"text variable: {name}",
            "/graphql",
            _object(query=text_of(listing), variables=_object(text=value)),
        )
        yield rest(
            f"variables: {name}", "/graphql", _object(query=text_of(listing), variables=value)
        )
        yield rest(
            f"extensions: {name}", "/graphql", _object(query=b'"{ __typename }"', extensions=value)
        )
        yield rest(
            f"operation: {name}",
            "/graphql",
            _object(query=b'"{ __typename }"', operationName=value),
        )
        yield rest(f"body: {name}", "/graphql", value)
        yield from _message(
            f"message: {name}", _object(query=text_of(listing), variables=_object(ids=value))
        )


def _message(name: str, payload: Body) -> Iterator[Attack]:
    message = _object(type=b'"subscribe"', id=b'"1"', payload=payload)
    if message.size < 1_000_000:
        yield Attack(name, "websocket", message)


def lists() -> Iterator[Attack]:
    """Yield query strings and headers."""
    deep = base64.urlsafe_b64encode(b"[" * 20_000).decode().rstrip("=")
    for name, query in {
        "cursor": f"sort=-cost_usd&after={deep}",
        "long cursor": "sort=-cost_usd&after=" + "A" * 30_000,
        "sort": "sort=" + "a" * 30_000,
        "filter": "a" * 30_000 + "=1",
        "ids": "&".join(["id_in=a"] * 49),
        "many": "&".join(f"a{n}=1" for n in range(5000)),
        "text": "inputs_contains=" + quote("\u00e9" * 5000),
        "digits": "first=" + "9" * 30_000,
        "number": "cost_usd_gt=" + "9" * 30_000,
        "time": "created_at_after=" + "2" * 30_000,
    }.items():
        yield Attack(f"list: {name}", f"/v1/executions?{query}", None)


def of_action(action: Action, rng: random.Random) -> Iterator[Attack]:
    """Yield requests of one action with a hostile value.

    Each of its arguments has it, one after the other.
    """
    fields = dataclasses.fields(action.input)
    hints = get_type_hints(action.input)
    for field in fields:
        name = rng.choice(list(VALUES))
        parts: dict[str, Body | bytes] = {
            item.name: _plain(hints[item.name]) for item in fields if _is_needed(item)
        }
        parts[field.name] = (
            VALUES[name] if rng.random() < 0.7 else text_of(rng.choice(list(SIGNATURES.values())))
        )
        yield rest(
            f"{action.name}: {field.name} is {name}", f"/v1/actions/{action.name}", _object(**parts)
        )


def _is_needed(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(hint: Any) -> bytes:
    if hint is int:
        return b"1"
    if hint is str:
        return b'"x"'
    if "UUID" in str(hint):
        return b'"01a204e7-d265-770f-a3da-97f8004ff7a9"'
    return b"[]" if "list" in str(hint) else b"{}"


def at_random(seed: int) -> Iterator[Attack]:
    """Yield one hostile request of each argument of each action, chosen by `seed`."""
    rng = random.Random(seed)
    for action in DOMAIN.actions:
        yield from of_action(action, rng)
