"""The sampler on known functions, and the parts that it uses."""

import math

import pytest

from dspex.language.variables import Boolean, Choice, Constraint, Float, Integer, Space, var
from dspex.language.variables.sampling import assignment_at, place_of, value_at
from dspex.learning.optimizers.limits import spread
from dspex.learning.optimizers.sampler import Measurement, Sampler
from dspex.learning.optimizers.surrogate import Surrogate

np = pytest.importorskip("numpy")

BRANCHES = Space(
    [
        Choice("flat", "deep", name="kind"),
        Integer(1, 12, name="depth", when=var("kind").equals("deep")),
        Float(1e-5, 1, log=True, name="rate", when=var("kind").equals("deep")),
        Float(0, 1, name="width", when=var("kind").equals("flat")),
    ]
)


def _bent(values):
    if values["kind"] == "deep":
        return -abs(values["depth"] - 5) * 0.3 - abs(math.log10(values["rate"]) + 2)
    return -0.5 - (values["width"] - 0.3) ** 2


def _suggest(sampler):
    suggestion = sampler.suggest()
    assert suggestion is not None
    return suggestion


def _searched(space, function, count, seed):
    sampler, trials = Sampler(space, seed=seed), []
    for _ in range(count):
        number, values = _suggest(sampler)
        trials.append(values)
        sampler.learn({number: [Measurement(function(values))]})
    return trials


def test_the_optimum_in_a_branch_that_begins_badly_is_found():
    trials = _searched(BRANCHES, _bent, 30, seed=1)
    assert max(map(_bent, trials)) > -0.2
    assert all(("depth" in values) == (values["kind"] == "deep") for values in trials)
    assert trials[:12] == _searched(BRANCHES, _bent, 12, seed=1)
    assert trials[:12] != _searched(BRANCHES, _bent, 12, seed=2)


def test_the_first_suggestions_cover_every_option():
    sampler = Sampler(Space([Choice(*"abcdefgh", name="letter"), Boolean(name="flag")]), startup=8)
    assignments = [_suggest(sampler)[1] for _ in range(8)]
    assert {values["letter"] for values in assignments} == set("abcdefgh")
    assert {values["flag"] for values in assignments} == {False, True}


def test_an_exhausted_space_ends_the_suggestions():
    sampler, trials = Sampler(Space([Choice("a", "b", "c", name="x"), Boolean(name="y")])), []
    while (suggested := sampler.suggest()) is not None:
        trials.append(str(suggested[1]))
        sampler.learn({suggested[0]: [Measurement(float(len(trials)))]})
        assert len(trials) < 50
    assert len(trials) == len(set(trials)) == 6


def test_constraints_hold_for_every_suggestion_and_failures_are_avoided():
    space = Space(
        [Float(0, 1, name="x"), Float(0, 1, name="y")],
        [Constraint(name="half", test=var("x") + var("y") <= 1)],
    )
    sampler, late = Sampler(space, seed=3), []
    for turn in range(20):
        number, values = _suggest(sampler)
        assert values["x"] + values["y"] <= 1
        fails = values["x"] > 0.5
        sampler.learn({number: None if fails else [Measurement(values["x"])]})
        late.append(fails and turn >= 10)
    assert sum(late) <= 5


def test_noise_is_told_from_effects_and_shared_options_share_what_was_seen():
    """ "good" was right 5 times of 6 in each of four places.

    One lucky "bad" was right 6 times of 6.
    """
    sampler = Sampler(
        Space([Choice("bad", "good", name="kind"), Choice(*range(6), name="place")]), startup=1
    )
    trials = (
        [("good", n, 5 / 6) for n in range(4)]
        + [("bad", n, 1 / 6) for n in range(5)]
        + [("bad", 5, 1.0)]
    )
    for kind, place, score in trials:
        sampler.first({"kind": kind, "place": place})
        number, _ = _suggest(sampler)
        sampler.learn({number: [Measurement(score, 0.25 / 6)]})
    expected = [row[0] for row in sampler.expected(range(len(trials)))]
    assert min(expected[:4]) > expected[-1]


