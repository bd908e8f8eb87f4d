"""`pytest` runs these tests, `pytest --dspex-model NAME` also the quality test."""

from pathlib import Path

import pytest
from program import triage

import dspex
from dspex.surfaces.pytest_plugin import Evaluation
from dspex.testing import ScriptedModel

ROWS = dspex.Dataset.from_file(Path(__file__).with_name("data.csv"))


def test_reply_of_the_model_becomes_the_team() -> None:
    with dspex.context(model=ScriptedModel('{"team": "lost card"}')):
        assert triage(message="I lost my card").team == "lost card"


def test_every_row_has_a_team_that_exists() -> None:
    for row in ROWS:
        triage.signature.validate_outputs({"team": row["team"]})


def test_quality(dspex_eval: Evaluation, pytestconfig: pytest.Config) -> None:
    """Raise the limit when the program gets better."""
    if pytestconfig.getoption("--dspex-model") is None:
        pytest.skip("no --dspex-model")
    rows = ROWS.where(split="test")
    dspex_eval(triage, rows, must=["exact_match>=0.2"])
