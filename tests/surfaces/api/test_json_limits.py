"""How many values a body may hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import InvalidError
from dspex.surfaces.api.json_limits import BASE_COUNT, BYTES_PER_VALUE, check_values
from dspex.surfaces.api.requests import decode_json
from dspex.surfaces.api.responses import RequestError
from tests.support.properties import examples

TEXTS = st.text(alphabet='ab,[]{}"\\ é', max_size=6)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS, lambda part: st.lists(part) | st.dictionaries(TEXTS, part)
)


def amount(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(amount, parts))


@examples()
@given(VALUES)
def test_values_are_counted_without_what_is_written_in_texts(value: Any) -> None:
    texts = json.dumps(["," * BASE_COUNT, '"\\' * 1000, value])
    check_values(texts.encode())
    several = [value] * (2 * BASE_COUNT // amount(value) + 2)
    body = json.dumps(several, separators=(",", ":")).encode()
    if 2 * amount(several) > 2 * (BASE_COUNT + len(body) // BYTES_PER_VALUE):
        with pytest.raises(InvalidError):
            check_values(body)


def test_a_text_of_marks_across_chunks_is_one_value() -> None:
    check_values(json.dumps(['\\",[{' * 300_000]).encode())
    check_values(("[" + ",".join(['"\\\\"', '"a,b"'] * 20_000) + "]").encode())


def test_more_text_may_hold_more_values() -> None:
    rows = json.dumps([{"question": "what is it", "answer": "nothing"}] * 50_000).encode()
    check_values(rows)
    with pytest.raises(RequestError, match="more than") as raised:
        decode_json(b"[" + b"{}," * 100_000 + b"{}]")
    assert raised.value.status == 413


def test_a_deep_body_with_an_escaped_zero_is_refused_as_any_other() -> None:
    with pytest.raises(InvalidError):
        decode_json(b'["\\u0000",' + b"[" * 900 + b"]" * 900 + b"]")
