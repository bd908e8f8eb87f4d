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
    samples,
    var,
)
from dspex.language.variables.presets import model_settings, reply_room, strategy


def _space():
    return Space(
        [
            Choice("predict", "cot", name="kind"),
            Integer(1, 5, default=2, name="steps", when=var("kind").equals("cot")),
            Float(0, 1.5, precision=2, default=0.5, name="heat"),
            Composite(var("steps") * 64, name="room"),
            Text(name="instructions"),
        ],
        [Constraint(name="cool when long", test=(var("steps") < 4) | (var("heat") <= 1), rewrite={"heat": 1.0})],
    )


def test_defaults_are_filled_and_composites_computed_in_their_order():
    assert _space().complete({"kind": "cot"}) == {"kind": "cot", "steps": 2, "heat": 0.5, "room": 128}


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
    drawn = list(itertools.islice(samples(space, seed=7, method=method), 300))
    assert drawn == list(itertools.islice(samples(space, seed=7, method=method), 300))
    assert drawn != list(itertools.islice(samples(space, seed=8, method=method), 300))
    for values in drawn:
        made = space.complete(values)
        assert {name: made[name] for name in values} == values
        assert ("steps" in values) == (values["kind"] == "cot")
    assert set(Counter(values.get("steps") for values in drawn)) == {None, 1, 2, 3, 4, 5}


def test_quasi_random_samples_fill_a_square_more_evenly():
    space = Space([Float(0, 1, name="x"), Float(0, 1, name="y")])

    def empty_cells(method):
        points = itertools.islice(samples(space, seed=1, method=method), 256)
        return 256 - len({(int(p["x"] * 16), int(p["y"] * 16)) for p in points})

    assert empty_cells("quasi") < empty_cells("random") * 0.8


def test_weights_and_log_scale_shape_the_samples():
    space = Space([Choice("a", "b", weights=(9, 1), name="c"), Float(0.001, 1000, log=True, name="x")])
    drawn = list(itertools.islice(samples(space, seed=0), 1000))
    assert 850 < sum(values["c"] == "a" for values in drawn) < 950
    assert 450 < sum(values["x"] < 1 for values in drawn) < 550


def test_space_survives_json():
    space = _space().add(
        Boolean(name="flag"),
        Examples(name="demos", paths=("self.demos",)),
        Float(1, 10, log=True, prior=(2, 1), name="x", paths=("a.x", "b.x"), bindings={"b.x": var("x") / 2}),
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
    with pytest.raises(VariableError, match="circle"):
        Space([Composite(var("b") + 1, name="a"), Composite(var("a") + 1, name="b")])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Float(1, 0), "swap its ends"),
        (lambda: Float(0, 1, log=True), "above 0"),
        (lambda: Float(0, float("inf")), "finite"),
        (lambda: Integer(0, 4, default=5), "the default 5 is not an integer from 0 to 4"),
        (lambda: Choice(), "at least one option"),
        (lambda: Choice("a", "a"), "two options are the same"),
        (lambda: Choice("a", "b", weights=(1,)), "as many weights"),
        (lambda: Choice("a", default="b"), "not one of 'a'"),
    ],
)
def test_declaration_that_no_value_satisfies_is_refused(make, said):
    with pytest.raises(VariableError, match=said):
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
    space = Space([Boolean(name="a"), Choice(1, 2, 3, name="b"), Integer(0, 8, step=2, name="c"), Text(name="t")])
    assert (space.size, space.dimensions) == (30, 3)
    assert Space([Float(0, 1, name="x")]).size == float("inf")


_leaves = st.one_of(st.sampled_from(["x", "y"]).map(var), st.integers(-5, 5))
_expressions = st.recursive(
    _leaves,
    lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "<", "<=", "==", "min", "max"]), inner, inner).map(
        lambda parts: Expression(parts[0], parts[1:])
    ),
    max_leaves=12,
).filter(lambda made: isinstance(made, Expression))


@given(_expressions, st.integers(-9, 9), st.integers(-9, 9))
def test_expression_means_the_same_after_json(expression, x, y):
    again = Expression.from_data(json.loads(json.dumps(expression.to_data())))
    assert again == expression
    assert again({"x": x, "y": y}) == expression({"x": x, "y": y})


def test_expression_as_a_python_condition_is_refused():
    with pytest.raises(VariableError, match="not true or false"):
        bool(var("x") > 1)
    with pytest.raises(VariableError, match="cannot be computed"):
        (var("x") / 0)({"x": 1})


def test_presets_bring_their_constraints():
    space = model_settings(models=("a", "b"), adapters=("chat", "json"))
    assert space.complete({"self.temperature": 1.4, "self.top_p": 0.2})["self.top_p"] == 1.0
    assert "self.top_p" not in space.complete({})
    reasoning = space.add(
        strategy("self", "predict", "cot"), reply_room("self.max_tokens", var("self.self").equals("cot"))
    )
    assert reasoning.complete({"self.self": "cot", "self.max_tokens": 64})["self.max_tokens"] == 256
    assert reasoning.complete({"self.max_tokens": 64})["self.max_tokens"] == 64
