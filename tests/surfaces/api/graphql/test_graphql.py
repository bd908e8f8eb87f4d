"""The GraphQL schema over real services on SQLite."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dspex.bootstrap import open_services
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Figures, Update
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Settings
from dspex.surfaces.api.graphql import (
    Engine,
    GraphQLContext,
    GraphQLRequest,
    core_schema,
    make_schema,
)

EXECUTION = DOMAIN["execution"]

SDL = Path(__file__).parent / "schema.graphql"
CREATE = (
    "mutation($input: CreateProgramInput!) { createProgram(input: $input) { id name status "
    "signature { name } } }"
)
EXECUTE = """mutation($input: ExecuteProgramInput!) {
  executeProgram(input: $input) {
    id status outputs error durationMs program { name executionCount }
  }
}"""
Ask = Callable[..., Any]


class Answer:
    """A GraphQL answer by attribute."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.data = body["data"]
        self.errors = [
            Answer.Error(**{"path": None, "extensions": {}, **error})
            for error in body.get("errors", ())
        ]

    class Error:
        def __init__(
            self, message: str, path: Any, extensions: dict[str, Any], locations: Any = None
        ) -> None:
            self.message, self.path, self.extensions, self.locations = (
                message,
                path,
                extensions,
                locations,
            )


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Ask, Operations]]:
    """A function that asks, and the operations behind it."""
    engine = Engine(core_schema(make_schema()))
    async with open_services(Settings(state_dir=folder / "state")) as services:

        async def ask(query: str, **variables: Any) -> Any:
            return Answer(
                await engine.run(
                    GraphQLRequest(query, variables), GraphQLContext(services.operations)
                )
            )

        yield ask, services.operations


def test_the_sdl_is_the_one_in_the_repository() -> None:
    """After a deliberate change.

    Python -m tests.surfaces.api.graphql.test_graphql > tests/surfaces/api/graphql/schema.graphql.
    """
    assert make_schema().as_str().strip() == SDL.read_text().strip()


async def test_a_program_is_created_and_executed(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, _operations):
        values = {"name": "n", "signature": "q -> n: int, tags: list[str]", "backend": "mock"}
        answer = await ask(CREATE, input=values)
        assert not answer.errors
        assert answer.data["createProgram"]["status"] == "READY"
        execution = await ask(EXECUTE, input={"program": "n", "inputs": {"q": "?"}})
        run_result = execution.data["executeProgram"]
        assert (run_result["status"], run_result["error"]) == ("COMPLETED", None)
        assert isinstance(run_result["outputs"]["n"], int)
        assert run_result["program"] == {"name": "n", "executionCount": 1}
        by_id = await ask(
            EXECUTE, input={"programId": answer.data["createProgram"]["id"], "inputs": {"q": "?"}}
        )
        assert by_id.data["executeProgram"]["program"]["executionCount"] == 2
        request = (
            '{ programMetrics(input: {name: "n"}) { total completed successRate program { name '
            "} } }"
        )
        figures = {"total": 2, "completed": 2, "successRate": 1.0, "program": {"name": "n"}}
        assert (await ask(request)).data == {"programMetrics": figures}
        stored = await ask(
            "query($id: ID!) { execution(id: $id) { outputs trace } }", id=run_result["id"]
        )
        assert stored.data["execution"]["outputs"] == run_result["outputs"]


@pytest.mark.parametrize(
    ("value", "type_", "fields"),
    [
        ({"program": "n", "inputs": {"k": 1}}, "InvalidError", ["q", "k"]),
        ({"program": "nope", "inputs": {}}, "NotFoundError", []),
        ({"inputs": {}}, "InvalidError", []),
        ({"program": "n", "inputs": [1, 2]}, "InvalidError", []),
    ],
)
async def test_a_refused_execution_is_a_typed_error_with_field_paths(
    tmp_path: Path, value: dict[str, Any], type_: str, fields: list[str]
) -> None:
    async with served(tmp_path) as (ask, operations):
        await create_program(
            operations, CreateProgram(name="n", signature="q -> n: int", backend="mock")
        )
        answer = await ask(EXECUTE, input=value)
        assert answer.data == {"executeProgram": None}
        [error] = answer.errors
        assert error.extensions["type"] == type_
        assert [field["path"] for field in error.extensions["fields"]] == fields
        assert error.path == ["executeProgram"]


async def test_a_second_program_of_the_same_name_is_a_typed_conflict(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, _operations):
        values = {"name": "n", "signature": "q -> a"}
        assert (await ask(CREATE, input=values)).errors == []
        [error] = (await ask(CREATE, input=values)).errors
        assert error.extensions["type"] == "ConflictError"


