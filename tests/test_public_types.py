"""What type checkers know of programs, and that it is true: see `support/typed_program.py`."""

import asyncio
import inspect
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import dspex
from dspex.models import Request
from dspex.testing import ScriptedModel
from tests.support import typed_program

ROOT = Path(__file__).parents[1]
SAMPLE = Path(str(typed_program.__file__))
WRONG = {
    number
    for number, line in enumerate(SAMPLE.read_text().splitlines(), start=1)
    if line.endswith("# wrong")
}
OUTPUTS = {"reasoning": "", "team": "cards", "urgency": 2, "reason": "", "score": 1}
AGENT = {"next_thought": "", "next_tool_name": "finish", "next_tool_args": {}}


def run(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout


@pytest.mark.full
def test_mypy_refuses_the_wrong_lines_alone() -> None:
    report = run("mypy", "-O", "json", str(SAMPLE))  # with the options and the cache of the project
    rows = [json.loads(line) for line in report.splitlines() if line.startswith("{")]
    errors = {item["line"]: item["message"] for item in rows if item["severity"] == "error"}
    assert errors.keys() == WRONG, report


@pytest.mark.full
@pytest.mark.skipif(find_spec("basedpyright") is None, reason="pip install basedpyright")
def test_basedpyright_refuses_the_wrong_lines_alone(tmp_path: Path) -> None:
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps({"include": [str(SAMPLE)], "typeCheckingMode": "strict"}))
    options = ("--pythonpath", sys.executable, "--outputjson", "--project", str(project))
    report = json.loads(run("basedpyright", *options))["generalDiagnostics"]
    errors = {item["range"]["start"]["line"] + 1: item["message"] for item in report}
    assert errors.keys() == WRONG, report


def reply(request: Request) -> str:
    """Answer the fields that the prompt asks for."""
    prompt = str(request.messages)
    fields = AGENT if "next_tool_name" in prompt else OUTPUTS
    return json.dumps({name: value for name, value in fields.items() if f"`{name}`" in prompt})


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(typed_program).items()
        if name.count("_") > 1 and callable(value)
    ],
)
def test_the_right_lines_run(name: str) -> None:
    function = getattr(typed_program, name)
    with dspex.context(model=ScriptedModel(reply), adapter="json"):
        if inspect.iscoroutinefunction(function):
            asyncio.run(function())
        else:
            function()


def test_outputs_are_the_fields_by_attribute_and_an_unknown_one_is_named() -> None:
    prediction = dspex.Prediction(team="cards", usage="little")
    assert (prediction.outputs.team, prediction.outputs.usage) == ("cards", "little")
    with pytest.raises(AttributeError, match="no field 'tem'; its fields are: team, usage"):
        _ = prediction.outputs.tem
