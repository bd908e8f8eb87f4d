import itertools
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import VariableError
from dspex.language.variables import (
    Boolean,
    Choice,
    Composite,
    Constraint,
    Examples,
    Expression,
    Float,
    Integer,
    Space,
    Text,
    Variable,
    samples,
    var,
)
from dspex.language.variables.presets import model_settings, reply_room, strategy
from tests.support.properties import examples


def _space():
    return Space(
        [
            Choice("predict", "cot", name="kind"),
            Integer(1, 5, default=2, name="steps", when=var("kind").equals("cot")),
            Float(0, 1.5, precision=2, default=0.5, name="heat"),
            Composite(var("steps") * 64, name="room"),
            Text(name="instructions"),
        ],
        [
            Constraint(
                name="cool when long",
                test=(var("steps") < 4) | (var("heat") <= 1),
                rewrite={"heat": 1.0},
            )
        ],
    )


def test_defaults_are_filled_and_composites_computed_in_their_order():
    assert _space().complete({"kind": "cot"}) == {
        "kind": "cot",
        "steps": 2,
        "heat": 0.5,
        "room": 128,
    }


def test_inactive_variables_and_what_needs_them_have_no_value():
    space = _space()
    assert space.complete({"steps": 5}) == {"kind": "predict", "heat": 0.5}
    assert space.active({}) == {"kind", "heat"}


def test_constraint_rewrites_and_one_without_a_rewrite_refuses_by_name():
    assert _space().complete({"kind": "cot", "steps": 5, "heat": 1.5})["heat"] == 1.0
    strict = Space(
        [Integer(0, 9, name="a"), Integer(0, 9, name="b")],
        [Constraint(name="a below b", test=var("a") < var("b"))],
    )
    assert strict.complete({"b": 3}) == {"a": 0, "b": 3}
    with pytest.raises(VariableError, match=r"'a below b'.*\(a < b\) is not true"):
        strict.complete({"a": 4, "b": 4})


def test_unsatisfiable_space_says_which_constraint():
    space = Space(
        [Integer(0, 9, name="a")],
        [
            Constraint(name="fine", test=var("a") >= 0),
            Constraint(name="never", test=var("a") > 9),
        ],
    )
    with pytest.raises(VariableError, match="'never' refused 200"):
        next(samples(space, seed=0))


@pytest.mark.parametrize("method", ["random", "quasi"])
def test_samples_are_seeded_valid_and_cover_every_option(method):
    space = _space()
    points = list(itertools.islice(samples(space, seed=7, method=method), 300))
    assert points == list(itertools.islice(samples(space, seed=7, method=method), 300))
    assert points != list(itertools.islice(samples(space, seed=8, method=method), 300))
    for values in points:
        result = space.complete(values)
        assert {name: result[name] for name in values} == values
        assert ("steps" in values) == (values["kind"] == "cot")
    assert set(Counter(values.get("steps") for values in points)) == {None, 1, 2, 3, 4, 5}


def test_quasi_random_samples_fill_a_square_more_evenly():
    space = Space([Float(0, 1, name="x"), Float(0, 1, name="y")])

    def empty_cells(method):
        points = itertools.islice(samples(space, seed=1, method=method), 256)
        return 256 - len({(int(p["x"] * 16), int(p["y"] * 16)) for p in points})

    assert empty_cells("quasi") < empty_cells("random") * 0.8


def test_weights_and_log_scale_shape_the_samples():
    space = Space(
        [Choice("a", "b", weights=(9, 1), name="c"), Float(0.001, 1000, log=True, name="x")]
    )
    points = list(itertools.islice(samples(space, seed=0), 1000))
    assert 850 < sum(values["c"] == "a" for values in points) < 950
    assert 450 < sum(values["x"] < 1 for values in points) < 550


def test_space_survives_json():
    space = _space().add(
        Boolean(name="flag"),
        Examples(name="demos", paths=("self.demos",)),
        Float(
            1,
            10,
            log=True,
            prior=(2, 1),
            name="x",
            paths=("a.x", "b.x"),
            bindings={"b.x": var("x") / 2},
        ),
    )
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again.to_dict() == space.to_dict()
    assert dict(again) == dict(space)
    assert next(samples(again, seed=3)) == next(samples(space, seed=3))


def test_add_and_remove_keep_what_belongs_together():
    space = _space().remove("room").remove("steps")
    assert list(space) == ["kind", "heat", "instructions"]
    assert not space.constraints
    with pytest.raises(VariableError, match="Did you mean 'heat'"):
        space.remove("heet")
    with pytest.raises(VariableError, match="two variables are named 'heat'"):
        space.add(Boolean(name="heat"))
    with pytest.raises(VariableError, match="no variable 'steps'"):
        _space().remove("steps")  # the composite still reads it


