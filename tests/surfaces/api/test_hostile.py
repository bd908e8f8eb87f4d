"""Requests of somebody who means harm.

Every answer is a refusal or an answer, in bounded time and memory.
"""

import time
from pathlib import Path
from typing import Any

import pytest

from dspex.surfaces.api import ServerConfig
from dspex.surfaces.api.graphql import Engine, core_schema, make_schema
from dspex.surfaces.api.graphql.engine import CACHE_CHARACTERS
from dspex.surfaces.api.graphql.limits import MAX_SOURCE
from tests.surfaces.api.client import Server, serving

DEEP = "{ executions { nodes " + "{ program { currentVersion " * 60 + "{ id }" + "} }" * 60 + " } }"
SECONDS = (
    1.5  # of CPU, on a slow and busy machine; without the limits the worst of these take minutes
)


def introspection(levels: int) -> str:
    return (
        "{ __schema { types " + "{ fields { type " * levels + "{ name }" + " } }" * levels + " } }"
    )


def fragments(count: int) -> str:
    """Each fragment spreads the next one twice: 2^count fields."""
    parts = [
        f"fragment F{n} on Query {{ ...F{n + 1} a{n}: __typename ...F{n + 1} }}"
        for n in range(count)
    ]
    return "{ ...F0 }" + " ".join(parts) + f"fragment F{count} on Query {{ __typename }}"


HOSTILE = {
    "deep": DEEP,
    "deeper than the parser": "{" + "a{" * 5000 + "a" + "}" * 5001,
    "open brackets": "{" * 30_000,
    "nested list": "{ program(name: " + "[" * 900 + "]" * 900 + ") { id } }",
    "wide": "{" + " ".join(f"a{n}: programs {{ totalCount }}" for n in range(400)) + "}",
    "the same field": "{" + "__typename " * 1500 + "}",
    "the same field with parts": "{" + "programs { totalCount } " * 300 + "}",
    "cyclic": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
    "itself": "{ ...A } fragment A on Query { ...A __typename }",
    "exploding fragments": fragments(25),
    "many fragments": fragments(200),
    "huge pages": "{"
    + " ".join(f"p{n}: executions(first: 200) {{ nodes {{ id }} }}" for n in range(60))
    + "}",
    "a page of all": "{ executions(first: 2147483648) { nodes { id } } }",
    "many sorted lists": "{"
    + " ".join(
        f"p{n}: executions(first: 1, order: COST_USD_DESC) {{ totalCount }}" for n in range(25)
    )
    + "}",
    "sorted by a variable": "query($o: ExecutionOrder!) {"
    + " ".join(f"p{n}: executions(first: 1, order: $o) {{ totalCount }}" for n in range(25))
    + "}",
    "a large set": "{ executions(filter: {actorIn: [" + '"a" ' * 1500 + "]}) { totalCount } }",
    "a deep filter": "{ executions(filter: "
    + "{a: " * 400
    + "1"
    + "}" * 400
    + ") { totalCount } }",
    "wrong everywhere": "{"
    + " ".join(
        f'p{n}: executions(filter: {{createdAtAfter: "{n}"}}) {{ totalCount }}' for n in range(15)
    )
    + "}",
    "an order of nothing": "{ executions(order: " + "X" * 20_000 + ") { totalCount } }",
    "introspection": introspection(12),
    "directives": "{ __typename " + "@skip(if: false) " * 500 + "}",
    "long text": '{ program(name: "' + "x" * 60_000 + '") { id } }',
    "block text": '{ program(name: """' + " \n" * 15_000 + '""") { id } }',
    "comments": "#" * 30_000 + "\n{ __typename }",
    "numbers": "{ executions(first: " + "9" * 20_000 + ") { totalCount } }",
    "variables": "query(" + " ".join(f"$v{n}: Int" for n in range(400)) + ") { __typename }",
    "many operations": " ".join(f"query Q{n} {{ __typename }}" for n in range(300)),
    "zero": '{ program(name: "a\\u0000b") { id } }',
    "surrogate": '{ program(name: "\\ud800") { id } }',
    "not graphql": "DROP TABLE executions;",
    "empty": "",
    "only a fragment": "fragment A on Query { __typename }",
    "unknown": "{ nothing { at { all } } }",
    "subscription": "subscription { executionUpdates { cursor } }",
}


async def _asked(server: Server, body: Any) -> float:
    """Ask twice, so that what is remembered is met too.

    Return the CPU seconds of the slower one.
    """
    slowest = 0.0
    for _ in range(2):
        start = time.process_time()
        answer = await server.ask("POST", "/graphql", body=body)
        slowest = max(slowest, time.process_time() - start)
        assert answer.status in {200, 400, 413, 422}, answer.body[:500]
        assert b"a fault in dspex" not in answer.body
        assert len(answer.body) < 100_000
        if answer.status == 200 and answer.json.get("data") is None:
            assert answer.json["errors"]
            assert len(answer.json["errors"]) <= 101
    return slowest


