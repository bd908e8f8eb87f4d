"""What a hostile declaration or value may cost.

Limits with typed errors, linear time, a limited number of errors.
"""

import re
import time
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex import Signature
from dspex.error_text import shorten, suggest
from dspex.errors import InputError, SignatureError
from dspex.language.signatures.cancellable_run import CancellableRun
from dspex.language.signatures.limits import LIMITS
from dspex.language.signatures.patterns import engine_pattern
from tests.support.properties import examples

QUICK_SECONDS = 2.5  # of CPU; the attacks took between 5 seconds and for ever


def seconds(function: Any, *args: Any) -> float:
    started = time.thread_time()
    function(*args)
    return time.thread_time() - started


def refusal(text: str) -> SignatureError:
    with pytest.raises(SignatureError) as raised:
        Signature(text)
    return raised.value


def errors_of(text: str, value: Any) -> InputError:
    with pytest.raises(InputError) as raised:
        Signature(text).validate_inputs({"x": value})
    return raised.value


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"^(?=.)(.+)+\x01$", "look-ahead"),
        (r"(?<!a)b", "negative look-ahead or look-behind"),
        (r"((a|(?!b))*)*", "negative look-ahead"),
        (r"(.)\1", "back-reference"),
        (r"(?P<one>.)(?P=one)", "back-reference"),
        (r"(a)?(?(1)b|c)", "a condition on a group"),
        (r"(?>a+)b", "an atomic group"),
        (r"a++b", "a possessive repetition"),
    ],
)
def test_a_pattern_that_needs_a_backtracking_engine_is_refused_with_the_reason(
    pattern: str, reason: str
) -> None:
    with pytest.raises(SignatureError, match=reason) as raised:
        Signature.of("q -> a").with_field("q", str, constraints={"pattern": pattern})
    assert "check=" in raised.value.message
    assert raised.value.context["constraint"] == "pattern"
    # at the very beginning a schema needs no look-ahead: it says the same in two patterns
    schema_pattern = pattern.replace("^(?=.)", ".(?=.)")
    schema = {
        "type": "object",
        "properties": {"q": {"type": "string", "pattern": schema_pattern}},
        "required": ["q"],
    }
    with pytest.raises(SignatureError, match=reason):
        Signature.from_json_schema(schema)


@pytest.mark.parametrize(
    ("pattern", "fits", "refused"),
    [
        (r"^abc\Z", "abc", "abcd"),
        (r"^[[a]+$", "[a", "b"),
        (r"^a{,3}$", "aa", "aaaa"),
        (r"^[^\]a]+$", "b[", "a"),
        (r"(?i)^(?P<word>[a-z]+)$", "Word", "1"),
        (r"^(?:a|[^\d\s])+?\.$", "xa.", "1."),
    ],
)
def test_patterns_of_python_are_written_for_the_linear_engine(
    pattern: str, fits: str, refused: str
) -> None:
    signature = Signature.of("x -> y").with_field("x", str, constraints={"pattern": pattern})
    assert signature.validate_inputs({"x": fits}) == {"x": fits}
    with pytest.raises(InputError):
        signature.validate_inputs({"x": refused})


