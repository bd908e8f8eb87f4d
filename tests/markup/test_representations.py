"""What notebooks show of each class: escaped, with its styles, and loaded only then."""

import io
import subprocess
import sys

import pytest

import dspex
from dspex.evaluation import ProgressDisplay
from dspex.language.records import Passage, Span, Trace
from dspex.learning.evaluation import Row
from dspex.telemetry import Event
from dspex.testing import FakeClock
from tests.support.html_pages import read_html
from tests.support.report_samples import FRAME, notebook_values

EXPECTED = {
    "signature": ("urgent", "bool", "Be <brief>.", "input", "output"),
    "module": ("Predict", "question -> answer", "3 variables", "self.temperature"),
    "prediction": ("answer", "1 call", "trace", "module Predict"),
    "trace": ("model simulated", "ok"),
    "dataset": ("questions", "20 rows; the first 8:", "question 7"),
    "report": ("in right over 57 rows", "overlap", "the worst rows", "ModelError: 503"),
    "comparison": ("p = ", "60 pairs", "Because"),
    "verdict": ("on 60 held-out rows", "difference in exact_match", "Because"),
    "outcome": ("on 60 held-out rows", "what changed", "after, on held-out rows"),
    "program": ("shout", "question", "self", "predict"),
    "example": ("question", "question 7"),
    "passage": ("rule 7", "source", "document", "page 7", "characters 0 to"),
    "search": ("3 passages of 12 chunks", "page 7", "score"),
    "collection": ("handbook", "12 documents; the first 8:", "page 0"),
    "space": ("3 variables", "self.temperature", "default"),
    "usage": ("1 call",),
    "rag": ("right", "ignored", "in answer over"),
    "worth": ("single agent", "tokens a row", "law", "sums", "needed: it answers"),
    "front": ("no other beats in exact_match, usd (less is better)", "the program as it is"),
}


@pytest.fixture(scope="module")
def values():
    pytest.importorskip("optuna")
    return notebook_values()


@pytest.mark.parametrize("name", EXPECTED)
def test_each_class_shows_itself(values, name):
    root = read_html(values[name]._repr_html_())
    (outer,) = [part for part in root.children if not isinstance(part, str)]
    assert outer.classes == {"dspex", "notebook"}
    assert [text for text in EXPECTED[name] if text not in root.text] == []
    assert not root.all("script")
    for part in root.all():
        assert not any(key.startswith("on") for key in part.attributes)


def test_hostile_values_stay_text():
    text = "</div><script>alert(1)</script>\x00\ud800"
    markup = "</div><script>alert(1)</script>\ufffd\ufffd"
    span = Span(
        trace_id="t", span_id=1, parent_id=9, kind="tool", name=text, path=text,
        start_ns=0, end_ns=5, status="error", error=text,
    )  # fmt: skip
    shows = (
        dspex.Example({text: text}),
        Passage(text=text, document=text, metadata={"a": text}),
        dspex.Collection.from_texts([text.replace("\ud800", "")], name=text),
        dspex.Prediction({text: text, "data": {text: [text, object]}}),
        Trace("t", (span,)),
        dspex.Dataset.from_rows([{text: text}, {"other": 1}], name=text),
        dspex.Signature("question -> answer", text.replace("\ud800", "")),
    )
    for value in shows:
        root = read_html(value._repr_html_())
        assert markup[:-2] in root.text
        assert not root.all("script")


def test_a_trace_is_a_tree_in_the_order_of_time():
    def span(number, parent, start):
        return Span(
            trace_id="t", span_id=number, parent_id=parent, kind="module", name=f"n{number}",
            path="", start_ns=start, end_ns=start + 10,
        )  # fmt: skip

    trace = Trace("t", (span(4, 3, 30), span(3, 1, 20), span(2, 1, 10), span(1, None, 0)))
    names = [head.text for head in read_html(trace._repr_html_()).all("tbody")[0].all("th")]
    assert names == ["n1", "\u00a0" * 3 + "n2", "\u00a0" * 3 + "n3", "\u00a0" * 6 + "n4"]
    assert "An empty trace." in read_html(Trace()._repr_html_()).text


def test_a_trace_has_the_lines_of_the_users_code_behind_an_error():
    span = Span(
        trace_id="t", span_id=1, parent_id=None, kind="module", name="pay", path="", start_ns=0,
        end_ns=5, status="error", error="KeyError: 'rate'", attributes={"frames": [FRAME]},
    )  # fmt: skip
    root = read_html(Trace("t", (span,))._repr_html_())
    assert [part.text for part in root.all("pre")] == [
        "  app.py:12 in pay\n    return RATES[text]['rate']"
    ]


def test_a_program_that_shows_nothing_loads_nothing_of_it():
    code = (
        "import dspex, sys; p = dspex.Predict('question -> answer'); "
        "print([n for n in sys.modules if n.startswith('dspex.markup') or 'representation' in n])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def _row(score):
    return Row(index=0, example=dspex.Example(), scores={} if score is None else {"m": score})


async def test_without_a_notebook_progress_is_a_line_now_and_then():
    stream, clock = io.StringIO(), FakeClock()
    with ProgressDisplay(4, clock=clock, stream=stream) as progress:
        progress(_row(1.0))
        await clock.advance(11)
        progress(_row(0.0))
        progress(_row(None))
        progress(_row(1.0))
    assert stream.getvalue().splitlines() == [
        "2 of 4 rows, mean 0.500, 11 s, about 11 s left",
        "4 of 4 rows, mean 0.667, 1 failed, 11 s",
    ]


def test_progress_of_a_search_is_its_last_message_and_an_error_is_its_end():
    stream, clock = io.StringIO(), FakeClock()
    progress = ProgressDisplay(what="trial", clock=clock, stream=stream)

    def fail():
        with progress:
            progress(Event(name="progress", message="trial 0: best 0.5"))
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert stream.getvalue() == "1 trial, trial 0: best 0.5, 0 s, stopped: KeyError\n"
