"""The operations of stored programs in the description: their types, names and visibility."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dspex.language.signatures import Signature
from dspex.operations.domain import DOMAIN
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.surfaces.api import ServerConfig
from dspex.surfaces.api.rest import openapi
from dspex.surfaces.api.rest.portable_schemas import portable
from dspex.surfaces.api.rest.program_operations import (
    MAX_PROGRAMS,
    DescribedProgram,
    with_programs,
)
from tests.surfaces.api.client import Server, serving

BASE = openapi(DOMAIN)
TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["name", "children"],
            "additionalProperties": False,
        }
    },
    "type": "object",
    "properties": {"tree": {"$ref": "#/$defs/Node"}},
    "required": ["tree"],
}


def described(**signatures: Any) -> dict[str, Any]:
    """Return the description of programs, the first of which is the oldest."""
    programs = [
        DescribedProgram(name=name, signature=Signature.of(signature).to_dict())
        for name, signature in signatures.items()
    ]
    return with_programs(BASE, reversed(programs))


def references(node: Any) -> set[str]:
    """Return all references of a description."""
    if isinstance(node, list):
        return {target for part in node for target in references(part)}
    if not isinstance(node, dict):
        return set()
    targets = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return targets | {target for part in node.values() for target in references(part)}


def test_a_program_has_an_operation_with_the_types_of_its_signature() -> None:
    document = described(shout="text, times: int = 1 -> result, score: float | none")
    operation = document["paths"]["/v1/programs/shout/execute"]["post"]
    assert operation["operationId"] == "execute_shout"
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["inputs"] == {"$ref": "#/components/schemas/ShoutInputs"}
    schemas = document["components"]["schemas"]
    assert schemas["ShoutInputs"] == {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "times": {"type": "integer", "description": "Default: 1."},
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    assert schemas["ShoutOutputs"]["properties"] == {
        "result": {"type": "string"},
        "score": {"type": ["number", "null"]},
    }
    details, result = schemas["ShoutExecution"]["allOf"]
    assert "outputs" not in schemas["ExecutionDetails"]["properties"]
    assert schemas["ExecutionDetails"]["required"] == [
        name for name in schemas["Execution"]["required"] if name != "outputs"
    ]
    assert details == {"$ref": "#/components/schemas/ExecutionDetails"}
    assert result["properties"]["outputs"]["anyOf"][0] == {
        "$ref": "#/components/schemas/ShoutOutputs"
    }
    assert document["paths"].items() >= BASE["paths"].items()
    assert "ShoutInputs" not in BASE["components"]["schemas"]


def test_recursive_types_and_aliases_lead_to_schemas_of_the_description() -> None:
    tree = Signature.from_json_schema(TREE, name="Tree")
    tree = tree.extend(Signature.of("q -> r"))
    document = described(tree=tree)
    paths = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in document["components"][kind]
    }
    assert references(document) <= paths
    schemas = document["components"]["schemas"]
    node = {"$ref": "#/components/schemas/TreeOutputsNode"}
    assert schemas["TreeOutputs"]["properties"]["tree"] == node
    assert schemas["TreeOutputsNode"]["properties"]["children"]["items"] == node


def test_names_of_operations_and_schemas_are_unique_and_the_older_keeps_the_plain_one() -> None:
    names = ["my_program", "my program", "MyProgram", "program", "evaluation", "1st", "один", "{x}"]
    document = described(**dict.fromkeys(names, "q -> a"))
    operations = {
        item["operationId"] for path in document["paths"].values() for item in path.values()
    }
    assert len(operations) == sum(map(len, document["paths"].values()))
    assert {"execute_my_program", "execute_evaluation", "execute_program_1st"} <= operations
    assert "/v1/programs/%D0%BE%D0%B4%D0%B8%D0%BD/execute" in document["paths"]
    assert "/v1/programs/%7Bx%7D/execute" in document["paths"]
    schemas = document["components"]["schemas"]
    assert len({name.lower() for name in schemas}) == len(schemas)
    assert len(schemas) == len(BASE["components"]["schemas"]) + 1 + 3 * len(names)
    younger = described(my_program="q -> a")
    assert "execute_my_program" in str(younger["paths"]["/v1/programs/my_program/execute"])


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, {}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "object"}, {"type": "object", "additionalProperties": True}),
        (
            {"type": "array", "prefixItems": [{"type": "string"}], "items": False, "maxItems": 1},
            {"type": "array", "prefixItems": [{"type": "string"}], "maxItems": 1},
        ),
        (
            {"type": ["integer", "string"], "enum": [1, "1"]},
            {"anyOf": [{"type": "integer", "enum": [1]}, {"type": "string", "enum": ["1"]}]},
        ),
        (
            {"type": "integer", "default": 3, "title": "N", "description": "How many."},
            {"type": "integer", "description": "How many. Default: 3."},
        ),
    ],
)
def test_generators_of_clients_get_the_form_that_they_read(schema: Any, expected: Any) -> None:
    assert portable(schema) == expected
    properties = portable({"type": "object", "properties": {"title": schema}})["properties"]
    assert properties == {"title": expected}
    for value in (1, "1", 2, [], ["a"], ["a", "b"], {}, {"a": 1}, None):
        assert jsonschema.Draft202012Validator(schema).is_valid(
            value
        ) == jsonschema.Draft202012Validator(expected).is_valid(value), value


async def operations_of(server: Server, path: str = "/v1/openapi.json", **values: Any) -> set[str]:
    """Return the operations of stored programs in the description that a caller gets."""
    answer = await server.ask("GET", path, **values)
    assert answer.status == 200, answer.body
    general = {item["operationId"] for path in BASE["paths"].values() for item in path.values()}
    paths = answer.json["paths"].values()
    return {item["operationId"] for path in paths for item in path.values()} - general


async def test_a_caller_sees_the_programs_of_the_workspace_of_its_key(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.give_program("mine")
        await server.give_program("draft", draft=True)
        await server.give_workspace("team")
        await server.give_key("reader", "read")
        await server.give_key("runner", "execute")
        await server.give_key("member", "admin", workspace="team")
        request = {"name": "theirs", "signature": "q -> a", "backend": "mock"}
        created = await server.ask("POST", "/v1/actions/create_program", key="member", body=request)
        assert created.status == 200, created.body
        assert await operations_of(server) == set()
        assert await operations_of(server, key="runner") == set()
        assert await operations_of(server, key="reader") == {"execute_mine"}
        assert await operations_of(server, key="member") == {"execute_theirs"}
        wrong = await server.ask("GET", "/v1/openapi.json", key="dspx_nonsense")
        assert wrong.status == 401


async def test_a_server_without_keys_describes_its_newest_programs_and_those_named(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        for number in range(MAX_PROGRAMS + 2):
            await create_program(
                server.services.operations,
                CreateProgram(name=f"p{number}", signature="q -> a", backend="mock"),
            )
        operations = await operations_of(server)
        assert len(operations) == MAX_PROGRAMS
        assert "execute_p0" not in operations
        answer = await server.ask("GET", "/v1/openapi.json")
        assert f"the newest {MAX_PROGRAMS} have" in answer.json["info"]["description"]
        path = "/v1/openapi.json?program=p0&program=p1&program=nothing"
        assert await operations_of(server, path) == {"execute_p0", "execute_p1"}
        wrong = await server.ask("GET", "/v1/openapi.json?programs=p0")
        assert (wrong.status, wrong.json["error"]["type"]) == (422, "InvalidError")
        jsonschema.Draft202012Validator.check_schema(json.loads(answer.body)["components"])
