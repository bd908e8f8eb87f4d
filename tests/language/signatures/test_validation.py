import copy
import gc
import json
import math
import threading
import time

import jsonschema
import pytest
from pydantic import BaseModel, field_validator

from dspex.errors import InputError
from dspex.language.signatures import MISSING, Signature, Type
from dspex.language.signatures.content import Code, History, Image, ToolCalls
from dspex.language.signatures.problems import brief

JUDGE = jsonschema.Draft202012Validator


def signature_of(text: str) -> Signature:
    return Signature(f"-> x: {text}")


def check(text, value, mode="coerce"):
    return signature_of(text).validate_outputs({"x": value}, mode=mode)["x"]


def refused(text, value, mode="coerce"):
    with pytest.raises(InputError) as caught:
        check(text, value, mode)
    return caught.value.fields


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("int", "42", 42), ("bool", "true", True), ("str", 42, "42"), ("float", "0.5", 0.5),
        ("Literal[1, 2]", "2", 2), ("Literal[true]", "True", True), ("binary", "aGk=", b"hi"),
        ("float[precision=2]", 0.126, 0.13), ("dict[int, str]", {"1": "a"}, {1: "a"}),
        ("dict[str, int]", [{"key": "a", "value": 1}], {"a": 1}),
        ("Image", "https://x", Image("https://x")),
        ("Code", "x = 1", Code("x = 1")), ("History", [], History()),
        ("ToolCalls", {"calls": []}, ToolCalls()),
    ],
)  # fmt: skip
def test_coercing_reads_what_is_meant_and_strict_refuses_it(text, value, expected):
    result = check(text, value)
    assert result == expected
    assert type(result) is type(expected)
    if not isinstance(value, dict) or text.startswith("dict"):
        assert refused(text, value, mode="strict")


def test_union_members_are_tried_in_order_and_exact_matches_first():
    assert check("int | str", "42") == "42"
    assert check("str | int", 42) == 42
    assert check("float | int", 1) == 1
    assert type(check("int | float", 1.0)) is float
    assert check("bool | int", 1) == 1
    assert type(check("bool | int", 1)) is int
    assert check("int | bool", True) is True
    assert check("int | none", None) is None
    assert check("int | list[int]", ["3"]) == [3]
    first = "(A{x: int, y: int = 0} | B{x: int, z: int = 0})"
    assert check(first, {"x": 1}).to_dict() == {"x": 1, "y": 0}
    assert type(check(first, {"x": 1, "z": 2})).__name__ == "B"


def test_a_tagged_union_goes_by_its_tag_alone():
    pets = (
        "(Cat{kind: Literal['cat'], n: int} | Dog{kind: Literal['dog', 'wolf'], name: "
        "str})[tag='kind']"
    )
    assert type(check(pets, {"kind": "wolf", "name": "Rex"})).__name__ == "Dog"
    [error] = refused(f"list[{pets}]", [{"kind": "cat", "n": "many"}])
    assert (error.path, error.constraint) == ("x[0].n", "type")
    [error] = refused(pets, {"kind": "cow"})
    assert error.constraint == "tag"
    assert check(f"{pets}?", None) is None


def test_all_errors_come_at_once_each_with_its_path():
    signature = Signature(
        "-> name: str[min_length=2], age: int[ge=0], tags: list[str][max_items=1], who: "
        "Person{home: Place{zip: str}}, "
        "grade: Literal['A', 'B'], when: str[format='date'], p: probability, u: int | list[int], "
        "extra: int"
    )
    with pytest.raises(InputError) as caught:
        signature.validate_outputs(
            {
                "name": "x", "age": -1, "tags": ["a", "b"], "who": {"home": {}}, "grade": "C",
                "when": "today", "p": 2,
                "u": ["x"], "nmae": 1,
            }
        )  # fmt: skip
    errors = {error.path: error for error in caught.value.fields}
    assert {path: error.constraint for path, error in errors.items()} == {
        "name": "min_length", "age": "ge", "tags": "max_items", "who.home.zip": "missing",
        "grade": "one_of",
        "when": "format", "p": "le", "u[0]": "type", "extra": "missing", "nmae": "extra_forbidden",
    }  # fmt: skip
    assert "Did you mean 'name'?" in errors["nmae"].message
    assert errors["age"].message == "must be at least 0, but got -1"
    assert errors["age"].value == -1
    assert "int" in errors["extra"].expected
    assert errors["who.home.zip"].field == "who"
    assert all(path in str(caught.value) for path in errors)
    json.dumps(caught.value.to_dict())


