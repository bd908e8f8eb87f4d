"""Reports as files.

Nothing of the data hides the report's own columns, and nothing is a formula.
"""

import csv
import io

import pytest

import dspex
from dspex.learning.evaluation import constant
from dspex.learning.evaluation.export import safe, to_csv, to_html
from tests.support.html_pages import check_self_contained


def _report(*rows):
    return constant(dspex.Dataset.from_rows(rows), {"answer": "b"}, dspex.exact_match)


def test_columns_of_the_data_never_hide_those_of_the_report():
    row = {
        "index": "mine",
        "error": "theirs",
        "data.error": "too",
        "out.answer": "told",
        "answer": "b",
    }
    lines = list(csv.reader(io.StringIO(to_csv(_report(row, row)))))
    assert len(set(lines[0])) == len(lines[0])
    result = dict(zip(lines[0], lines[2], strict=True))
    assert (result["index"], result["error"], result["score.exact_match"]) == ("1", "", "1.0")
    assert (result["data.index"], result["data.data.error"], result["data.error"]) == (
        "mine",
        "theirs",
        "too",
    )
    assert (result["out.answer"], result["data.out.answer"]) == ("b", "told")
    item = check_self_contained(to_html(_report(row))).all("ol")[0].all("li")[0]
    outputs = dict(
        zip((dt.text for dt in item.all("dt")), (dd.text for dd in item.all("dd")), strict=True)
    )
    assert (outputs["index"], outputs["error"], outputs["data.error"]) == ("mine", "theirs", "too")


@pytest.mark.parametrize(
    "text",
    ["=1+1", "\n=1+1", "\r=1+1", "\t=1+1", " =1+1", "\t", "+1", " @x", "\ufeff=1", "\uff1d1"],
)
def test_no_cell_and_no_header_is_a_formula(text):
    lines = list(csv.reader(io.StringIO(to_csv(_report({text: text, "answer": "b"})), newline="")))
    assert [cells[lines[0].index(f"'{text}")] for cells in lines] == [f"'{text}", f"'{text}"]


def test_what_is_no_formula_stays_as_it_is():
    assert [safe(value) for value in ("a = b", "", -1, None, ["=1"])] == [
        "a = b",
        "",
        -1,
        None,
        ["=1"],
    ]