@examples()
@given(
    st.text(alphabet="ab01[](){}|?*+.^$\\-,wdsZ ", max_size=12),
    st.text(alphabet="ab01-[ ", max_size=5),
)
def test_every_pattern_is_matched_in_linear_time_or_refused(pattern: str, text: str) -> None:
    try:
        engine_pattern(pattern)
    except SignatureError:
        return
    validator = (
        Signature.of("x -> y")
        .with_field("x", str, constraints={"pattern": pattern})
        .input_validator
    )
    try:
        fits = bool(validator({"x": text}))
    except InputError:
        fits = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert fits is (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("x: str[pattern='" + r"\\w" * 20_000 + "'] -> y", "pattern"),
        (r"x: str[pattern='\\w{1000}'] -> y", "pattern_states"),
        (
            ", ".join(rf"x{n}: str[pattern='\\w{{200}}']" for n in range(4)) + " -> y",
            "all_pattern_states",
        ),
        (r"x: str[pattern='((a{1000}){1000}){1000}'] -> y", "pattern_states"),
        ("x: str[pattern='" + "a?" * 1_000_000 + "'] -> y", "text"),
        ("x: int" + "?" * 1_000_000 + " -> y", "text"),
        ("a" * 400_000 + " -> y", "text"),
        ("a" * 201 + " -> y", "name"),
        ("x: {" + "a" * 201 + "} -> y", "name"),
        ("x: " + "A" * 201 + "{a} -> y", "name"),
        ("x as '" + "a" * 201 + "' -> y", "name"),
        (", ".join(f"a{n}" for n in range(2000)) + " -> y", "fields"),
        ("x: {" + ", ".join(f"a{n}" for n in range(2000)) + "} -> y", "members"),
        ("x: " + " | ".join(f"{{a{n}}}" for n in range(200)) + " -> y", "alternatives"),
        ("x: Literal[" + ", ".join(map(str, range(11_000))) + "] -> y", "choices"),
    ],
    ids=lambda value: value[:40],
)
def test_a_declaration_beyond_a_limit_is_refused_quickly_by_the_name_of_the_limit(
    text: str, limit: str
) -> None:
    started = time.thread_time()
    error = refusal(text)
    assert time.thread_time() - started < QUICK_SECONDS
    assert error.context["limit"] == limit
    assert f"{LIMITS[limit].most}" in error.message
    assert len(error.message) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "x: int" + "?" * 90_000 + " -> y",
        "x: (" + " | ".join(f"{{a{n}}}" for n in range(90)) + ")" + "?" * 80_000 + " -> y",
        r"x: str[pattern='\\w{200}'] -> y",
        "x: " + "(" * 45 + "int" + ")?" * 45 + " -> y",
        ", ".join(f"a{n}: float = 1" for n in range(900)) + " -> y",
    ],
    ids=["marks", "marks-of-a-union", "pattern", "parentheses", "defaults"],
)
def test_the_largest_declarations_are_read_and_compiled_quickly(text: str) -> None:
    signature = Signature("a -> b")

    def declare() -> None:
        nonlocal signature
        signature = Signature(text)
        with pytest.raises(InputError):
            signature.validate_inputs({"unknown": 1})

    assert seconds(declare) < 2 * QUICK_SECONDS


@pytest.mark.parametrize(
    "type_",
    [
        "N{v: (A{n: N} | B{n: N} | int)}",
        "N{v: (N | A{v: N})}",
        "N{v: (A{n: N} | dict[str, N])}",
        "N{v: (list[N] | tuple[N, N])}",
        "N{v: (A{m: list[{b: N}]} | B{m: N?})}",
        "N{key?: str, value?: (list[N] | dict[str, N])}",
    ],
)
def test_a_recursive_union_whose_members_share_the_way_back_needs_a_tag(type_: str) -> None:
    error = refusal(f"x: {type_} -> y")
    assert "tag" in error.message
    assert error.context["constraint"] == "tag"


@pytest.mark.parametrize(
    ("type_", "wrap"),
    [
        ("N{v: (A{a: N} | B{b: N} | int)}", lambda value, at: {"v": {"ab"[at % 2]: value}}),
        ("N{v: (A{a: N, b?: N} | int)}", lambda value, at: {"v": {"ab"[at % 2]: value}}),
        ("N{v: (N | list[N] | int)}", lambda value, at: {"v": [value] if at % 2 else value}),
        (
            "N{v: (list[N] | dict[str, N] | int)}",
            lambda value, at: {"v": [value] if at % 2 else {"k": value}},
        ),
        (
            "N{v: (A{k: Literal['a'], n: N} | B{k: Literal['b'], n: N})[tag='k'] | int}",
            lambda value, at: {"v": {"k": "ab"[at % 2], "n": value}},
        ),
    ],
)
@pytest.mark.parametrize("last", [{"v": 1}, {"v": "none of these"}], ids=["right", "wrong"])
def test_other_recursive_unions_take_linear_time(type_: str, wrap: Any, last: Any) -> None:
    value = last
    for at in range(40):
        value = wrap(value, at)
    signature = Signature(f"x: {type_} -> y")

    def validate() -> None:
        try:
            signature.validate_inputs({"x": value})
        except InputError as error:
            assert len(error.fields) <= 100  # noqa: PT017

    assert seconds(validate) < QUICK_SECONDS


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("list[A{x: int} | B{y: int}]", [{}] * 60_000),
        ("list[A{x: int} | B{y: int}]", [{"x": "a"}] * 60_000),
        ("list[int | bool | float]", ["a"] * 60_000),
        ("list[" + " | ".join(f"A{n}{{x: int}}" for n in range(90)) + "]", [{}] * 3_000),
        ("list[int]", ["a"] * 60_000),
        ("list[list[int]]", [["a"]] * 60_000),
        ("dict[str, int]", {f"k{n}": "a" for n in range(60_000)}),
        ("History", {"messages": [{}] * 60_000}),
        ("History", {"messages": [{"role": "user", "content": "hi"}] * 100_000}),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_many_wrong_items_are_told_quickly_and_up_to_a_limit(type_: str, value: Any) -> None:
    signature = Signature(f"x: {type_} -> y")

    def validate() -> None:
        try:
            signature.validate_inputs({"x": value})
        except InputError as error:
            assert 1 <= len(error.fields) <= 100  # noqa: PT017
            assert len(error.message) < 50_000  # noqa: PT017

    assert seconds(validate) < 2 * QUICK_SECONDS