NO_REQUESTS = (
    b"",
    b"null",
    b"[]",
    b"[" * 100_000,
    b'{"query": 1}',
    b'{"query": "{ __typename }", "variables": []}',
    b'{"query": "{ __typename }", "operationName": "nope"}',
    b'{"query": "\xff"}',
    b'{"query": "{ __typename }", "variables": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    b'{"query": "{ __typename }", "variables": {"a": ' + b"9" * 20_000 + b"}}",
    b'[{"query": "{ __typename }"}, {"query": "{ __typename }"}]',
)


async def test_hostile_queries_and_bodies_are_answered_in_bounded_time(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        spent = {name: await _asked(server, {"query": query}) for name, query in HOSTILE.items()}
        spent |= {repr(body[:60]): await _asked(server, body) for body in NO_REQUESTS}
        assert {name: seconds for name, seconds in spent.items() if seconds > SECONDS} == {}
        assert (await server.graphql("{ __typename }")) == {"data": {"__typename": "Query"}}


WRONG: list[Any] = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "\x01",
    "x" * 5000,
    [],
    [[[]]],
    {},
    {"a": [None]},
    "\uffff",
]


async def test_inputs_of_every_wrong_type_are_typed_errors_on_both_surfaces(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        mutation = "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { id } }"
        for value in WRONG:
            for values in (
                {"program": "n", "inputs": {"q": value}},
                {"program": value, "inputs": {}},
                {"inputs": value},
            ):
                await _asked(server, {"query": mutation, "variables": {"input": values}})
                answer = await server.ask("POST", "/v1/actions/execute_program", body=values)
                assert answer.status in {200, 400, 404, 422}, (values, answer.body)
            answer = await server.ask(
                "POST", "/v1/programs/n/execute", body={"inputs": {"q": value}}
            )
            assert answer.status in {200, 422}, (value, answer.body)


@pytest.mark.parametrize(
    ("action", "value", "status"),
    [
        ("activate_version", {"name": "n", "number": 10**30}, 422),
        ("diff_versions", {"name": "n", "first": 1, "second": -(10**30)}, 422),
        (
            "create_api_key",
            {"name": "k", "scopes": ["read"], "expires_at": "9999-12-31T23:59:59-12:00"},
            422,
        ),
        ("create_secret", {"name": "k", "text": " "}, 422),
    ],
)
async def test_a_value_that_no_database_keeps_is_invalid_and_no_fault(
    tmp_path: Path, action: str, value: Any, status: int
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        answer = await server.ask("POST", f"/v1/actions/{action}", body=value)
        assert (answer.status, answer.json["error"]["type"]) == (status, "InvalidError")


async def test_callers_are_not_told_where_a_database_is_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        file = tmp_path / "state" / "dspex.sqlite3"
        file.rename(tmp_path / "away")
        mutation = 'mutation { executeProgram(input: {program: "n", inputs: {q: "?"}}) { id } }'
        rest = await server.ask("POST", "/v1/programs/n/execute", body={"inputs": {"q": "?"}})
        response = await server.ask("POST", "/graphql", body={"query": mutation})
        (tmp_path / "away").rename(file)
        printed_text = "cannot write the database now; the server's log says more"
        assert (rest.status, rest.json["error"]["message"]) == (503, printed_text)
        assert response.json["errors"][0]["message"] == printed_text
        assert (await server.graphql(mutation))["data"]["executeProgram"]
    assert str(tmp_path) in caplog.text


async def test_sorted_lists_cost_more_than_those_in_the_order_of_age(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        for order, count, is_refused in (
            ("COST_USD_ASC", 19, False),
            ("COST_USD_ASC", 20, True),
            ("OLDEST_FIRST", 20, False),
        ):
            lists = " ".join(
                f"p{n}: executions(order: {order}) {{ totalCount }}" for n in range(count)
            )
            answer = await server.graphql("{" + lists + "}")
            assert ("errors" in answer) == is_refused, answer
        for name in ("many sorted lists", "sorted by a variable"):
            [error] = (await server.graphql(HOSTILE[name], o="COST_USD_ASC"))["errors"]
            assert error["extensions"]["code"] == "too_complex"


def test_what_is_remembered_of_queries_is_bounded_by_their_size() -> None:
    engine = Engine(core_schema(make_schema()))
    for n in range(2 * CACHE_CHARACTERS // MAX_SOURCE):
        engine.prepare("{ __typename }#" + str(n) + "x" * (MAX_SOURCE - 100))
    assert engine.prepare("{ __typename }") is engine.prepare("{ __typename }")
    assert sum(map(len, engine.cached_documents)) <= CACHE_CHARACTERS