async def test_lists_are_connections_with_pages_filters_and_a_count(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, operations):
        for n in range(5):
            await create_program(
                operations, CreateProgram(name=f"p{n}", signature=f"q -> a{n}", backend="mock")
            )
        query = """query($first: Int!, $after: String, $filter: ProgramFilter) {
              programs(first: $first, after: $after, filter: $filter) {
                totalCount pageInfo { hasNextPage endCursor } edges { cursor node { name } }
              }
            }"""
        first = (await ask(query, first=3)).data["programs"]
        assert [edge["node"]["name"] for edge in first["edges"]] == ["p4", "p3", "p2"]
        assert (first["totalCount"], first["pageInfo"]["hasNextPage"]) == (5, True)
        rest = (await ask(query, first=3, after=first["pageInfo"]["endCursor"])).data["programs"]
        assert [edge["node"]["name"] for edge in rest["edges"]] == ["p1", "p0"]
        assert rest["pageInfo"]["hasNextPage"] is False
        some = (await ask(query, first=3, filter={"name": "p2", "status": "READY"})).data[
            "programs"
        ]
        assert [edge["node"]["name"] for edge in some["edges"]] == ["p2"]
        for wrong in ({"first": 0}, {"first": 100_000}, {"first": 1, "after": "x"}):
            [error] = (await ask(query, **wrong)).errors
            assert error.extensions["type"] == "InvalidError"


async def test_connections_are_sorted_and_narrowed_by_what_the_resource_says(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (ask, operations):
        for name in ("b", "a", "c"):
            await create_program(
                operations, CreateProgram(name=name, signature="q -> a", backend="mock")
            )
        for name in ("a", "b", "a"):
            await ask(EXECUTE, input={"program": name, "inputs": {"q": "?"}})
        query = """query($order: ProgramOrder!, $filter: ProgramFilter, $after: String) {
              programs(first: 2, order: $order, filter: $filter, after: $after) {
                totalCount pageInfo { hasNextPage endCursor } edges { cursor node { name } }
              }
            }"""

        async def names(order: str, after: str | None = None, **filter: Any) -> list[str]:
            answer = (await ask(query, order=order, filter=filter, after=after)).data["programs"]
            here = [edge["node"]["name"] for edge in answer["edges"]]
            assert answer["pageInfo"]["endCursor"] == answer["edges"][-1]["cursor"]
            if not answer["pageInfo"]["hasNextPage"]:
                return here
            return here + await names(order, answer["pageInfo"]["endCursor"], **filter)

        assert await names("NAME_ASC") == ["a", "b", "c"]
        assert await names("EXECUTION_COUNT_DESC") == ["a", "b", "c"]
        # what has never run comes last
        assert await names("LAST_EXECUTED_AT_ASC") == ["b", "a", "c"]
        assert await names("LAST_EXECUTED_AT_DESC") == ["a", "b", "c"]
        assert await names("NAME_DESC", executionCountGte=1) == ["b", "a"]
        assert await names("NAME_ASC", nameIn=["c", "a"], statusIn=["READY"]) == ["a", "c"]
        assert await names(
            "NAME_ASC", lastExecutedAtIsNull=True, createdAtAfter="2020-01-01T00:00:00Z"
        ) == ["c"]
        answer = (await ask(query, order="NAME_ASC", filter={"nameContains": "b"})).data["programs"]
        assert answer["totalCount"] == 1
        [error] = (
            await ask(query, order="NAME_ASC", after=answer["pageInfo"]["endCursor"][:-4])
        ).errors
        assert (error.extensions["type"], error.extensions["fields"][0]["path"]) == (
            "InvalidError",
            "after",
        )


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ("order: CONFIGURATION_ASC", "order"),
        ("filter: {nameLike: 7}", "filter"),
        ('filter: {createdAtAfter: "yesterday"}', "filter.createdAtAfter"),
        ('filter: {createdAtAfter: "2030-01-01T00:00:00"}', "filter.createdAtAfter"),
        ('filter: {signatureIdIn: ["x"]}', "filter.signatureIdIn"),
        ("filter: {executionCountGte: 1.5}", "filter.executionCountGte"),
        ('order: NAME_ASC, after: "x"', "after"),
    ],
)
async def test_a_wrong_order_or_filter_is_a_typed_error_that_names_the_argument(
    tmp_path: Path, arguments: str, path: str
) -> None:
    async with served(tmp_path) as (ask, _operations):
        [error] = (await ask(f"{{ programs({arguments}) {{ totalCount }} }}")).errors
        assert error.extensions["type"] == "InvalidError"
        assert [field["path"] for field in error.extensions["fields"]] == [path]


async def test_a_wrong_variable_is_a_typed_error_with_its_path(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, _operations):
        listed = """query($order: ProgramOrder!, $filter: ProgramFilter) {
              programs(order: $order, filter: $filter) { totalCount }
            }"""
        for query, variables, path in (
            (EXECUTE, {"input": {"programId": "not-an-id", "inputs": {}}}, "input.programId"),
            (listed, {"order": "COLOUR_ASC"}, "order"),
            (
                listed,
                {"order": "NAME_ASC", "filter": {"signatureIdIn": ["x"]}},
                "filter.signatureIdIn[0]",
            ),
            (
                listed,
                {"order": "NAME_ASC", "filter": {"createdAtBefore": "now"}},
                "filter.createdAtBefore",
            ),
        ):
            [error] = (await ask(query, **variables)).errors
            assert error.extensions["type"] == "InvalidError"
            assert [field["path"] for field in error.extensions["fields"]] == [path]


