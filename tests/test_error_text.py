"""Texts that messages are made of."""

import pytest

from dspex.error_text import alternatives, quantity


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows")]
)
def test_number_and_noun_agree(count, text):
    assert quantity(count, "row") == text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], ""),
        (["queued"], "queued"),
        (["queued", "running"], "queued or running"),
        (["queued", "running", "paused"], "queued, running or paused"),
    ],
)
def test_alternatives_are_an_english_list(words, text):
    assert alternatives(words) == text
