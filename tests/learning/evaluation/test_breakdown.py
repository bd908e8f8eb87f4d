"""Slices, pass rates, and the agreement of a metric with people."""

import math
from typing import Any

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.evaluation import Report, Row, agreement, pass_rate, slices, wilson
from dspex.language.records import Example
from dspex.learning.evaluation.breakdown import breakdown
from dspex.statistics import kappa


def report(*rows: tuple[dict[str, Any], float | None]) -> Report:
    """Return a report of rows with these fields and scores; None is a failed row."""
    return Report(
        rows=tuple(
            Row(
                index=index,
                example=Example(fields),
                scores={} if score is None else {"m": score},
                error="failed" if score is None else None,
            )
            for index, (fields, score) in enumerate(rows)
        ),
        metrics=("m",),
        dataset="d",
        checksum="",
    )


def two_by_two(*counts: int) -> tuple[list[bool], list[bool]]:
    """Return the ratings of two raters: both yes, only the first, only the second, neither."""
    kinds = [(True, True), (True, False), (False, True), (False, False)]
    pairs = [pair for pair, count in zip(kinds, counts, strict=True) for _ in range(count)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # published worked examples: grants read by two readers, and two tables of equal agreement
        ((20, 5, 10, 15), 0.4),
        ((45, 15, 25, 15), 0.06 / 0.46),
        ((25, 35, 5, 35), 0.14 / 0.54),
        ((5, 0, 0, 5), 1.0),
        ((0, 5, 5, 0), -1.0),
    ],
)
def test_kappa_is_that_of_published_tables(counts: tuple[int, ...], expected: float) -> None:
    assert kappa(*two_by_two(*counts)) == pytest.approx(expected, abs=1e-9)


def test_kappa_of_several_categories_is_that_of_cohen() -> None:
    # the table of J. Cohen (1960) of 200 ratings in three categories, in which kappa is 0.492
    table = ((88, 14, 18), (10, 40, 10), (2, 6, 12))
    pairs = [
        (i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)
    ]
    value = kappa([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert value == pytest.approx((0.70 - 0.41) / 0.59, abs=1e-9)
    assert math.isnan(kappa([1, 1], [1, 1]))
    assert math.isnan(kappa([], []))
    with pytest.raises(DefinitionError, match="not 1 and 0"):
        kappa([1], [])


def test_slices_have_means_with_intervals_and_count_failures() -> None:
    data = report(
        *(({"topic": "a"}, float(n < 8)) for n in range(10)),
        ({"topic": "b"}, 1.0),
        ({"topic": "b"}, None),
        ({}, 1.0),
    )
    first, second = slices(data, "topic")
    assert (first.value, first.scored, first.failed, first.mean) == ("a", 10, 0, 0.8)
    assert first.interval == wilson(8, 10)
    assert (second.value, second.scored, second.failed, second.mean) == ("b", 1, 1, 1.0)
    with pytest.raises(DefinitionError, match=r"'topics'.*Did you mean 'topic'"):
        slices(data, "topics")


def test_the_pass_rate_is_over_examples_with_its_interval() -> None:
    data = report(*(({}, score) for score in (0.2, 0.7, 0.8, 0.9, None)))
    rate = pass_rate(data, 0.8)
    assert (rate.share, rate.passed, rate.scored) == (0.5, 2, 4)
    assert rate.interval == wilson(2, 4)


def test_agreement_of_a_metric_with_people_counts_both_kinds_of_errors() -> None:
    yes, no = two_by_two(20, 5, 10, 15)
    words = {True: "good", False: "bad"}
    pairs = zip(yes, no, strict=True)
    rows = [({"human": words[label]}, 0.9 if score else 0.1) for score, label in pairs]
    data = report(*rows, ({"human": None}, 1.0), ({"human": 1}, None))
    result = agreement(data, "human")
    assert [result.kappa, result.share] == pytest.approx([0.4, 0.7])
    assert (result.pairs, result.false_passes, result.false_failures) == (50, 5, 10)
    with pytest.raises(DefinitionError, match="holds 'maybe'; a label is a number"):
        agreement(report(({"human": "maybe"}, 1.0)), "human")


def test_a_breakdown_has_what_was_asked_for_and_no_more() -> None:
    data = report(({"topic": "a", "human": True}, 1.0), ({"topic": "a", "human": False}, 0.0))
    assert breakdown(data) == {}
    parts = breakdown(data, slice_by="topic", pass_at=0.5, label="human")
    assert parts["slices"]["m"][0]["mean"] == parts["pass_rates"]["m"]["share"] == 0.5
    assert parts["agreement"]["m"]["kappa"] == 1.0


def test_the_metrics_of_answers_take_several_right_answers() -> None:
    from dspex.evaluation import answer_match, passage_match

    def answer(text: str, **fields: Any) -> dspex.Prediction:
        return dspex.Prediction({"answer": text, **fields})

    right = Example({"answer": ["The Eiffel Tower", "Tour Eiffel"]})
    assert answer_match(right, answer("eiffel  tower.")) == 1.0
    assert answer_match(right, answer("tower")) == 0.0
    assert answer_match(Example({"answer": '["Paris", "Lutetia"]'}), answer("lutetia!")) == 1.0
    assert answer_match(Example({"answer": "[sic]"}), answer("sic")) == 1.0
    passages = [{"text": "It was the tour Eiffel, of course."}, {"text": "eiffels tower"}]
    assert passage_match(right, answer("x", passages=passages)) == 1.0
    assert passage_match(right, answer("x", passages=passages[1:])) == 0.0
    with pytest.raises(DefinitionError, match="needs the output `passages`"):
        passage_match(right, answer("x"))


@pytest.mark.bridge
def test_answers_match_where_those_of_dspy_do() -> None:
    from dspy.evaluate.metrics import EM

    from dspex.evaluation import answer_match

    texts = [
        "The cat",
        "a cat.",
        "cat",
        "CAT!",
        "cats",
        "",
        "an",
        "ä cat",
        "a\u0308 cat",
        "the-cat",
        "ten %",
    ]
    for expected in texts:
        for text in texts:
            own = answer_match(Example({"answer": [expected]}), dspex.Prediction({"answer": text}))
            assert own == float(EM(text, [expected])), (expected, text)
