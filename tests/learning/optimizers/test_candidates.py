"""Assignments drawn many at a time are the same as those made one by one."""

import math

import pytest

from dspex.language.variables import Boolean, Choice, Constraint, Float, Integer, Space, var
from dspex.learning.optimizers.candidates import AssignmentGenerator

np = pytest.importorskip("numpy")

BRANCHES = Space(
    [
        Choice("flat", "deep", "both", weights=(1, 2, 1), name="kind"),
        Integer(1, 12, step=2, name="depth", when=var("kind").equals("deep")),
        Float(1e-5, 1, log=True, name="rate", when=~var("kind").equals("flat")),
        Boolean(name="is_wide", when=var("kind").equals("flat")),
        Float(0, 1, precision=1, name="width", when=var("is_wide").equals(True)),
        Integer(1, 1000, log=True, name="count"),
    ]
)
HALF = Constraint(name="half", test=var("x") + var("y") <= 1)
TRIANGLE = Space([Float(0, 1, name="x"), Float(0, 1, name="y")], [HALF])


@pytest.mark.parametrize("space", [BRANCHES, TRIANGLE])
def test_a_row_stands_for_the_assignment_that_is_made_of_it(space):
    candidates = AssignmentGenerator(space, seed=3)
    sample = candidates.draw(60)
    for pool in (sample, candidates.mutate(sample.pick(slice(5)), count=20, scale=0.2)):
        assert len(pool) > 20
        for row, key in enumerate(pool.keys()):
            values = candidates.values(pool, row)
            assert values is not None
            assert values == {
                name: value for name, value in space.complete(values).items() if name in values
            }
            assert {name for name in candidates.names if name in values} == space.active(values)
            assert candidates.encode([values]).keys() == [key]


def test_options_are_drawn_as_often_as_their_weights_say():
    codes = AssignmentGenerator(BRANCHES, seed=1).draw(4000).codes[:, 0]
    assert [round(float(np.mean(codes == option)), 1) for option in range(3)] == [0.2, 0.5, 0.3]


def test_one_or_two_values_change_and_the_others_stay():
    space = Space([*(Float(0, 1, name=f"x{n}") for n in range(4)), Choice("a", "b", name="letter")])
    candidates = AssignmentGenerator(space, seed=2)
    parent = candidates.encode([{"x0": 0.1, "x1": 0.2, "x2": 0.3, "x3": 0.4, "letter": "a"}])
    changes = candidates.mutate(parent, count=300, scale=0.05).codes != parent.codes
    assert set(changes.sum(axis=1)) <= {0, 1, 2}  # an option may be drawn again
    assert all(changes.any(axis=0))
    assert not math.isnan(candidates.mutate(parent, count=1, scale=0.1).codes.sum())