def test_a_union_reports_the_member_that_came_closest():
    [error] = refused("Person{name: str} | int", {"name": []})
    assert error.path == "x.name"
    [error] = refused("int | bool", "maybe")
    assert (error.path, error.message) == (
        "x",
        "must be int | bool (a value of one of several types), but got 'maybe'",
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf"])
def test_no_float_is_nan_or_infinite(value):
    assert refused("float", value)
    assert refused("probability", value)


def test_numbers_at_the_edge():
    assert math.copysign(1, check("float[ge=0]", -0.0)) == -1
    assert check("int", 10**400) == 10**400
    assert check("int", str(10**400)) == 10**400
    assert refused("int", 1.5)
    assert refused("int", True, mode="strict")
    assert refused("float", True, mode="strict")
    [error] = refused("int[le=5]", 10**5000)
    assert "bits" in error.message


@pytest.mark.parametrize(
    "text", ["\x00", "é", "\U0001f600", "e\u0301", "\u202e", "\u2028", "\U0001d4b3" * 100]
)
def test_any_unicode_text_passes_and_lengths_count_characters(text):
    assert check("str", text, "strict") == text
    assert check(f"str[min_length={len(text)}, max_length={len(text)}]", text) == text


def deep(levels, make):
    value = 1
    for _ in range(levels):
        value = make(value)
    return value


def test_depth_has_a_limit_and_never_crashes():
    tree = "Tree{children: list[Tree]}"
    assert refused(tree, deep(100_000, lambda inner: {"children": [inner]}))
    assert refused("any", deep(100_000, lambda inner: [inner]))
    assert refused("list[any]", [deep(100_000, lambda inner: {"a": inner})])
    [error] = refused("int", deep(100_000, lambda inner: [inner]))
    assert "too deep" in str(error.to_dict()["value"])
    circular = []
    circular.append(circular)
    assert refused("any", circular)
    assert check("any", deep(100, lambda inner: [inner]))
    assert len(brief("x" * 10**6)) < 100


def test_many_errors_are_counted_and_the_first_hundred_shown():
    with pytest.raises(InputError) as caught:
        signature_of("list[int]").validate_outputs({"x": ["a"] * 5000})
    assert len(caught.value.fields) == 100
    assert "and 4900 more" in str(caught.value)


def test_recursive_types_are_validated_at_every_level():
    tree = "Tree{value: int, left: Tree?, right: Tree?}"
    root = check(
        tree, {"value": 1, "left": {"value": "2", "left": None, "right": None}, "right": None}
    )
    assert root.left.value == 2
    [error] = refused(tree,
     {"value": 1, "left": {"value": 1, "left": {"value": "x", "left": None, "right": None},
                             "right": None}, "right": None})  # fmt: skip
    assert error.path == "x.left.left.value"


def test_an_absent_member_stays_absent():
    signature = signature_of("P{a: int, b?: int, c: int = 3}")
    outputs = signature.validate_outputs({"x": {"a": 1}})
    assert signature.output_validator.dump(outputs) == {"x": {"a": 1, "c": 3}}
    assert "b" not in outputs["x"]
    assert dict(outputs["x"]) == {"a": 1, "c": 3}


def test_members_beyond_the_declared_ones_are_kept_where_they_are_allowed_also_when_written():
    signature = signature_of(
        "{a: str, open: {b: int}[extra='allow'], shut: {c: int}}[extra='allow']"
    )
    value = {"a": "", "more": 1, "open": {"b": 2, "more": [3]}, "shut": {"c": 4, "less": 5}}
    dumped = signature.output_validator.dump(signature.validate_outputs({"x": value}))["x"]
    assert dumped == {**value, "shut": {"c": 4}}


def test_a_default_is_made_anew_for_each_call():
    signature = signature_of("list[int] = [1]")
    signature.validate_outputs({})["x"].append(2)
    assert signature.validate_outputs({}) == {"x": [1]}


def test_an_alias_is_read_and_the_name_is_written():
    signature = Signature('-> class_ as "class": int')
    assert (
        signature.validate_outputs({"class": 1})
        == signature.validate_outputs({"class_": 1})
        == {"class_": 1}
    )
    assert list(signature.to_json_schema()["properties"]) == ["class"]


def test_every_mode_compiles_once_whoever_calls_however_often():
    class Model(BaseModel):
        a: int

    signature = Signature("a -> b").append("m", Model)
    calls = [signature.validate_outputs, signature.with_instructions("x").validate_outputs]
    for call in calls:
        call({"b": "x", "m": {"a": 1}})
        call({"b": "x", "m": {"a": 1}}, mode="strict")
    assert signature.output_validator.compilations == 2
    barrier = threading.Barrier(4)

    def work():
        barrier.wait(10)
        for call in calls * 50:
            call({"b": "x", "m": {"a": 1}})
            call({"b": "x", "m": {"a": 1}}, mode="strict")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert signature.output_validator.compilations == 2
    assert signature.with_instructions("y").output_validator is signature.output_validator
    assert Signature.of("a -> b") is Signature.of("a -> b")


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_parsing_takes_linear_time(count):
    def seconds(count):
        text = (
            ", ".join(f'f{n}: list[str][min_items=1] "text"' for n in range(count)) + " -> answer"
        )
        best = math.inf
        for _ in range(2):
            gc.disable()  # its cost grows with all that lives, not with the text
            start = time.process_time()
            Signature(text)
            best = min(best, time.process_time() - start)
            gc.enable()
        return best

    seconds(10)
    assert seconds(10 * count - 1) < 15 * seconds(count)


# The exceptions to "what the schema accepts, coercing accepts; what strict accepts, satisfies the
# schema".


def test_exception_a_whole_number_too_large_for_a_float_satisfies_the_schema_and_is_refused():
    assert JUDGE(signature_of("float").to_json_schema()).is_valid({"x": 10**400})
    assert refused("float", 10**400)


def test_exception_a_large_float_that_is_whole_satisfies_the_schema_of_int_and_is_refused():
    assert JUDGE(signature_of("int").to_json_schema()).is_valid({"x": 1e300})
    assert refused("int", 1e300)


def test_exception_the_end_of_a_text_differs_between_dialects_of_regular_expressions():
    assert JUDGE(signature_of("str[pattern='^a$']").to_json_schema()).is_valid({"x": "a\n"})
    assert refused("str[pattern='^a$']", "a\n")


def test_exception_a_float_is_a_multiple_within_rounding_while_the_judge_is_exact():
    assert check("float[multiple_of=0.1]", 0.3, "strict") == 0.3
    assert not JUDGE(signature_of("float[multiple_of=0.1]").to_json_schema()).is_valid({"x": 0.3})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("list[float][unique=true]", [2**53, 2**53 + 1]),
        ("list[float[precision=0]][unique=true]", [0.4, 0]),
    ],
)
def test_exception_uniqueness_is_asked_of_the_values_that_coercing_makes(text, value):
    assert JUDGE(signature_of(text).to_json_schema()).is_valid({"x": value})
    assert refused(text, value)


