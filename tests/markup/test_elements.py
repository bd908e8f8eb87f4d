"""Elements escape by construction, and the parts of pages are well-formed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.markup import (
    Markup,
    element,
    folded,
    fragment,
    interval_drawing,
    join,
    marked_words,
    page,
    preformatted,
    share_drawing,
    shown_value,
    table,
)
from dspex.markup.elements import clean
from dspex.markup.styles import asset, light_tokens
from tests.support.html_pages import check_self_contained, read_html

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_any_text_stays_text_in_elements_and_attributes(text):
    result = element("p", text, title=text)
    result.encode()
    (node,) = read_html(result).all()
    assert node.text == clean(text)
    assert node.attributes["title"] == clean(text)


@given(ANY_TEXT, ANY_TEXT)
def test_marks_leave_the_words_of_both_texts_as_they_are(before, after):
    expected, actual = marked_words(before, after)
    assert (read_html(expected).text, read_html(actual).text) == (clean(before), clean(after))
    is_marked = "<ins>" in expected or "<del>" in actual
    assert is_marked == (before != after)


def test_only_the_words_that_differ_are_marked():
    expected, actual = marked_words("We answer by Friday.", "We answer by Monday.")
    assert expected == "We answer by <ins>Friday</ins>."
    assert actual == "We answer by <del>Monday</del>."
    assert marked_words("billing", "refund") == ("<ins>billing</ins>", "<del>refund</del>")


def test_very_long_texts_are_marked_as_a_whole():
    before, after = "word " * 5000, "word " * 5000 + "end"
    assert marked_words(before, after)[1] == f"<del>{after}</del>"


def test_markup_enters_as_it_is_and_none_as_nothing():
    assert element("p", Markup("<b>x</b>"), None, "<", hidden=True, title=None, lang=False) == (
        "<p hidden><b>x</b>&lt;</p>"
    )
    assert element("input", type="text", class_="a", data_x=1) == (
        '<input type="text" class="a" data-x="1">'
    )
    assert join("a", ("b", ["&"])) == "ab&amp;"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_not_drawn(value):
    assert interval_drawing(value, 0, 1) == ""
    assert share_drawing(value) == ""


def test_an_interval_is_drawn_on_its_scale_and_never_beyond():
    page = read_html(interval_drawing(0.5, -1, 3, start=0, end=1))
    band = page.all("rect")[0].attributes
    assert (band["x"], band["width"]) == ("0.0%", "100.0%")
    assert not page.all(class_="zero")
    assert read_html(interval_drawing(0, -1, 1, start=-2, end=2)).all(class_="zero")


def test_long_values_are_folded_and_diffs_marked_by_line():
    text = "x" * 2000
    page = read_html(shown_value(join(text), len(text), text))
    assert "2,000 characters" in page.all("summary")[0].text
    diff = read_html(preformatted("--- a, before\n+++ a, after\n-old\n+new\n same", is_diff=True))
    assert [part.text for part in diff.all("del")] == ["-old\n"]
    assert [part.text for part in diff.all("ins")] == ["+new\n"]
    assert diff.text == "--- a, before\n+++ a, after\n-old\n+new\n same\n"
    assert read_html(folded("a", "b", is_open=True)).all("details")[0].attributes == {"open": None}


def test_a_page_is_self_contained_and_a_table_names_its_rows_and_columns():
    root = check_self_contained(page("A <b> & B", table(("a", "b"), [("x", 1)], numeric=(1,))))
    assert root.all("title")[0].text == root.all("h1")[0].text == "A <b> & B"
    assert [head.attributes["scope"] for head in root.all("th")] == ["col", "col", "row"]


def test_each_colour_of_a_drawing_is_a_token():
    assert {"paper", "ink", "muted", "line", "good", "bad", "accent", "held"} <= set(light_tokens())
    for name in ("content.css", "notebook.css"):
        assert "#" not in asset(name), "colours belong into tokens.css"


def test_a_fragment_has_its_styles_and_no_script():
    root = read_html(fragment("<x>"))
    assert "<x>" in root.text
    assert root.all("style")
    assert not root.all("script")