async def test_any_row_is_a_node_and_lists_go_either_way(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, operations):
        for n in range(3):
            program = await create_program(
                operations, CreateProgram(name=f"p{n}", signature="q -> a", backend="mock")
            )
        node = """query($id: ID!) {
              node(id: $id) { __typename id ... on Program { name } ... on Signature { version } }
            }"""
        answer = (await ask(node, id=str(program.id))).data["node"]
        assert answer == {"__typename": "Program", "id": str(program.id), "name": "p2"}
        signature = (await ask(node, id=str(program.signature_id))).data["node"]
        assert signature["__typename"] == "Signature"
        assert (await ask(node, id=str(UUID(int=7)))).data["node"] is None
        [error] = (await ask(node, id="p2")).errors
        assert error.extensions["type"] == "InvalidError"
        order = """query($after: String) {
              programs(first: 2, after: $after, order: OLDEST_FIRST) {
                pageInfo { endCursor } nodes { name }
              }
            }"""
        first = (await ask(order)).data["programs"]
        rest = (await ask(order, after=first["pageInfo"]["endCursor"])).data["programs"]
        assert [row["name"] for row in (*first["nodes"], *rest["nodes"])] == ["p0", "p1", "p2"]


async def test_what_is_asked_through_fragments_and_aliases_is_read(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, operations):
        await create_program(
            operations, CreateProgram(name="n", signature="q -> a", backend="mock")
        )
        await ask(EXECUTE, input={"program": "n", "inputs": {"q": "?"}})
        query = """{
              executions {
                edges { node { ...Seen } }
                nodes { mine: trace ... on Execution { of: program { name } } }
              }
            }
            fragment Seen on Execution { outputs ...Deeper }
            fragment Deeper on Execution { usage program { ...Name } }
            fragment Name on Program { name }"""
        answer = (await ask(query)).data["executions"]
        [node], [edge] = answer["nodes"], answer["edges"]
        assert node["of"] == edge["node"]["program"] == {"name": "n"}
        assert None not in (node["mine"], edge["node"]["outputs"], edge["node"]["usage"])


async def test_one_is_found_by_id_or_name_and_a_missing_one_is_null(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, operations):
        program = await create_program(operations, CreateProgram(name="n", signature="q -> a"))
        query = (
            "query($id: ID, $name: String) { program(id: $id, name: $name) { name "
            "currentVersion { number } } }"
        )
        for values in ({"id": str(program.id)}, {"name": "n"}):
            assert (await ask(query, **values)).data["program"] == {
                "name": "n",
                "currentVersion": {"number": 1},
            }
        assert (await ask(query, name="other")).data["program"] is None
        [error] = (await ask(query)).errors
        assert "either the id or the name" in error.message
        signature = await ask(
            '{ signature(name: "n") { inputs outputs instructions contentHash } }'
        )
        assert not signature.errors


async def test_a_list_with_its_relations_reads_each_table_once(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, operations):
        await create_program(
            operations, CreateProgram(name="n", signature="q -> a", backend="mock")
        )
        for _ in range(10):
            await ask(EXECUTE, input={"program": "n", "inputs": {"q": "?"}})
        collected: list[str] = []
        page = operations.store.page

        async def counted(resource: Any, query: Any, *, most: int) -> Any:
            collected.append(resource.name)
            return await page(resource, query, most=most)

        operations.store.page = counted  # type: ignore[method-assign]
        answer = await ask(
            "{ executions(first: 10) { nodes { id program { name signature { name } } } } }"
        )
        assert len(answer.data["executions"]["nodes"]) == 10
        assert collected == ["execution", "program", "signature"]


async def test_what_a_row_points_to_is_null_when_retention_has_deleted_it(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, operations):
        await create_program(
            operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
        )
        first, again = [
            await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))
            for _ in range(2)
        ]
        await operations.dependencies.store.write(
            Update(resource=EXECUTION, id=again.id, values={"retry_of": first.id})
        )
        query = "{ executions { nodes { id retryOf { id } program { name } } } }"
        listed = (await ask(query)).data["executions"]["nodes"]
        assert listed[0] == {
            "id": str(again.id),
            "retryOf": {"id": str(first.id)},
            "program": {"name": "qa"},
        }
        await operations.services[Figures].prune(EXECUTION, {"id": first.id}, before=None, keep=0)
        answer = await ask(query)
        assert (answer.data["executions"]["nodes"], answer.errors) == (
            [{**listed[0], "retryOf": None}],
            [],
        )


async def test_a_huge_document_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (ask, _operations):
        answer = await ask(
            "{" + " ".join(f"a{n}: programs {{ totalCount }}" for n in range(1000)) + "}"
        )
        assert "Token limit" in answer.errors[0].message or "tokens" in answer.errors[0].message


if __name__ == "__main__":
    print(make_schema().as_str())  # noqa: T201
