"""What refers to itself, read from elsewhere.

Its fields stand by themselves and still hold the whole.
"""

from typing import Any

import pytest
from pydantic import BaseModel

from dspex import Signature


class Part(BaseModel):
    size: int
    parts: list["Part"] = []
    named: "dict[str, Part] | None" = None


def cut(plan: str) -> Part:
    """Cut."""
    raise NotImplementedError(plan)


SCHEMA: dict[str, Any] = {
    "title": "Part",
    "type": "object",
    "properties": {"size": {"type": "integer"}, "parts": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["size"],
}


@pytest.mark.parametrize(
    "signature",
    [
        Signature.from_pydantic(Part),
        Signature.from_function(cut),
        Signature.from_json_schema(SCHEMA),
    ],
    ids=["pydantic", "function", "schema"],
)
def test_a_recursive_source_gives_fields_that_hold_it_whole(signature: Signature) -> None:
    assert Signature.from_dict(signature.to_dict()) == signature
    assert Signature(str(signature)) == signature
    values = signature.validate_outputs(
        {"size": "1", "parts": [{"size": 2, "parts": [{"size": "3"}]}]}
    )
    assert (values["size"], values["parts"][0].parts[0].size) == (1, 3)


def test_values_of_a_recursive_model_stay_its_instances() -> None:
    values = Signature.from_pydantic(Part).validate_outputs({"size": 1, "parts": [{"size": 2}]})
    assert values["parts"] == [Part(size=2)]