def test_exception_half_a_surrogate_pair_is_no_text():
    assert JUDGE(signature_of("str").to_json_schema()).is_valid({"x": "\ud800"})
    assert refused("str[min_length=1]", "\ud800")


def test_exception_any_has_a_limit_of_depth_that_the_schema_does_not_state():
    value = deep(250, lambda inner: [inner])
    assert JUDGE(signature_of("any").to_json_schema()).is_valid({"x": value})
    assert refused("any", value)


def test_exception_a_class_checks_by_its_own_rules_what_its_schema_says_by_shape():
    import datetime

    signature = Signature("-> a").append("x", datetime.date)
    value = {"a": "", "x": "2023-02-30"}
    assert JUDGE(signature.to_json_schema()).is_valid(value)
    with pytest.raises(InputError):
        signature.validate_outputs(value)


def test_errors_inside_a_class_are_told_in_its_own_words():
    class Model(BaseModel):
        parts: list["int | Model"] = []

        @field_validator("parts")
        @classmethod
        def few(cls, value):
            if len(value) > 1:
                raise ValueError("at most one part")
            return value

    signature = Signature("-> a").append("m", Model)
    for value, path, message in [
        ({"parts": [1, 2]}, "m.parts", "at most one part, but got [1, 2]"),
        (
            {"parts": [{"parts": "x"}]},
            "m.parts[0].parts",
            "must be list[int | Model] (a list), but got 'x'",
        ),
    ]:
        with pytest.raises(InputError) as caught:
            signature.validate_outputs({"a": "", "m": value})
        assert [(error.path, error.message) for error in caught.value.fields] == [(path, message)]


def test_what_is_no_mapping_is_refused_as_a_whole():
    with pytest.raises(InputError, match="must be a mapping with the fields x, but got None"):
        signature_of("int").validate_outputs(None)


def test_a_copy_is_the_signature_itself():
    signature = signature_of("int")
    assert copy.deepcopy(signature) is signature
    assert copy.deepcopy(MISSING) is MISSING


def test_missing_is_no_value():
    assert repr(MISSING) == "MISSING"
    assert Type("none").is_optional
