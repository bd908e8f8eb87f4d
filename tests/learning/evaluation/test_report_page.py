"""The page of a report: its parts, and what hostile rows cannot do."""

import re
from datetime import UTC, datetime

import pytest

import dspex
from dspex.language.records import Usage
from dspex.learning.evaluation import Report, Row, constant
from dspex.learning.evaluation.confusion import confusions
from dspex.learning.evaluation.export import to_html, worst_rows
from dspex.sync import run
from dspex.testing import FakeClock, SimulatedModel
from tests.support.html_pages import check_self_contained

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "<!-- ",
    "]]>",
    "&lt;b&gt;",
    "\x00\x1b[31m\ud800\u202e\r\n\x85",
    "x" * 5000,
)


def _row(index, expected, answered, **more):
    return Row(
        index=index,
        example=dspex.Example(text=f"text {index}", label=expected),
        outputs={"label": answered},
        scores={"right": float(expected == answered)},
        **more,
    )


def _report(*rows, **more):
    more = {"metrics": ("right",), "dataset": "rows", "checksum": "c" * 64, **more}
    return Report(rows=rows, **more)


ROWS = (
    _row(0, "a", "a", seconds=1.0),
    _row(1, "a", "b"),
    _row(2, "b", "b"),
    _row(3, "b", "zzz"),
    Row(index=4, example=dspex.Example(text="text 4", label="a"), error="ModelError: 503"),
)


@pytest.mark.parametrize("text", HOSTILE)
def test_rows_are_text_whatever_they_hold(text):
    example = dspex.Example({text: text, "label": "x"})
    rows = (
        Row(index=0, example=example, outputs={"label": text, text: text}, scores={text: 1.0}),
        Row(index=1, example=example, error=text),
        *(_row(n, text[:50], text[:50] + "?") for n in range(2, 6)),
    )
    usage = Usage(calls=1).of_model(text)
    rows += (Row(index=9, example=example, outputs={}, scores={text: 0.5}, usage=usage),)
    report = _report(*rows, metrics=(text,), dataset=text)
    root = check_self_contained(to_html(report, text, prompts={text: text}))
    assert {part.name for part in root.all("ol")[0].all()} <= {
        *("li", "div", "a", "span", "h3", "dl", "dt", "dd", "p", "ins", "del", "details", "summary")
    }


def test_the_verdict_is_a_sentence_with_its_interval_drawn_and_the_facts_beside():
    usage = Usage(input_tokens=10, output_tokens=2, calls=1, cost_usd=0.5).of_model("m/large")
    report = _report(
        *ROWS[:4],
        _row(5, "a", "a", usage=usage),
        ROWS[4],
        started_at=datetime(2026, 5, 4, tzinfo=UTC),
    )
    root = check_self_contained(to_html(report, "triage on rows"))
    verdict = root.all(class_="verdict")[0]
    assert "0.6 in right over 5 rows; 95% interval 0.23 to 0.88." in verdict.text
    assert "1 row failed" in verdict.text
    assert verdict.all("svg", class_="interval")
    facts = {part.elements[0].text: part.elements[1].text for part in root.all("dl")[0].all("div")}
    assert facts["model"] == "m/large"
    assert facts["cost"] == "$0.5000"
    assert facts["date"].startswith("2026-05-0")


def test_rows_are_shown_worst_first_with_expected_and_answered():
    root = check_self_contained(to_html(_report(*ROWS)))
    items = root.all("ol")[0].all("li")
    assert [item.attributes["id"] for item in items] == [f"row-{n}" for n in (4, 1, 3, 0, 2)]
    failed, wrong, _, right, _ = items
    assert "expected" in failed.text
    assert failed.all(class_="error")[0].text == "ModelError: 503"
    assert [part.text for part in wrong.all("ins")] == ["a"]
    assert [part.text for part in wrong.all("del")] == ["b"]
    assert not right.all("del")
    assert right.all(class_="same")[0].attributes["aria-label"] == "as expected"
    statuses = [
        part.attributes["value"] for part in root.all("input") if "value" in part.attributes
    ]
    assert statuses == ["", "failed", "wrong", "right"]


