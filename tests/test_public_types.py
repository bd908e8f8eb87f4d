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
from tests.support import typed_program, typed_signatures

ROOT = Path(__file__).parents[1]
SAMPLE = Path(str(typed_program.__file__))
SIGNATURES = Path(str(typed_signatures.__file__))  # its lines run as it is imported
OUTPUTS = {"reasoning": "", "team": "cards", "urgency": 2, "reason": "", "score": 1}
AGENT = {"next_thought": "", "next_tool_name": "finish", "next_tool_args": {}}


def run(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout


def wrong_lines(file: Path) -> set[int]:
    """Return the numbers of the lines that a checker must refuse."""
    lines = enumerate(file.read_text().splitlines(), start=1)
    return {number for number, line in lines if line.endswith("# wrong")}


def errors_of_mypy(*files: Path) -> set[tuple[str, int]]:
    """Return the lines that mypy refuses, with the options and the cache of the project."""
    report = run("mypy", "-O", "json", *map(str, files))
    rows = [json.loads(line) for line in report.splitlines() if line.startswith("{")]
    return {(Path(item["file"]).name, item["line"]) for item in rows if item["severity"] == "error"}


def errors_of_basedpyright(file: Path, folder: Path) -> set[int]:
    """Return the lines that basedpyright refuses in strict mode."""
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps({"include": [str(file)], "typeCheckingMode": "strict"}))
    options = ("--pythonpath", sys.executable, "--outputjson", "--project", str(project))
    report = json.loads(run("basedpyright", *options))["generalDiagnostics"]
    return {item["range"]["start"]["line"] + 1 for item in report}


needs_basedpyright = pytest.mark.skipif(
    find_spec("basedpyright") is None, reason="pip install basedpyright"
)


@pytest.mark.full
def test_mypy_refuses_the_wrong_lines_alone() -> None:
    assert wrong_lines(SIGNATURES) == set()
    assert errors_of_mypy(SAMPLE, SIGNATURES) == {
        (SAMPLE.name, number) for number in wrong_lines(SAMPLE)
    }


@pytest.mark.full
@needs_basedpyright
def test_basedpyright_refuses_the_wrong_lines_alone(tmp_path: Path) -> None:
    assert errors_of_basedpyright(SAMPLE, tmp_path) == wrong_lines(SAMPLE)


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
    with pytest.raises(AttributeError, match=r"no field 'tem'\. Did you mean 'team'\?"):
        _ = prediction.outputs.tem
