"""Values made up for types: every kind has one, and it fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import SignatureError
from dspex.language.signatures import Signature, Type
from dspex.language.signatures.examples import example
from dspex.language.signatures.kinds import FORMATS, KINDS
from tests.support.declared_types import DECLARED_TYPES, DeclaredType
from tests.support.properties import examples


def _kinds(type_: Type) -> set[str]:
    parts = [*type_.args, *(member.type for member in type_.members)]
    return {type_.kind}.union(*map(_kinds, parts))


def _field(hint: object) -> Signature:
    return Signature("q -> old").append("x", hint).remove("old")


def _check(signature: Signature, number: int) -> None:
    value = example(signature.output_fields["x"].type, "x", number)
    assert value == example(signature.output_fields["x"].type, "x", number)
    values = signature.validate_outputs({"x": value})
    dumped = signature.output_validator.dump(values)
    assert signature.output_validator.dump(signature.validate_outputs(dumped)) == dumped


def test_the_table_of_declared_types_has_every_kind() -> None:
    kinds = set().union(*(_kinds(_field(row.hint).fields["x"].type) for row in DECLARED_TYPES))
    # a program with an output Cited needs passages, too: tests/execution/modules/test_citations.py
    assert kinds == KINDS.keys() - {"Cited"}


@pytest.mark.parametrize("row", DECLARED_TYPES, ids=lambda row: row.name)
def test_a_value_made_up_for_a_declared_type_fits(row: DeclaredType) -> None:
    for number in range(0, 3000, 97):
        _check(_field(row.hint), number)


@pytest.mark.parametrize("name", FORMATS)
def test_a_value_made_up_for_a_format_fits(name: str) -> None:
    for number in range(0, 3000, 97):
        _check(_field(f"str[format='{name}']"), number)


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]+$", r"^\d{3}-\d{4}$", "^(foo|bar)baz?$", r"^[^abc]\S\W$", "(?i)^[A-F0-9]{8}$",
        r"^(a|b(c|d))*$", "",
        r"^v\d+\.\d+\.\d+$", "^.{5,9}$", r"^(?P<word>\w+) (\d+)$", "^[A-Z][a-z]* [A-Z][a-z]*$",
        r"\bend$",
    ],
)  # fmt: skip
def test_a_text_made_up_for_a_pattern_matches_it(pattern: str) -> None:
    for number in range(20):
        _check(_field(Type("str", constraints=(("pattern", pattern),))), number)
        _check(_field(Type("str", constraints=(("max_length", 40), ("min_length", 9)))), number)


def test_a_text_keeps_to_its_pattern_and_its_length() -> None:
    for number in range(20):
        _check(_field("str[min_length=5, max_length=8, pattern='^[a-z0-9]+$']"), number)


@pytest.mark.parametrize(
    "hint", ["str[pattern='^a$', min_length=5]", "str[pattern='^$', min_length=1]"]
)
def test_rules_that_exclude_each_other_are_named(hint: str) -> None:
    with pytest.raises(SignatureError, match="no text was found that matches the pattern"):
        example(_field(hint).fields["x"].type, "x", 1)


def test_a_pattern_that_repeats_repetitions_ends_soon() -> None:
    _check(_field("str[pattern='^((((a*)*)*)*)*$']"), 1)


@examples()
@given(st.integers(0, 2), st.integers(0, 3), st.integers(0, 10**6))
def test_lists_and_mappings_have_as_many_items_as_they_must(
    least: int, more: int, number: int
) -> None:
    _check(_field(f"list[int][min_items={least}, max_items={least + more}, unique=true]"), number)
    _check(_field(f"dict[str, int][min_size={least}, max_size={least + more}]"), number)


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "patternProperties": {"^x_": {"type": "integer"}},
            "additionalProperties": False,
        },
        {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "minProperties": 1},
        {"not": {"type": "string"}},
        {"type": "array", "contains": {"type": "integer", "minimum": 5}},
        {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 3}]},
        {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"enum": [1, 2]}},
            "dependentRequired": {"a": ["b"]},
        },
        {"if": {"type": "string"}, "then": {"minLength": 20}},
    ],
)
def test_a_value_that_fits_a_schema_is_made_up_or_refused(schema: dict[str, object]) -> None:
    signature = Signature.from_json_schema(
        {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    )
    for number in range(5):
        _check(signature, number)


def test_a_schema_that_nothing_fits_is_named() -> None:
    signature = Signature.from_json_schema(
        {"type": "object", "properties": {"x": {"not": {}}}, "required": ["x"]}
    )
    with pytest.raises(SignatureError, match="no value was found that fits"):
        _check(signature, 1)