def test_an_error_tells_how_many_more_there_are() -> None:
    error = errors_of("x: list[int] -> y", ["a"] * 60_000)
    assert error.message.endswith("and 59900 more")
    assert errors_of("x: list[int] -> y", ["a"] * 150).message.endswith("and 50 more")


def test_many_unknown_inputs_are_one_error_and_suggestions_stop_at_a_limit() -> None:
    with pytest.raises(InputError) as raised:
        Signature("question -> y").validate_inputs(
            {"question": "", **{f"quastion{n}": 1 for n in range(200_000)}}
        )
    assert len(raised.value.fields) == 1
    assert "200001 members" in raised.value.message
    with pytest.raises(InputError) as raised:
        Signature("question -> y").validate_inputs(
            {"question": "", **{f"quastion{n}": 1 for n in range(90)}}
        )
    assert raised.value.message.count("Did you mean") == 10


def test_a_long_unknown_name_is_shortened_and_nothing_is_close_to_it() -> None:
    with pytest.raises(InputError) as raised:
        Signature("question -> y").validate_inputs({"question": "", "a" * 400_000: 1})
    assert len(raised.value.message) < 500
    assert seconds(suggest, "a" * 400_000, ["a" * 399_999]) < QUICK_SECONDS
    assert seconds(suggest, "a" * 90, ["b" * 90 for _ in range(100_000)]) < QUICK_SECONDS


def test_a_union_of_objects_is_told_apart_by_the_names_that_a_value_has() -> None:
    signature = Signature("x: A{a: int, n: int} | B{b: int, n: int} | str -> y")
    assert signature.validate_inputs({"x": {"b": 1, "n": 2}})["x"].to_dict() == {"b": 1, "n": 2}
    with pytest.raises(InputError) as raised:
        signature.validate_inputs({"x": {"b": "none", "n": 1}})
    assert [error.path for error in raised.value.fields] == ["x.b"]
    with pytest.raises(InputError) as raised:
        signature.validate_inputs({"x": {"b": 1}})
    assert [error.path for error in raised.value.fields] == ["x.n"]
    assert signature.input_validator.dump(signature.validate_inputs({"x": {"a": "1", "n": 2}})) == {
        "x": {"a": 1, "n": 2}
    }


def test_a_text_too_long_for_a_costly_pattern_is_refused() -> None:
    signature = Signature(r"x: str[pattern='(\\w{1,13}){1,13}$'] -> y")
    assert signature.validate_inputs({"x": "word"}) == {"x": "word"}
    error = errors_of(r"x: str[pattern='(\\w{1,13}){1,13}$'] -> y", "a" * 4_000_000)
    assert "more than the" in error.message
    assert "its pattern" in error.message


@examples()
@given(
    st.recursive(
        st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_value_is_shortened_as_python_writes_it(value: Any) -> None:
    text = repr(value)
    assert shorten(value, 10_000) == (text if len(text) <= 10_000 else shorten(value, 10_000))
    assert len(shorten(value, 100)) < 130


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("list[int]", [1] * 5000),
        ("list[list[int] | list[str]]", [["a"] * 3000]),
        ("list[int] | list[str]", ["a"] * 3000),
        ("dict[str, list[float]]", {"a": [1.0] * 2000}),
        ("N{v: (N | list[N] | int)}", {"v": [{"v": 1}] * 1000}),
        ("list[A{x: int} | B{y: str}]", [{"y": "a"}] * 1000),
    ],
)
def test_a_patient_check_gives_what_the_quick_one_gives(type_: str, value: Any) -> None:
    validator = Signature(f"x: {type_} -> y").input_validator
    for mode in ("coerce", "strict"):
        quick = validator({"x": value}, mode=mode)
        assert validator.run_cancellable({"x": value}, CancellableRun(), mode=mode) == quick


def test_a_patient_check_refuses_what_the_quick_one_refuses() -> None:
    for type_, value in [
        ("list[int] | list[bool]", ["a"] * 3000),
        ("list[list[int] | list[bool]]", [["a"] * 3000, [1]]),
        ("tuple[list[int], int]", [["a"] * 3000, "a"]),
    ]:
        validator = Signature(f"x: {type_} -> y").input_validator
        with pytest.raises(InputError):
            validator.run_cancellable({"x": value}, CancellableRun())


def test_a_patient_check_is_ended_from_outside() -> None:
    def look() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Signature("x: list[int] -> y").input_validator.run_cancellable(
            {"x": [1] * 1000}, CancellableRun(look)
        )