def test_surrogate_goes_through_exact_values_and_is_unsure_far_from_them():
    surrogate = Surrogate([True, False], seed=1)
    points = np.array([[x / 7, float(n)] for x in range(8) for n in range(2)])
    values = np.sin(3 * points[:, 0]) + points[:, 1]
    surrogate.fit(points, values, np.zeros(len(values)))
    mean, deviation = surrogate.predict(points)
    assert np.abs(mean - values).max() < 0.05
    far = surrogate.predict(np.array([[0.5, 0.0], [math.nan, 2.0]]))
    assert abs(far[0][0] - math.sin(1.5)) < 0.05
    assert far[1][1] > 5 * deviation.max()


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        (Float(0, 2, name="x"), [0.0, 0.5, 1.999]),
        (Float(0.001, 1000, log=True, name="x"), [0.001, 1.0, 500.0]),
        (Float(0, 10, prior=(2, 1), name="x"), [1.0, 2.0, 4.0]),
        (Integer(2, 20, step=3, name="x"), [2, 5, 20]),
        (Integer(1, 1000, log=True, name="x"), [1, 30, 1000]),
        (Choice("a", True, 1, weights=(1, 5, 2), name="x"), ["a", True, 1]),
        (Boolean(name="x"), [False, True]),
    ],
)
def test_a_value_stands_at_its_place(variable, values):
    for value in values:
        place = place_of(variable, value)
        assert 0 <= place <= 1
        result = value_at(variable, min(place, 1 - 1e-12))
        assert result == (
            pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
        )
        assert type(result) is type(value)
    assert assignment_at(Space([variable]), lambda name: 0.0) == {"x": value_at(variable, 0.0)}


def test_spread_takes_the_best_and_then_the_farthest_of_the_front():
    points = [(3.0, 0.0), (2.9, 0.1), (0.0, 3.0), (1.0, 1.0), (0.5, 0.5)]
    assert spread(points, 5)[:3] == [0, 2, 1]
    assert spread([*points, (0.0, 3.1)], 5)[:2] == [0, 3]  # the other end is known already
    assert spread([(1.0,), (3.0,), (2.0,)], 3) == [1, 2, 0]


def test_a_pending_point_changes_no_mean_and_reduces_uncertainty_nearby():
    rng = np.random.default_rng(4)
    points = np.array([[rng.random(), float(n % 3)] for n in range(30)])
    surrogate = Surrogate([True, False], seed=2)
    values = np.sin(4 * points[:, 0]) + points[:, 1] + 0.1 * rng.standard_normal(30)
    expected = surrogate.fit(points, values, np.full(30, 0.01))
    assert expected == pytest.approx(surrogate.predict(points)[0], abs=1e-6)
    candidates = np.array([[1.9, 0.0], [-0.9, 1.0], [0.5, 2.0]])
    mean, deviation = surrogate.predict(candidates)
    for point in ([[1.9, 0.0]], [[1.8, 0.0], [1.85, 1.0]]):
        surrogate.add_pending(np.array(point), 0.01)
    later, doubt = surrogate.predict(candidates)
    assert later == pytest.approx(mean, abs=1e-6)
    assert doubt[0] < 0.5 * deviation[0]
    assert doubt[2] == pytest.approx(deviation[2], rel=0.05)


def test_weights_are_chosen_anew_only_when_an_eighth_more_was_learned(monkeypatch):
    tuned, fit = [], Surrogate.fit

    def counted(self, *args, is_tuned):
        tuned.append(is_tuned)
        return fit(self, *args, is_tuned=is_tuned)

    monkeypatch.setattr(Surrogate, "fit", counted)
    _searched(BRANCHES, _bent, 120, seed=1)
    assert tuned[:8] == [True] * 8
    assert sum(tuned) < 40
    assert len(tuned) > 100
