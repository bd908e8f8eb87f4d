"""Conditions on metadata: what meets them, and what is refused."""

from typing import Any

import pytest

from dspex.errors import InputError
from dspex.execution.retrieval import Where

METADATA: dict[str, Any] = {"year": 2021, "language": "en", "tags": ["a", 1], "open": True}


@pytest.mark.parametrize(
    ("conditions", "is_met"),
    [
        ({}, True),
        ({"language": "en"}, True),
        ({"language": "de"}, False),
        ({"year": {"gte": 2020, "lt": 2022}}, True),
        ({"year": {"gt": 2021}}, False),
        ({"year": 2021.0}, True),
        ({"year": "2021"}, False),
        ({"open": 1}, False),
        ({"open": True}, True),
        ({"language": {"in": ["de", "en"]}}, True),
        ({"missing": None}, True),
        ({"missing": {"ne": "x"}}, True),
        ({"missing": {"exists": False}}, True),
        ({"language": {"exists": False}}, False),
        ({"missing": {"lt": 5}}, False),
        ({"language": {"lt": 5}}, False),
        ({"tags": {"contains": "a"}}, True),
        ({"tags": {"contains": True}}, False),
        ({"language": "en", "year": {"lte": 2020}}, False),
    ],
)
def test_conditions_compare_values_of_one_type(conditions: dict[str, Any], is_met: bool) -> None:
    assert Where.parse(conditions).is_met_by(METADATA) is is_met


@pytest.mark.parametrize(
    ("conditions", "place"),
    [
        ({"year": {"gtee": 2020}}, "where.year.gtee"),
        ({"year": {"in": []}}, "where.year.in"),
        ({"year": {"in": [{}]}}, "where.year.in[0]"),
        ({"year": {"gt": None}}, "where.year.gt"),
        ({"year": float("nan")}, "where.year.eq"),
        ({"year": {"exists": "yes"}}, "where.year.exists"),
        ({"text": "x" * 1001}, "where.text.eq"),
        ({"": 1}, "where"),
        ({f"n{number}": 1 for number in range(21)}, "where"),
        ([], "where"),
    ],
)
def test_an_invalid_condition_is_refused_with_its_place(conditions: Any, place: str) -> None:
    with pytest.raises(InputError) as raised:
        Where.parse(conditions)
    assert [error.path for error in raised.value.fields] == [place]


def test_a_mistyped_operator_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="Did you mean 'gte'"):
        Where.parse({"year": {"gtee": 2020}})