def test_circle_of_variables_is_refused():
    with pytest.raises(VariableError, match="cycle"):
        Space([Composite(var("b") + 1, name="a"), Composite(var("a") + 1, name="b")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(1, 0), "swap its ends"),
        (lambda: Float(0, 1, log=True), "above 0"),
        (lambda: Float(0, float("inf")), "finite"),
        (lambda: Integer(0, 4, default=5), "the default 5 is not an integer from 0 to 4"),
        (lambda: Choice(), "at least one option"),
        (lambda: Choice("a", "a"), "two options are the same"),
        (lambda: Choice("a", "b", weights=(1,)), "as many weights"),
        (lambda: Choice("a", default="b"), "not one of 'a'"),
        (lambda: Text(options=("a", "b"), weights=(1,)), "as many weights"),
        (
            lambda: Variable(kind="float", low=0, high=1, step=2),
            "`step` does not apply to the kind float; it belongs to: integer",
        ),
        (
            lambda: Variable(kind="integer", low=0, high=9, precision=2),
            "`precision` does not apply to the kind integer",
        ),
        (
            lambda: Variable(kind="float", low=0, high=1, options=(0.1, 0.5)),
            "`options` does not apply to the kind float",
        ),
        (
            lambda: Variable(kind="choice", options=("a",), low=3),
            "`low` does not apply to the kind choice; it belongs to: float, integer",
        ),
        (
            lambda: Variable(kind="boolean", weights=(1, 2)),
            "`weights` does not apply to the kind boolean",
        ),
    ],
)
def test_declaration_that_no_value_satisfies_is_refused(make, message):
    with pytest.raises(VariableError, match=message):
        make()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (Float(0, 1), True),
        (Float(0, 1), 1.01),
        (Integer(0, 8, step=2), 3),
        (Boolean(), 1),
        (Choice(1, 2), True),
        (Text(), 3),
        (Examples(), ["x"]),
        (Composite(var("x") + 1), 3),
    ],
)
def test_value_of_another_kind_is_refused(variable, value):
    with pytest.raises(VariableError, match="takes"):
        variable.check(value)


def test_size_and_dimensions_count_what_can_be_searched():
    space = Space(
        [
            Boolean(name="a"),
            Choice(1, 2, 3, name="b"),
            Integer(0, 8, step=2, name="c"),
            Text(name="t"),
        ]
    )
    assert space.size == 30
    assert Space([Float(0, 1, name="x")]).size == float("inf")


_leaves = st.one_of(st.sampled_from(["x", "y"]).map(var), st.integers(-5, 5))
_expressions = st.recursive(
    _leaves,
    lambda inner: st.tuples(
        st.sampled_from(["+", "-", "*", "<", "<=", "==", "min", "max"]), inner, inner
    ).map(lambda parts: Expression(parts[0], parts[1:])),
    max_leaves=12,
).filter(lambda made: isinstance(made, Expression))


@examples()
@given(_expressions, st.integers(-9, 9), st.integers(-9, 9))
def test_expression_means_the_same_after_json(expression, x, y):
    again = Expression.from_data(json.loads(json.dumps(expression.to_data())))
    assert again == expression
    assert again({"x": x, "y": y}) == expression({"x": x, "y": y})


def test_expression_as_a_python_condition_is_refused():
    with pytest.raises(VariableError, match="has no truth value"):
        bool(var("x") > 1)
    with pytest.raises(VariableError, match="cannot be computed"):
        (var("x") / 0)({"x": 1})


def test_presets_bring_their_constraints():
    space = model_settings(models=("a", "b"), adapters=("chat", "json"))
    assert space.complete({"self.temperature": 1.4, "self.top_p": 0.2})["self.top_p"] == 1.0
    assert "self.top_p" not in space.complete({})
    reasoning = space.add(
        strategy("self", "predict", "cot"),
        reply_room("self.max_tokens", var("self.self").equals("cot")),
    )
    assert reasoning.complete({"self.self": "cot", "self.max_tokens": 64})["self.max_tokens"] == 256
    assert reasoning.complete({"self.max_tokens": 64})["self.max_tokens"] == 64


def test_what_a_later_constraint_rewrites_is_tested_by_the_earlier_ones_again():
    variables = [Float(0, 10, name="a"), Integer(0, 9, default=5, name="b")]
    below = Constraint(name="a stays low", test=var("a") <= 5)
    rewrite = Constraint(name="b stays low", test=var("b") < 3, rewrite={"a": 10.0, "b": 0})
    with pytest.raises(
        VariableError,
        match=r"'a stays low' refuses the assignment: \(a <= 5\) is not true for a=10",
    ):
        Space(variables, [below, rewrite]).complete({})
    mended = Constraint(name="a stays low", test=var("a") <= 5, rewrite={"a": 5})
    assert Space(variables, [mended, rewrite]).complete({}) == {"a": 5, "b": 0}


