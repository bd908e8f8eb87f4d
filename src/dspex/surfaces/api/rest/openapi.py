"""The OpenAPI description, derived from the domain like the routes."""

import dataclasses
import typing
from typing import Any

import msgspec

from dspex._version import __version__
from dspex.execution.backends.kinds import public_kinds
from dspex.operations.framework.action import Action
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.query_arguments import MAX_MEMBERS
from dspex.operations.framework.resource import Attribute, Filter, Resource
from dspex.surfaces.api.rest.portable_schemas import Schema, portable


def _backends() -> str:
    return "; ".join(f"{name}: {kind.summary}" for name, kind in public_kinds().items())


_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "code", "message", "retryable"],
            "properties": {
                "type": {
                    "type": ["string", "null"],
                    "description": "InvalidError, NotFoundError, ConflictError ...",
                },
                "code": {"type": "string"},
                "message": {"type": "string"},
                "retryable": {"type": "boolean"},
                "fields": {"type": "array", "items": {"$ref": "#/components/schemas/FieldError"}},
                "executionId": {"type": "string", "format": "uuid"},
            },
        }
    },
}
_FIELD: dict[str, Any] = {
    "type": "object",
    "properties": {
        name: {"type": "string"}
        for name in ("field", "path", "value", "message", "constraint", "expected")
    },
}
_FORM: Schema = {
    "type": "object",
    "description": (
        "Inputs with files. A part with a file name is the picture, recording or file of the input "
        "with the name of the part; any other part is a text input. Parts with one name are a list."
    ),
    "properties": {
        "inputs": {"type": "object", "description": "Inputs that are not files, as JSON."},
        "timeout": {"type": "number", "description": "As in the JSON body."},
        "backend": {"type": "string", "description": "As in the JSON body."},
        "session_id": {"type": "string", "description": "As in the JSON body."},
    },
    "additionalProperties": {"type": "string", "contentMediaType": "application/octet-stream"},
}
_STATUSES = {
    "400": "the body is not JSON, or the host is not served",
    "401": "a key is needed",
    "403": "the key lacks the scope",
    "404": "there is no such row",
    "408": "the rest of the body did not arrive in time",
    "409": "the row is in another state, or exists already",
    "413": "the body is too long",
    "415": "the content type is not one that this path takes",
    "422": "the input is invalid; the fields say where",
    "429": "too many requests; Retry-After says when",
    "503": "the database or a model cannot be reached now",
    "504": "not answered in time",
}


_SCHEMAS = "#/components/schemas/{name}"


def openapi(domain: Domain) -> dict[str, Any]:
    """Return the description as OpenAPI 3.1."""
    schemas: Schema = {**_inputs(domain), **_results(domain)}
    schemas |= {"Error": _ERROR, "FieldError": _FIELD}
    paths: dict[str, Any] = {"/v1/programs/{name}/execute": {"post": _execute()}}
    for action in domain.actions:
        paths[f"/v1/actions/{action.name}"] = {"post": _action(action)}
    for resource in domain.values():
        if not resource.is_internal:
            schemas[_pascal(resource)] = _row(resource)
            paths[f"/v1/{resource.plural}"] = {"get": _many(resource)}
            paths[f"/v1/{resource.plural}/{{id}}"] = {"get": _one(resource)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dspex",
            "version": __version__,
            "description": "Programs made of language-model calls.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": _failures(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key: dspx_..."}
            },
        },
        "security": [{"key": []}],
    }


def reference(name: str) -> Schema:
    """Return the reference to a schema of the description."""
    return {"$ref": _SCHEMAS.format(name=name)}


def _inputs(domain: Domain) -> Schema:
    _, schemas = msgspec.json.schema_components(
        [action.input for action in domain.actions], ref_template=_SCHEMAS
    )
    inputs = {name: portable(schema) for name, schema in schemas.items()}
    for action in domain.actions:
        inputs[action.input.__name__]["additionalProperties"] = False
    return inputs


def _results(domain: Domain) -> Schema:
    """Return the schemas of results that are not rows: dataclasses of rows and plain values."""
    rows = {resource.entity: _pascal(resource) for resource in domain.values()}
    results: Schema = {}
    for result in {action.result: None for action in domain.actions if action.result is not None}:
        hints = typing.get_type_hints(result)
        properties: Schema = {}
        for part in dataclasses.fields(result):
            hint = hints[part.name]
            if hint in rows:
                properties[part.name] = reference(rows[hint])
                continue
            (schema,), components = msgspec.json.schema_components([hint], ref_template=_SCHEMAS)
            properties[part.name] = portable(schema)
            results |= {name: portable(component) for name, component in components.items()}
        results[result.__name__] = _object(properties, " ".join((result.__doc__ or "").split()))
    return results


def _object(properties: Schema, description: str) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


def _pascal(resource: Resource[Any]) -> str:
    return "".join(part.capitalize() for part in resource.name.split("_"))


def _row(resource: Resource[Any]) -> dict[str, Any]:
    properties = {part.name: _attribute(part) for part in resource.visible}
    for calculation in resource.calculations:
        properties[calculation.attribute.name]["description"] = calculation.description
    about = " ".join((resource.entity.__doc__ or "").split())
    return _object(properties, about)


