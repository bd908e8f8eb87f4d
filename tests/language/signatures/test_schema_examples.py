"""Values made up for schemas fit them."""

from typing import Any

import jsonschema
import pytest

from dspex.errors import SignatureError
from dspex.language.signatures import Signature
from dspex.language.signatures.examples import example

INTEGER: Any = {"type": "integer"}
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "patternProperties": {"^p": INTEGER},
        "minProperties": 2,
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"a": {}},
        "required": ["a", "b"],
        "additionalProperties": INTEGER,
    },
    {"minimum": 3, "type": ["number", "string"], "multipleOf": 2.5},
    {"oneOf": [INTEGER, {"minimum": 2}]},
    {"not": {"type": "null"}},
    {"if": {"type": "string"}, "then": {"pattern": "^a+$"}, "else": {"const": 3}},
    {
        "type": "array",
        "prefixItems": [{"type": "string"}, INTEGER],
        "minItems": 2,
        "contains": {"const": 7},
    },
    {
        "type": "array",
        "uniqueItems": True,
        "items": {"type": "string"},
        "minItems": 3,
        "contains": {},
    },
    {"allOf": [{"type": "string", "minLength": 4}, {"pattern": "^x"}], "not": {"const": "y"}},
    {"anyOf": [{"const": {"k": 1}}, {"type": "array", "items": {"$ref": "#"}}]},
    {"type": "object", "dependentRequired": {"a": ["b"]}, "required": ["a", "b"]},
    {"enum": [[1], {"a": 2}]},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize("number", [0, 1, 987_654_321])
def test_a_value_made_up_for_a_schema_fits_it(schema: dict[str, Any], number: int) -> None:
    signature = Signature.from_json_schema(schema, field="x")
    value = example(signature.fields["x"].type, "x", number)
    jsonschema.Draft202012Validator(schema).validate(value)
    signature.validate_outputs({"x": value})


def test_where_none_is_found_the_error_says_what_helps() -> None:
    signature = Signature.from_json_schema({"not": {}}, field="x")
    with pytest.raises(SignatureError, match="give the field a default"):
        example(signature.fields["x"].type, "x", 1)
