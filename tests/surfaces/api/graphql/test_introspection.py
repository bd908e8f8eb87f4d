"""The schema describes itself to standard tools, and to nobody more than a request may cost."""

import itertools
from typing import Any

import pytest
from graphql import build_client_schema, get_introspection_query, print_schema

from dspex.surfaces.api.graphql import (
    Engine,
    GraphQLContext,
    GraphQLRequest,
    core_schema,
    make_schema,
)
from tests.support.waiting import finish

FLAGS = (
    "descriptions",
    "specified_by_url",
    "directive_is_repeatable",
    "schema_description",
    "input_value_deprecation",
    "one_of",
)
VARIANTS: list[dict[str, Any]] = [dict.fromkeys(FLAGS, False), dict.fromkeys(FLAGS, True)]
VARIANTS += [dict.fromkeys(FLAGS, False) | {flag: True} for flag in FLAGS]
VARIANTS += [dict.fromkeys(FLAGS, True) | {"type_depth": depth} for depth in (2, 9, 12, 20)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(core_schema(make_schema()))


def ask(engine: Engine, query: str) -> dict:
    context: GraphQLContext = None  # type: ignore[assignment]  # no resolver of ours runs
    return finish(engine.run(GraphQLRequest(query), context))


@pytest.mark.parametrize(
    "variant",
    VARIANTS,
    ids=lambda variant: ",".join(f"{k[:4]}{int(v)}" for k, v in variant.items()),
)
def test_the_standard_introspection_query_is_answered_in_all_its_variants(
    engine: Engine, variant: dict
) -> None:
    answer = ask(engine, get_introspection_query(**variant))
    assert "errors" not in answer
    if variant.get("type_depth", 9) > 3:
        client = build_client_schema(answer["data"])
        assert set(client.type_map) == set(core_schema(make_schema()).type_map)


def test_a_client_gets_the_very_schema_with_its_defaults(engine: Engine) -> None:
    answer = ask(
        engine,
        get_introspection_query(specified_by_url=True, input_value_deprecation=True, one_of=True),
    )
    text = print_schema(build_client_schema(answer["data"]))
    assert "configuration: JSON! = {}" in text.replace("{  }", "{}")
    assert "embeddings: [EmbeddingOfInput!]! = []" in text
    assert "first: Int! = 50" in text


def test_what_tools_ask_of_one_type_is_answered(engine: Engine) -> None:
    answer = ask(
        engine,
        '{ a: __type(name: "Query") { fields { name type { name fields { name } } } } __typename }',
    )
    assert answer["data"]["a"]["fields"][0]["name"]


TYPES = "types { fields { type { name } } }"
COSTLY = {
    "the schema four times": "{ "
    + " ".join(f"a{n}: __schema {{ {TYPES} }}" for n in range(4))
    + " }",
    "types under many names": "{ __schema { "
    + " ".join(f"a{n}: {TYPES}" for n in range(10))
    + " } }",
    "fields of types of fields": "{ __schema { types { fields { type { fields { name } } } } } }",
    "types of interfaces of types": "{ __schema { types { interfaces { "
    "possibleTypes { name } } } } }",
    "the same through fragments": "{ __schema { ...A } } fragment A on __Schema { types { ...B } } "
    "fragment B on __Type { fields { type { ...C } } } fragment C on __Type { fields { name } }",
    "very deep": "{ __schema { queryType " + "{ ofType " * 80 + "{ name }" + " }" * 81 + " }",
}


@pytest.mark.parametrize("name", COSTLY)
def test_introspection_that_grows_is_refused(engine: Engine, name: str) -> None:
    [error] = ask(engine, COSTLY[name])["errors"]
    assert error["extensions"]["code"] == "too_complex"


def test_introspection_weighs_beside_the_rest_of_a_document(engine: Engine) -> None:
    lists = " ".join(
        f"a{n}: programs(first: 200) {{ nodes {{ id name status createdAt }} }}" for n in range(20)
    )
    roots = " ".join(f'b{n}: __type(name: "Query") {{ name }}' for n in range(3))
    assert not engine.prepare(f"{{ {roots} }}").errors
    [error] = ask(engine, f"{{ {lists} {roots} }}")["errors"]
    assert error["extensions"]["code"] == "too_complex"


def test_fragments_in_a_circle_end(engine: Engine) -> None:
    names = itertools.cycle(["A", "B"])
    query = "{ __schema { types { ...A } } } " + " ".join(
        f"fragment {name} on __Type {{ ofType {{ ...{next(names)} }} }}" for name in ("B", "A")
    )
    assert ask(engine, query)["errors"]
