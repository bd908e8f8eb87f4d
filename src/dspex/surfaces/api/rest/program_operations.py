"""The operations of stored programs in the OpenAPI description, typed by their signatures."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from dspex.errors import SignatureError
from dspex.language.signatures import Signature
from dspex.language.signatures.schema_keywords import with_subschemas
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.programs.records import PROGRAM, SIGNATURE
from dspex.surfaces.api.rest.openapi import execution_body, execution_operation, reference
from dspex.surfaces.api.rest.portable_schemas import Schema, portable

MAX_PROGRAMS: Final = 200
_MAX_SIGNATURE_BYTES: Final = 1024 * 1024
_DETAILS: Final = "ExecutionDetails"
_SIDES: Final = ("inputs", "outputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedProgram:
    """A stored program: its name, and the output of `Signature.to_dict`."""

    name: str
    signature: Mapping[str, Any]


async def select_programs(
    operations: Operations, names: Sequence[str], *, most: int
) -> tuple[list[DescribedProgram], bool]:
    """Return the newest programs that can be executed, and whether there are more.

    They are at most 200, with signatures of together about a megabyte; with `names`, only these.
    Their rows have at most about `most` bytes.
    """
    where = {"status": "ready", **({"name": tuple(names)} if names else {})}
    page = await operations.page(PROGRAM, Query(where=where, limit=MAX_PROGRAMS), most=most)
    keys = tuple({row.signature_id for row in page.rows})
    if not keys:
        return [], False
    signatures = await operations.page(
        SIGNATURE, Query(where={"id": keys}, limit=len(keys)), most=_MAX_SIGNATURE_BYTES
    )
    definitions = {row.id: row.definition for row in signatures.rows}
    programs = [
        DescribedProgram(name=row.name, signature=definitions[row.signature_id])
        for row in page.rows
        if row.signature_id in definitions
    ]
    return programs, page.has_more or signatures.has_more


def with_programs(
    document: Mapping[str, Any], programs: Iterable[DescribedProgram], *, has_more: bool = False
) -> dict[str, Any]:
    """Return the description with an operation for each program.

    `programs` are the newest first: of two with similar names, the older keeps the plain name.
    """
    components, paths = document["components"], dict(document["paths"])
    schemas = dict(components["schemas"])
    execution = schemas["Execution"]
    schemas[_DETAILS] = _without_property(execution, "outputs")
    operations = (item for path in paths.values() for item in path.values())
    names = _Names([*schemas, *(operation["operationId"] for operation in operations)])
    program_paths: dict[str, Any] = {}
    for program in reversed([*programs]):
        writer = _ProgramWriter(program, names)
        schemas |= writer.schemas()
        path = f"/v1/programs/{quote(program.name, safe='')}/execute"
        program_paths[path] = {"post": writer.operation()}
    paths = {**{path: program_paths[path] for path in sorted(program_paths)}, **paths}
    info = dict(document["info"])
    if has_more:
        info["description"] += (
            f" Of the programs, the newest {len(program_paths)} have an operation here; "
            "`?program=NAME` (once for each) describes others."
        )
    return {
        **document,
        "info": info,
        "paths": paths,
        "components": {**components, "schemas": schemas},
    }


def _without_property(schema: Schema, name: str) -> Schema:
    properties = {key: value for key, value in schema["properties"].items() if key != name}
    return {**schema, "properties": properties, "required": list(properties)}


class _Names:
    """Names of operations and schemas, unique also as classes, functions and files of clients."""

    def __init__(self, names: Iterable[str]) -> None:
        self._taken = {_folded(name) for name in names}

    def reserve(self, program: str) -> str:
        """Return the words of a program's name, such as `my_program`, that its names consist of."""
        words = re.sub(r"[^0-9A-Za-z]+", "_", program).strip("_")
        plain = words if words[:1].isalpha() else f"program_{words}".rstrip("_")
        digest = hashlib.sha256(program.encode()).hexdigest()
        choices = (plain, f"{plain}_{digest[:6]}", f"{plain}_{digest}")
        choice = next(each for each in choices if not self._names(each) & self._taken)
        self._taken |= self._names(choice)
        return choice

    def free(self, wish: str) -> str:
        """Return `wish`, with a number if it is taken."""
        name, number = wish, 2
        while _folded(name) in self._taken:
            name, number = f"{wish}{number}", number + 1
        self._taken.add(_folded(name))
        return name

    def _names(self, words: str) -> set[str]:
        parts = ("Inputs", "Outputs", "Execution")
        return {_folded(f"execute_{words}"), *(_folded(words + part) for part in parts)}


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def _pascal(words: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^0-9A-Za-z]+", words))


class _ProgramWriter:
    """Writes the schemas and the operation of one program."""

    def __init__(self, program: DescribedProgram, names: _Names) -> None:
        self._program = program
        self._names = names
        self._words = names.reserve(program.name)
        self._title = _pascal(self._words)

    def schemas(self) -> Schema:
        """Return the schemas of inputs, outputs and execution by name."""
        outputs = {"anyOf": [reference(f"{self._title}Outputs"), {"type": "null"}]}
        result = {"type": "object", "properties": {"outputs": outputs}, "required": ["outputs"]}
        schemas: Schema = {f"{self._title}Execution": {"allOf": [reference(_DETAILS), result]}}
        signature = self._signature()
        for side in _SIDES:
            schemas |= self._side(signature, side)
        return schemas

    def operation(self) -> dict[str, Any]:
        """Return the operation that executes the program."""
        return execution_operation(
            f"execute_{self._words}",
            f"Run the program {self._program.name!r} once.",
            body=execution_body(reference(f"{self._title}Inputs")),
            execution=reference(f"{self._title}Execution"),
            description=str(self._program.signature.get("instructions") or ""),
        )

    def _signature(self) -> Signature | None:
        """Return the signature; None if this version of dspex cannot read it."""
        try:
            return Signature.from_dict(self._program.signature)
        except SignatureError:
            return None

    def _side(self, signature: Signature | None, side: str) -> Schema:
        name = f"{self._title}{side.capitalize()}"
        if signature is None:
            return {name: portable({"type": "object"})}
        schema = signature.to_json_schema(purpose=side)
        definitions = schema.pop("$defs", {})
        names = {key: self._names.free(name + _pascal(key)) for key in definitions}
        side_fields = signature.input_fields if side == "inputs" else signature.output_fields
        fields = {field.wire_name: field.name for field in side_fields.values()}
        schema["properties"] = {fields[key]: part for key, part in schema["properties"].items()}
        schema["required"] = [fields[key] for key in schema["required"]]
        parts = {name: schema, **{names[key]: part for key, part in definitions.items()}}
        return {key: portable(_with_references(part, names)) for key, part in parts.items()}


def _with_references(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema whose references to definitions lead to the schemas of these names."""
    if not isinstance(schema, dict):
        return schema
    result = with_subschemas(schema, lambda part: _with_references(part, names))
    if "$ref" in result:
        target = names.get(result.pop("$ref").rpartition("/")[2])
        result |= {} if target is None else reference(target)
    return result