def test_rewrites_that_undo_one_another_are_named():
    space = Space(
        [Integer(0, 9, name="a"), Integer(0, 9, name="b")],
        [
            Constraint(
                name="up", test=(var("a") > var("b")) | (var("a") >= 3), rewrite={"a": 9, "b": 0}
            ),
            Constraint(name="down", test=var("a") < 5, rewrite={"a": 0}),
        ],
    )
    with pytest.raises(VariableError, match="'up', 'down' undo each other's rewrites endlessly"):
        space.complete({})
    assert space.complete({"a": 4}) == {"a": 4, "b": 0}


def test_rewrite_is_tested_with_composites_computed_anew_and_wakes_what_was_assigned():
    space = Space(
        [
            Choice("short", "long", name="kind"),
            Integer(1, 9, name="size", default=8),
            Integer(1, 5, name="steps", default=2, when=var("kind").equals("long")),
            Composite(var("size") * 100, name="room"),
        ],
        [
            Constraint(name="room", test=var("room") <= 500, rewrite={"size": 5}),
            Constraint(name="long", test=var("kind").equals("long"), rewrite={"kind": "long"}),
        ],
    )
    assert space.complete({"steps": 4}) == {"kind": "long", "size": 5, "steps": 4, "room": 500}


def test_none_as_an_option_is_a_value_and_numbers_are_taken_as_declared():
    space = Space(
        [
            Choice(None, "x", name="stop"),
            Float(0.123, 1, precision=2, name="f"),
            Integer(1, 4, name="n"),
            Text(name="t"),
        ]
    )
    assert space.complete({}) == {"stop": None, "f": 0.123, "n": 1}
    result = space.complete({"f": 0.87654, "n": 2.0, "stop": "x"})
    assert result == {"stop": "x", "f": 0.88, "n": 2}
    assert type(result["n"]) is int
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))).complete({}) == space.complete(
        {}
    )


def test_removed_variable_takes_the_constraints_with_it_that_read_or_rewrite_it():
    space = Space(
        [Integer(0, 9, name="a"), Integer(0, 9, name="b"), Integer(0, 9, name="c")],
        [
            Constraint(name="rewrites b", test=var("a") < 5, rewrite={"b": 1, "a": 2}),
            Constraint(name="reads b in a rewrite", test=var("a") < 5, rewrite={"a": var("b")}),
            Constraint(name="stays", test=var("a") < 5),
        ],
    ).remove("b")
    assert [rule.name for rule in space.constraints] == ["stays"]


_a = Integer(0, 9, name="a")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(0, 1, prior=(0.5, 0)), "standard deviation of a prior is above 0"),
        (lambda: Float(0, 1, prior=(900, 1)), "nowhere near the range"),
        (lambda: Float("0", 1), "two finite limits"),
        (lambda: Integer(0.5, 3), "whole numbers"),
        (lambda: Choice(int, float), "an option is a JSON value"),
        (
            lambda: Float(0, 1, when=var("m") == "x"),  # type: ignore[comparison-overlap]
            r"`when` is False.*var\('a'\)\.equals\('x'\)",
        ),
        (lambda: Composite(lambda values: 1), "`compute` is a function"),
        (
            lambda: Constraint(name="c", test=var("a") == 1),  # type: ignore[comparison-overlap]
            r"test of the constraint 'c' is False.*equals",
        ),
        (
            lambda: Constraint(name="c", test=lambda values: True),
            "test of the constraint 'c' is a function",
        ),
        (
            lambda: Constraint(name="c", test=var("a") < 1, rewrite={"a": lambda values: 0}),
            "'a' in 'c' is a function",
        ),
        (
            lambda: Space(
                [_a], [Constraint(name="c", test=var("a") < 1, rewrite={"a": var("zzz")})]
            ),
            "variable 'zzz'",
        ),
        (
            lambda: Space(
                [_a], [Constraint(name="c", test=var("a") < 1, rewrite={"a": 10})]
            ).check_rewrites(),
            "'c' cannot rewrite.*0 to 9",
        ),
        (
            lambda: Space(
                [Float(0, 1, name="h", paths=("think.x",), bindings={"thnk.x": var("h") / 2})]
            ),
            "'thnk.x', which is not one of its paths. Did you mean 'think.x'",
        ),
        (
            lambda: Space([_a, Float(0, 1, name="h", paths=("x",), bindings={"x": var("a") / 2})]),
            "reads a; a binding reads only its own variable",
        ),
    ],
)
def test_declaration_that_would_fail_later_is_refused_at_once(make, message):
    with pytest.raises(VariableError, match=message):
        make()


