import json

import pytest

from dspex.language.records import Message
from dspex.language.records.canonical import json_bytes


def test_what_is_sent_is_json_whatever_text_is_in_it():
    value = {"whole": "\N{GRINNING FACE}", "half": "\ud83d", "turn": Message("user", "\ud83d")}
    assert json.loads(json_bytes(value)) == {**value, "turn": {"role": "user", "content": "\ud83d"}}
    assert json_bytes({"whole": "é"}) == '{"whole":"é"}'.encode()


@pytest.mark.parametrize("text", ["plain", "\ud83d"])
def test_what_has_no_json_form_is_an_error_or_what_the_caller_says(text):
    value = {text: 1 + 2j}
    assert json.loads(json_bytes(value, unknown=str)) == {text: "(1+2j)"}
    with pytest.raises(TypeError):
        json_bytes(value)
