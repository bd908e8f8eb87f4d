"""`pytest` runs these tests without a model, `dspex eval` measures the quality."""

import csv
from pathlib import Path

import dspy
from dspy.utils import DummyLM
from program import Routing, TeamChoice


def test_the_team_is_that_of_the_second_reply() -> None:
    model = DummyLM([{"topic": "a lost card"}, {"team": "lost card"}])
    with dspy.context(lm=model):
        assert Routing()(message="I lost my card").team == "lost card"


def test_every_row_has_a_team_that_exists() -> None:
    teams = TeamChoice.output_fields["team"].annotation.__args__
    with Path(__file__).with_name("data.csv").open(newline="") as file:
        assert {row["team"] for row in csv.DictReader(file)} == {*teams}