def test_arithmetic_takes_a_variable_on_either_side():
    values = {"k": 7}
    terms = [
        1 / var("k"),
        -var("k"),
        15 // var("k"),
        15 % var("k"),
        var("k") // 2,
        var("k") % 4,
        var("k") * -1,
    ]
    assert [term(values) for term in terms] == [1 / 7, -7, 2, 1, 3, 3, -7]


_junk = st.sampled_from(
    [None, 1, -2.5, "x", "", [], [1], ["x", 1], {}, {"x": 1}, [{}], [[]], ["var"], ["var", 1], True]
)


@examples()
@given(st.data())
def test_spoilt_space_is_read_or_refused_with_a_variable_error(data):
    whole = json.loads(
        json.dumps(_space().add(Float(1, 9, prior=(2, 1), name="x", paths=("a",))).to_dict())
    )
    place = whole
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if (
            not isinstance(place[key], dict | list)
            or not place[key]
            or data.draw(st.integers(0, 3)) == 0
        ):
            break
        place = place[key]
    if data.draw(st.booleans()) and isinstance(place, dict):
        del place[key]
    else:
        place[key] = data.draw(_junk)
    try:
        Space.from_dict(whole)
    except VariableError:
        return


@pytest.mark.parametrize(
    "junk", [None, 3, "x", {}, [3], [[]], [{}], {"variables": [{"kind": []}]}, {"variables": 3}]
)
def test_junk_is_no_space(junk):
    with pytest.raises(VariableError):
        Space.from_dict(junk)


@pytest.mark.parametrize(
    "junk", [None, "var", [], ["var"], ["var", 1], [3], ["+", {}], ["+", 3], ["nonsense"], {"a": 1}]
)
def test_junk_is_no_expression(junk):
    with pytest.raises(VariableError):
        Expression.from_data(junk)


def test_rewrite_to_what_a_held_variable_does_not_take_refuses_by_name():
    rule = Constraint(name="neutral", test=(var("t") <= 1) | (var("p") >= 0.5), rewrite={"p": 1.0})
    space = Space([Float(0, 1.5, name="t"), Choice(0.2, name="p")], [rule])
    texts = [values["t"] for values in itertools.islice(samples(space, seed=0), 50)]
    assert max(texts) <= 1
    with pytest.raises(
        VariableError, match=r"'neutral' cannot rewrite the assignment.*one of 0\.2"
    ):
        space.complete({"t": 1.2})


def test_spread_samples_cover_every_option_whatever_its_weight():
    space = Space([Choice(*"abcd", name="letter", weights=(0.94, 0.03, 0.03, 0))])
    letters = [
        values["letter"] for values in itertools.islice(samples(space, seed=0, method="quasi"), 30)
    ]
    assert all(set(letters[start : start + 3]) == {"a", "b", "c"} for start in range(0, 30, 3))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            var("kind").equals("cott"),
            r"the condition of 'steps' compares 'kind' with 'cott'.*Did you mean "
            r"'cot'\?.*'predict', 'cot'",
        ),
        (var("kind").differs("react"), "'kind' with 'react'.*'predict', 'cot'"),
        (var("kind").is_in(["cot", "react"]), "'kind' with 'react'"),
        (~(var("kind").equals("cot") & var("kind").equals("react")), "'kind' with 'react'"),
        (var("flag").equals("yes"), "'flag' with 'yes'.*True, False"),
    ],
)
def test_a_condition_on_an_option_that_does_not_exist_is_refused_when_the_space_is_declared(
    condition, message
):
    variables = [Choice("predict", "cot", name="kind"), Boolean(name="flag")]
    with pytest.raises(VariableError, match=message):
        Space([*variables, Integer(1, 5, name="steps", when=condition)])
    with pytest.raises(VariableError, match="the test of the constraint 'rule'"):
        Space(variables, [Constraint(name="rule", test=condition)])
    stored = Space(variables).to_dict()
    steps = {
        "name": "steps",
        "kind": "integer",
        "low": 1,
        "high": 5,
        "default": 2,
        "when": condition.to_data(),
    }
    old = Space.from_dict(
        {"variables": [*(stored["variables"] if isinstance(stored, dict) else stored), steps]}
    )
    assert "steps" in old  # what an earlier version stored still opens


def test_conditions_on_options_that_exist_and_on_open_values_are_taken():
    Space(
        [
            Choice("predict", "cot", name="kind"),
            Choice(1, 2, name="count"),
            Text(name="text"),
            Integer(1, 5, name="steps", when=var("kind").is_in(["cot"]) | var("count").equals(2)),
            Float(0, 1, name="heat", when=var("text").equals("another") & (var("steps") > 7)),
        ]
    )
