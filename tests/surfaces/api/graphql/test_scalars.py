"""The scalars UUID, DateTime, Probability and Embedding.

What they take, and what they say of what they do not.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from graphql import GraphQLError
from hypothesis import given
from hypothesis import strategies as st

from dspex.operations.domain import DOMAIN
from dspex.operations.framework.attribute_kinds import LONGEST_EMBEDDING, Embedding, Probability
from dspex.operations.framework.query_arguments import query_from
from dspex.operations.framework.resource import Resource, Row
from dspex.operations.framework.store import Insert, Query
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.storage import Database, SQLStore, ensure_tables, migrate
from dspex.settings import Settings
from dspex.surfaces.api import ServerConfig
from dspex.surfaces.api.graphql import core_schema, make_schema
from dspex.testing.store import NOW, new_id
from tests.support.properties import examples
from tests.surfaces.api.client import serving
from tests.surfaces.api.graphql.test_graphql import served

EXECUTE = (
    "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { status inputs error "
    "} }"
)
WRONG: dict[str, list[Any]] = {
    "UUID": [
        "",
        "x",
        7,
        None,
        True,
        ["01a204e7-d265-770f-a3da-97f8004ff7a9"],
        "{01a204e7-d265-770f-a3da-97f8004ff7a9}",
    ],
    "DateTime": ["", "x", 7, True, "2030-13-01T00:00:00Z", "2030-01-01T00:00:00", "2030-01-01"],
    "Count": [-1, 0.5, 2**53 + 1, True, "1", [1]],
    "Probability": [-0.1, 1.1, 10**400, math.nan, math.inf, True, "0.5", [0.5]],
    "Embedding": [
        [],
        1.0,
        "1",
        ["1"],
        [True],
        [math.nan],
        [math.inf],
        [10**400],
        [[1.0]],
        [0.0] * (LONGEST_EMBEDDING + 1),
    ],
}


def _scalar(name: str) -> Any:
    return core_schema(make_schema()).type_map[name]


@pytest.mark.parametrize("name", WRONG)
def test_a_scalar_refuses_what_is_none_with_a_typed_error(name: str) -> None:
    scalar = _scalar(name)
    for value in WRONG[name]:
        with pytest.raises(GraphQLError) as caught:
            scalar.parse_value(value)
        assert caught.value.extensions is not None
        assert caught.value.extensions["type"] == "InvalidError", value
        assert len(caught.value.message) < 400


@examples()
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1))
def test_an_embedding_is_read_as_it_is_written(vector: list[float]) -> None:
    scalar = EMBEDDING
    assert scalar.parse_value(scalar.serialize(vector)) == vector


EMBEDDING = _scalar("Embedding")


def test_where_each_scalar_stands_in_the_schema() -> None:
    types: dict[str, Any] = core_schema(make_schema()).type_map
    assert str(types["ProgramMetrics"].fields["successRate"].type) == "Probability"
    assert str(types["EmbeddingOfInput"].fields["value"].type) == "Embedding!"
    assert str(types["Execution"].fields["programId"].type) == "UUID!"
    assert str(types["ExecuteProgramInput"].fields["programId"].type) == "UUID"
    assert str(types["Execution"].fields["id"].type) == "ID!"
    assert str(types["Execution"].fields["createdAt"].type) == "DateTime!"


async def test_an_embedding_is_an_input_whose_size_the_signature_says(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, operations):
        signature = "v: embedding[dimensions=3], q -> n: int"
        await create_program(
            operations, CreateProgram(name="n", signature=signature, backend="mock")
        )

        async def execute(*vectors: Any, **inputs: Any) -> Any:
            items = [{"field": "v", "value": vector} for vector in vectors]
            return await ask(
                EXECUTE,
                input={"program": "n", "inputs": {"q": "?", **inputs}, "embeddings": items},
            )

        execution = (await execute([0.1, 2, -3.5])).data["executeProgram"]
        assert (execution["status"], execution["inputs"]) == (
            "COMPLETED",
            {"v": [0.1, 2.0, -3.5], "q": "?"},
        )
        assert (await execute(v=[1, 2, 3])).data["executeProgram"]["status"] == "COMPLETED"
        for answer, path in (
            (await execute([1.0, 2.0]), "v"),
            (await execute([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), "v"),
            (await execute([1.0, 2.0, 3.0], v=[1, 2, 3]), "v"),
            (await execute(["1", "2", "3"]), "input.embeddings[0].value"),
            (await execute(7), "input.embeddings[0].value"),
        ):
            [error] = answer.errors
            assert error.extensions["type"] == "InvalidError"
            assert [field["path"] for field in error.extensions["fields"]] == [path]


async def test_rest_takes_the_same_embeddings(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        signature = "v: embedding[dimensions=2] -> n: int"
        await create_program(
            server.services.operations,
            CreateProgram(name="v", signature=signature, backend="mock"),
        )
        for value, status, path in (
            ([1, 2.5], 200, None),
            ([1], 422, "v"),
            ([], 422, "v"),
            ("x", 422, "embeddings[0].value"),
        ):
            body = {"program": "v", "inputs": {}, "embeddings": [{"field": "v", "value": value}]}
            answer = await server.ask("POST", "/v1/actions/execute_program", body=body)
            assert answer.status == status, answer.body
            if path is not None:
                assert [field["path"] for field in answer.json["error"]["fields"]] == [path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage(Row):
    """A text as a vector."""

    text: str
    vector: Embedding
    score: Probability | None = None


PASSAGE = Resource(name="passage", plural="passages", entity=Passage)


async def test_a_resource_of_ones_own_may_have_vectors_and_probabilities(
    on_each_database: Settings,
) -> None:
    domain = DOMAIN.extended(PASSAGE)
    types: dict[str, Any] = core_schema(make_schema(domain)).type_map
    fields = types["Passage"].fields
    assert [str(fields[name].type) for name in ("vector", "score")] == ["Embedding!", "Probability"]

    url = on_each_database.database_url
    on_each_database.state_dir.mkdir()
    database = (
        Database(url.reveal()) if url else Database.embedded(on_each_database.state_dir / "db")
    )
    try:
        await migrate(database)
        await ensure_tables(database, domain)
        await ensure_tables(database, domain)
        store = SQLStore(database, domain)
        common: Any = {"workspace": "default", "created_at": NOW, "updated_at": NOW}
        rows = [
            Passage(
                id=new_id(), **common, text=str(n), vector=Embedding([n / 7, -1.0]), score=score
            )
            for n, score in enumerate((Probability(0.5), None, Probability(1.0)))
        ]
        await store.write(*map(Insert, rows))
        assert await store.select(PASSAGE, Query(oldest_first=True)) == rows
        query = query_from(PASSAGE, [("sort", "-score"), ("score_gte", "0.2")])
        assert [row.text for row in await store.select(PASSAGE, query)] == ["2", "0"]
    finally:
        await database.aclose()


def test_ids_are_read_with_and_without_hyphens() -> None:
    key = UUID("01a204e7-d265-770f-a3da-97f8004ff7a9")
    assert {
        _scalar("UUID").parse_value(text) for text in (str(key), key.hex, str(key).upper())
    } == {key}