def test_each_cell_of_the_matrix_names_its_rows():
    report = _report(*ROWS, _row(5, "a", "b", repeat=1))
    (confusion,) = confusions(report.rows)
    assert (confusion.expected, confusion.answered) == (("a", "b"), ("a", "b", "zzz"))
    assert confusion.count("a", "b") == 2
    assert confusion.recall("a") == pytest.approx(1 / 3)
    assert confusion.mistakes() == [("a", "b", 2), ("b", "zzz", 1)]
    cells = check_self_contained(to_html(report)).all("table", class_="matrix")[0].all("button")
    rows = {cell.attributes["aria-label"]: cell.attributes["data-rows"] for cell in cells}
    assert rows["label: expected a, answered b, rows: 2"] == "row-1 row-5-1"


def test_many_labels_are_a_list_of_mistakes_and_long_texts_are_no_labels():
    rows = [_row(n, f"l{n % 20}", f"l{n % 20 - n % 2}") for n in range(60)]
    root = check_self_contained(to_html(_report(*rows)))
    assert not root.all(class_="matrix")
    assert "20 labels; the most frequent mistakes" in root.text
    assert confusions([_row(n, "long " * 30 + str(n % 2), "x") for n in range(9)]) == []
    assert confusions([_row(n, f"all different {n}", "x") for n in range(9)]) == []
    many = [_row(n, "ab"[n % 2], f"strange {n}") for n in range(40)]
    (confusion,) = confusions(many)
    assert (len(confusion.answered), confusion.answered[-1]) == (12, "(other)")
    assert confusion.total("a") == 20


def test_scores_between_0_and_1_are_split_at_the_mean_and_prompts_are_folded():
    rows = [
        Row(index=n, example=dspex.Example(q=n), outputs={"a": n}, scores={"f1": n / 10})
        for n in range(4)
    ]
    page = to_html(_report(*rows, metrics=("f1",)), prompts={"self": "--- system ---\nBe <brief>."})
    root = check_self_contained(page)
    assert [item.attributes["data-status"] for item in root.all("ol")[0].all("li")] == [
        *["below the mean"] * 2,
        *["at or above the mean"] * 2,
    ]
    (prompt,) = root.all(class_="prompts")[0].all("details")
    assert "Be <brief>." in prompt.text
    assert "open" not in prompt.attributes


def test_a_report_without_scores_has_a_page_too():
    root = check_self_contained(to_html(_report(ROWS[4])))
    assert "No row could be scored" in root.all(class_="verdict")[0].text


def test_the_worst_rows_are_lines():
    assert worst_rows(_report(*ROWS)) == [
        "row 4: ModelError: 503",
        "row 1: right 0; label 'b', expected 'a'",
        "row 3: right 0; label 'zzz', expected 'b'",
    ]
    assert worst_rows(_report(ROWS[0])) == []


def test_a_report_knows_when_it_was_started():
    rows = dspex.Dataset.from_rows([{"question": "question 1", "answer": "x"}])
    clock = FakeClock()
    context = dspex.RunContext(model=SimulatedModel(seed=1), clock=clock)
    program = dspex.Predict("question -> answer")
    report = run(dspex.aevaluate(program, rows, dspex.exact_match, context=context))
    assert report.started_at == clock.now()


def test_every_page_has_a_date_or_says_that_it_was_not_recorded():
    rows = dspex.Dataset.from_rows([{"question": "question 1", "answer": "x"}])
    baseline = constant(rows, {"answer": "x"}, dspex.exact_match)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d ", _facts(baseline)["date"])
    assert _facts(_report(*ROWS))["date"] == "not recorded"


def _facts(report):
    root = check_self_contained(to_html(report))
    return {part.elements[0].text: part.elements[1].text for part in root.all("dl")[0].all("div")}
