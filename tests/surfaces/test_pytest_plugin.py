"""The plugin, in separate pytest runs within this process."""

import pytest

from dspex.evaluation import Judge

# what is imported in an inner run only is forgotten after it, so all of it is imported here
from dspex.learning.evaluation.export import to_text
from dspex.learning.optimizers.goal import Goal
from dspex.learning.optimizers.limits import parse_limit
from dspex.session import context
from dspex.testing import ScriptedModel

IMPORTED = (Judge, to_text, Goal, parse_limit, context, ScriptedModel)
pytest_plugins = ["pytester"]

SUITE = """
import dspex
from dspex.testing import ScriptedModel

ROWS = [{"question": f"q{n}", "answer": "yes" if n else "no"} for n in range(4)]
YES = ScriptedModel("[[ ## answer ## ]]\\nyes")
program = dspex.Predict("question -> answer", model=YES)

def test_good(dspex_eval):
    assert dspex_eval(program, ROWS, must=["exact_match>=0.75", "p95<60s", "low>=0.1"]).mean == 0.75

def test_bad(dspex_eval):
    dspex_eval(program, ROWS, must=["exact_match>=0.9", "low>=0.9"])

def test_from_a_file(dspex_eval):
    assert dspex_eval(program, "rows.csv", repeats=2, must=["exact_match>=1"]).repeats == 2

def test_failing_rows(dspex_eval):
    broken = dspex.Predict("question -> answer: int", model=YES)
    dspex_eval(broken, ROWS)

def test_failing_rows_are_allowed(dspex_eval):
    broken = dspex.Predict("question -> answer: int", model=YES)
    assert dspex_eval(broken, ROWS, must=["failed<=4"]).failed == 4
"""


@pytest.fixture
def suite(pytester):
    pytester.makepyfile(test_program=SUITE)
    pytester.makefile(".csv", rows="question,answer\na,yes\n")
    return pytester


def test_thresholds_decide_and_say_what_did_not_hold(suite):
    result = suite.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=2)
    text = result.stdout.str()
    assert "this does not hold: exact_match>=0.9 (it is 0.75), low>=0.9 (it is 0.3006)" in text
    assert (
        "row 0: {'question': 'q0', 'answer': 'no'} -> {'exact_match': 0.0} for {'answer': 'yes'}"
        in text
    )
    assert "this does not hold: failed<=0 (it is 4)" in text
    assert "dspex evaluations" in text
    assert "test_program.py::test_good" in text


def test_a_limit_that_cannot_be_read_is_an_error(pytester):
    pytester.makepyfile(
        SUITE + "\ndef test_it(dspex_eval):\n    dspex_eval(program, ROWS, must=['fast'])\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "test_it")
    assert "is not a limit" in result.stdout.str()
    assert result.ret == 1


def test_a_limit_on_an_unknown_figure_is_an_error_before_anything_is_run(pytester):
    body = """
def test_it(dspex_eval):
    try:
        dspex_eval(program, ROWS, must=["exact_mach>=0.5"])
    finally:
        assert not YES.requests
"""
    pytester.makepyfile(SUITE + body)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "test_it")
    assert "unknown figure 'exact_mach'. Did you mean 'exact_match'?" in result.stdout.str()
    assert "assert not" not in result.stdout.str().partition("short test summary")[2]


def test_every_evaluation_of_a_test_is_in_the_table(pytester):
    body = (
        "def test_two(dspex_eval):\n    for size in (2, 3):\n        dspex_eval(program, "
        "ROWS[:size])\n"
    )
    pytester.makepyfile(f"{SUITE}\n{body}")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "test_two")
    table = result.stdout.str().partition("dspex evaluations")[2]
    assert "test_two " in table
    assert "test_two (2) " in table
    assert "0.667" in table


def test_the_model_of_the_option_is_taken(pytester):
    pytester.makepyfile(
        "import dspex\n"
        "def test_it(dspex_eval):\n"
        "    dspex_eval(dspex.Predict('question -> answer'), [{'question': 'q', 'answer': 'a'}])\n"
    )
    result = pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "--dspex-model", "http://127.0.0.1:9/v1#none"
    )
    assert "failed<=0 (it is 1)" in result.stdout.str()


def test_without_evaluations_nothing_is_added(pytester):
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert "dspex" not in result.stdout.str().partition("collected")[2]


def test_a_judge_says_why_a_limit_does_not_hold(pytester):
    pytester.makepyfile(
        SUITE
        + "\ndef test_it(dspex_eval):\n"
        + "    reply = '[[ ## reason ## ]]\\nCurt.\\n\\n[[ ## score ## ]]\\n0.25'\n"
        + "    judge = dspex.evaluation.Judge('is polite', model=ScriptedModel(reply))\n"
        + "    dspex_eval(program, ROWS, {'polite': judge}, must=['polite>=0.5'])\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "test_it")
    text = result.stdout.str()
    assert "this does not hold: polite>=0.5 (it is 0.25)" in text
    assert "{'polite': 0.25} for {'answer': 'yes'}, because {'polite': 'Curt.'}" in text


def test_an_error_shows_the_line_of_the_test_and_no_source_of_dspex(pytester) -> None:
    pytester.makepyfile(
        """
        import dspex
        from dspex.testing import ScriptedModel

        def test_quality(dspex_eval):
            rows = [{"question": "?", "answer": "4"}]
            dspex_eval(dspex.Predict("question -> answer"), rows, must=["exact_mach>=1"])
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly")
    result.assert_outcomes(failed=1)
    output = result.stdout.str()
    assert 'must=["exact_mach>=1"]' in output
    assert "unknown figure 'exact_mach'. Did you mean 'exact_match'" in output
    assert "def parse_limit" not in output
    assert "pytest_plugin.py" not in output
