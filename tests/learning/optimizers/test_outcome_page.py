"""The page of a search: verdict, held-out rows beside searched trials, changes, prompts, trials."""

from dataclasses import replace

import pytest

import dspex
from dspex.learning.evaluation import Report, Row
from dspex.learning.optimizers import Candidate, Outcome, Trial
from dspex.learning.optimizers.export import to_html
from dspex.learning.optimizers.goal import Goal
from dspex.learning.optimizers.limits import figures_of
from dspex.learning.optimizers.verdict import judge
from tests.support.html_pages import check_self_contained

HOSTILE = "</script><b onclick='x'>\x00\ud800"


def _report(scores, name="rows"):
    rows = [
        Row(
            index=n,
            example=dspex.Example(question=f"q{n}", label="ab"[n % 2]),
            outputs=None if score is None else {"label": "ab"[n % 2] if score else HOSTILE},
            scores={} if score is None else {"right": score},
            error=HOSTILE if score is None else None,
        )
        for n, score in enumerate(scores)
    ]
    return Report(rows=tuple(rows), metrics=("right",), dataset=name, checksum=name)


def _trial(number, scores, values, label="a candidate", **more):
    report = _report(scores)
    candidate = Candidate(label=label, assignment=values, **more)
    figures = figures_of(report)
    return Trial(
        number=number, candidate=candidate, report=report, score=figures["right"], figures=figures
    )


def _outcome(before=(), after=(), **more):
    program = dspex.Predict("question -> label")
    trials = (
        _trial(0, [0.0, 1.0, 0.0, 1.0], {}, label="the program as it is"),
        _trial(1, [1.0], {"self.instructions": HOSTILE}, label=HOSTILE, is_final=False),
        _trial(2, [1.0, 1.0, 1.0, 0.0], {"self.instructions": f"Be exact. {HOSTILE}"}),
    )
    goal = Goal.of(["right"])
    verdict = judge(_report(before), _report(after), goal) if before else None
    return Outcome(
        program=program,
        original=program,
        best=trials[2],
        trials=trials,
        verdict=verdict,
        objective="right",
        **more,
    )


def test_the_page_shows_the_verdict_and_what_it_rests_on():
    outcome = _outcome([0.0] * 12 + [1.0] * 3 + [None], [1.0] * 14 + [0.0, 1.0])
    root = check_self_contained(to_html(outcome, "triage"))
    verdict = root.all(class_="verdict")[0]
    assert verdict.classes == {"verdict", "good"}
    lead = verdict.all(class_="lead")[0].text
    assert lead == "Significantly better on 16 held-out rows: 0.19 in right before, 0.94 after."
    scales = verdict.all(class_="scales")[0].elements
    names = [part.all("span")[0].text for part in scales]
    assert names == ["before", "after", "difference in right"]
    assert len(verdict.all("svg", class_="interval")) == 3
    items = root.all("ol")[0].all("li")
    assert [item.attributes["data-status"] for item in items].count("gained") == 13
    assert items[0].attributes["data-status"] == "lost"
    assert HOSTILE.replace("\x00\ud800", "\ufffd\ufffd") in root.text


def test_held_out_points_differ_from_those_of_the_search():
    outcome = _outcome([0.0] * 8, [1.0] * 8)
    plot = check_self_contained(to_html(outcome)).all("figure")[0]
    drawing = plot.all("svg")[0]
    assert len(drawing.all("circle")) == 2
    assert [part.text for part in drawing.all("path", class_="held-out")] == [
        "held-out rows, before (0, 0)",
        "held-out rows, after (0, 1)",
    ]
    assert "after, on held-out rows" in plot.all(class_="legend")[0].text
    without = check_self_contained(to_html(_outcome())).all("figure")[0]
    assert not without.all(class_="held-out")


def test_all_trials_are_in_a_table_with_their_figures_and_values():
    root = check_self_contained(to_html(_outcome()))
    table = root.all("table", class_="sortable")[0]
    assert [head.text for head in table.all("thead")[0].all("th")] == [
        *("trial", "candidate", "right", "rows", "failed", "usd", "tokens", "p95", "values")
    ]
    first, part, best = table.all("tbody")[0].all("tr")
    assert [badge.text for badge in first.all(class_="badge")] == ["before"]
    assert [badge.text for badge in part.all(class_="badge")] == ["cannot win"]
    assert [badge.text for badge in best.all(class_="badge")] == ["best", "front"]
    assert best.classes == {"best"}
    assert best.all("td")[1].attributes["data-value"] == "0.75"
    assert "Be exact." in best.all("details")[0].text


def test_prompts_are_folded_and_changes_marked():
    root = check_self_contained(to_html(_outcome()))
    (prompt,) = root.all(class_="prompts")[0].all("details")
    assert prompt.all("summary")[0].text == "self"
    assert any("Be exact." in part.text for part in prompt.all("ins"))
    assert "open" not in prompt.attributes


@pytest.mark.parametrize(
    ("more", "tone", "lead"),
    [
        (
            {},
            "warn",
            "Not compared on held-out rows: the best candidate, trial 2, has 0.75 in right",
        ),
        ({"unmet": ("p95<1 (best 2)",)}, "bad", "No program is within the limits: p95<1 (best 2)."),
    ],
)
def test_an_outcome_without_a_verdict_says_so(more, tone, lead):
    outcome = _outcome(**more, warnings=(HOSTILE,), stopped="cancelled")
    root = check_self_contained(to_html(outcome))
    verdict = root.all(class_="verdict")[0]
    assert tone in verdict.classes
    assert verdict.all(class_="lead")[0].text.startswith(lead)
    assert "Stopped early: cancelled." in verdict.text
    assert root.all(class_="warning")[0].text.startswith("Warning: </script>")


def test_an_outcome_whose_unchanged_program_did_best_says_so():
    outcome = _outcome()
    root = check_self_contained(to_html(replace(outcome, best=outcome.trials[0])))
    assert "The unchanged program did best of 3 trials." in root.all(class_="lead")[0].text
    assert "The prompts are as they were." in root.text
    worse = check_self_contained(to_html(_outcome([1.0] * 8, [0.0] * 8)))
    assert worse.all(class_="lead")[0].text.startswith("No significant improvement on 8 held-out")
