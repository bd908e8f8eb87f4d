"""Examples and predictions: values by attribute and by key, and what editors complete."""

import copy

import pytest

import dspex
from dspex.testing import ScriptedModel


@pytest.mark.parametrize("record", [dspex.Example, dspex.Prediction])
def test_fields_are_read_by_attribute_and_by_key(
    record: type[dspex.Example | dspex.Prediction],
) -> None:
    value = record(team="cards", keys=2)
    assert (value.team, value["team"], value["keys"]) == ("cards", "cards", 2)
    assert list(value.keys()) == ["team", "keys"]
    with pytest.raises(
        AttributeError,
        match=r"has no field 'tem'\. Did you mean 'team'\? Its fields are: team, keys",
    ):
        _ = value.tem
    with pytest.raises(KeyError):
        _ = value["tem"]
    assert copy.deepcopy(value).team == "cards"


@pytest.mark.parametrize("record", [dspex.Example, dspex.Prediction])
def test_dir_and_completion_of_keys_know_the_fields(
    record: type[dspex.Example | dspex.Prediction],
) -> None:
    value = record(team="cards", urgency=2)
    assert {"team", "urgency", "to_dict", "keys"} <= set(dir(value))
    assert value._ipython_key_completions_() == ["team", "urgency"]
    outputs = dspex.Prediction(team="cards").outputs
    assert "team" in dir(outputs)


def test_a_metric_reads_rows_by_attribute() -> None:
    program = dspex.Predict(
        "text -> label", model=ScriptedModel("[[ ## label ## ]]\na"), adapter="chat"
    )
    rows = dspex.Dataset.from_rows([{"text": "x", "label": "a"}])
    report = dspex.evaluate(program, rows, lambda row, answer: row.label == answer.label)
    assert report.mean == 1