def _attribute(part: Attribute) -> dict[str, Any]:
    schema = dict(ATTRIBUTE_KINDS[part.kind].schema)
    if part.choices:
        schema["enum"] = [*part.choices, *([None] if part.is_nullable else [])]
    if part.is_nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def _execute() -> dict[str, Any]:
    inputs = portable({"type": "object", "description": "Values by field name."})
    operation = execution_operation(
        "execute",
        "Run a program once; a failed run is an answer whose status is failed.",
        body=execution_body(inputs),
        execution=reference("Execution"),
        parameters=(_parameter("name", "path", {"type": "string"}),),
    )
    operation["requestBody"]["content"]["multipart/form-data"] = {"schema": _FORM}
    return operation


def execution_body(inputs: Schema) -> Schema:
    """Return the schema of the body that executes a program with these inputs."""
    return {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "inputs": inputs,
            "timeout": {
                "type": ["number", "null"],
                "description": "Seconds after which the run fails with the code deadline.",
            },
            "backend": {
                "type": ["string", "null"],
                "description": f"The backend of this run. {_backends()}.",
            },
            "session_id": {
                "type": ["string", "null"],
                "format": "uuid",
                "description": (
                    "The session whose conversation the program gets; a completed run adds a turn."
                ),
            },
        },
    }


def execution_operation(
    name: str,
    summary: str,
    *,
    body: Schema,
    execution: Schema,
    parameters: tuple[dict[str, Any], ...] = (),
    description: str = "",
) -> dict[str, Any]:
    """Return an operation that executes a program; `execution` is the schema of its response."""
    key = {"type": "string", "minLength": 1, "maxLength": 200}
    return {
        "operationId": name,
        "tags": ["execute"],
        "summary": summary,
        **({"description": description} if description else {}),
        "parameters": [*parameters, _parameter("Idempotency-Key", "header", key)],
        "requestBody": _json_body(body),
        "responses": _responses(execution),
    }


def _action(action: Action[Any, Any]) -> dict[str, Any]:
    result = _pascal(action.resource) if action.result is None else action.result.__name__
    return {
        "operationId": action.name,
        "tags": [action.resource.plural],
        "summary": action.description,
        "description": action.terms,
        "requestBody": _json_body(reference(action.input.__name__)),
        "responses": _responses(reference(result)),
    }


def _many(resource: Resource[Any]) -> dict[str, Any]:
    size = {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    rows = {"type": "array", "items": reference(_pascal(resource))}
    page = {
        "type": "object",
        "required": [resource.plural, "next"],
        "properties": {resource.plural: rows, "next": {"type": ["string", "null"]}},
    }
    filters = [
        _parameter(filter_.name, "query", _filter(filter_)) for filter_ in resource.filters.values()
    ]
    orders = [sign + name for name in resource.sortable for sign in ("", "-")]
    return {
        "operationId": f"list_{resource.plural}",
        "tags": [resource.plural],
        "summary": f"{resource.plural.replace('_', ' ').capitalize()}, newest first; `next` is the "
        "cursor of the next page.",
        "description": f"Needs the scope {resource.reading}. A minus before a name in `sort` "
        "means descending.",
        "parameters": [
            _parameter("first", "query", size),
            _parameter(
                "after",
                "query",
                {"type": "string", "description": "`next` of a page in the same order."},
            ),
            _parameter("sort", "query", {"type": "string", "enum": orders}),
            *filters,
        ],
        "responses": _responses(page),
    }


def _filter(filter_: Filter) -> dict[str, Any]:
    part = filter_.attribute
    if filter_.comparison == "is_null":
        return dict(ATTRIBUTE_KINDS["flag"].schema)
    schema = {
        **ATTRIBUTE_KINDS[part.kind].schema,
        **({"enum": list(part.choices)} if part.choices else {}),
    }
    if part.kind == "integer":
        schema["format"] = "int32"
    return (
        {"type": "array", "items": schema, "maxItems": MAX_MEMBERS}
        if filter_.comparison == "in"
        else schema
    )


def _one(resource: Resource[Any]) -> dict[str, Any]:
    return {
        "operationId": f"read_{resource.name}",
        "tags": [resource.plural],
        "summary": f"One {resource.name.replace('_', ' ')}.",
        "description": f"Needs the scope {resource.reading}.",
        "parameters": [_parameter("id", "path", dict(ATTRIBUTE_KINDS["uuid"].schema))],
        "responses": _responses(reference(_pascal(resource))),
    }


def _parameter(name: str, where: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _json_body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _failures() -> dict[str, Any]:
    error = {"application/json": {"schema": reference("Error")}}
    return {
        f"Error{status}": {"description": about, "content": error}
        for status, about in _STATUSES.items()
    }


def _responses(schema: Schema) -> dict[str, Any]:
    return {
        "200": {"description": "Done.", "content": {"application/json": {"schema": schema}}},
        **{status: {"$ref": f"#/components/responses/Error{status}"} for status in _STATUSES},
    }
