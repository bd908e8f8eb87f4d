"""Instances of classes, in types that know the class and in types that were rebuilt from data."""

import datetime
from typing import Any

import pydantic
import pytest

from dspex.errors import InputError
from dspex.language.signatures import Signature
from dspex.language.signatures.validation import Mode
from tests.support.declared_types import DECLARED_TYPES, DeclaredType

_EVERY = pytest.mark.parametrize("row", DECLARED_TYPES, ids=lambda row: row.name)


def _signature(row: DeclaredType) -> Signature:
    return Signature("q -> old").append("x", row.hint).remove("old")


def _json(signature: Signature, values: dict[str, Any]) -> dict[str, Any]:
    return signature.output_validator.dump(values)


@_EVERY
def test_a_value_keeps_its_json_form(row: DeclaredType) -> None:
    signature = _signature(row)
    values = signature.validate_outputs({"x": row.value})
    assert _json(signature, values) == {"x": row.value}
    assert _json(signature, signature.validate_outputs(values)) == {"x": row.value}


@_EVERY
@pytest.mark.parametrize("mode", ["coerce", "strict"])
def test_a_type_rebuilt_from_data_takes_the_instances_that_the_first_one_makes(
    row: DeclaredType, mode: Mode
) -> None:
    signature = _signature(row)
    values = signature.validate_outputs({"x": row.value})
    rebuilt = Signature.from_dict(signature.to_dict())
    if mode == "strict" and row.name == "tuple_open":
        return  # to data without a class, a tuple is not a list
    assert _json(rebuilt, rebuilt.validate_outputs(values, mode=mode)) == {"x": row.value}
    if mode == "coerce":  # and the other way round: records go into a type with classes
        assert _json(signature, signature.validate_outputs(rebuilt.validate_outputs(values))) == {
            "x": row.value
        }


def test_an_instance_that_does_not_fit_is_refused_with_the_place_inside() -> None:
    class Loose(pydantic.BaseModel):
        c: list[str]

    with pytest.raises(InputError) as refusal:
        Signature("q -> x: P{c: list[int]}").validate_outputs({"x": Loose(c=["1", "two"])})
    assert refusal.value.fields[0].path == "x.c[1]"


def test_an_instance_without_a_json_form_is_refused_as_it_is() -> None:
    with pytest.raises(InputError, match="must be P"):
        Signature("q -> x: P{c: str}").validate_outputs({"x": object()})


def test_only_the_fields_that_were_refused_are_read_by_their_json_form() -> None:
    class Point(pydantic.BaseModel):
        c: str

    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    values = Signature("q -> x: P{c: str}, free: any").validate_outputs(
        {"x": Point(c="o"), "free": now}
    )
    assert values["free"] is now


def test_an_object_that_can_be_iterated_over_is_not_a_list() -> None:
    class Numbers(pydantic.RootModel[list[int]]):
        pass

    assert Signature("q -> x: list").validate_outputs({"x": Numbers([1, 2])}) == {"x": [1, 2]}
