"""Functions of teams in stored programs: loaded by import path, and refused if they changed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex import Module, Predict
from dspex.agents import Map, Router, Supervisor
from dspex.errors import CheckError, ConflictError, DefinitionError, WaitingForAnswerError
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, build
from dspex.execution.modules.kinds import MODULE_KINDS
from dspex.execution.tools import Tool, ToolPolicy
from dspex.language.programs import Program
from dspex.language.records import ToolCall
from dspex.testing import ScriptedModel

ASK = "question -> answer"
CODE = '''
"""Functions of a team."""

from typing import Any


def is_short(inputs: Any, prediction: Any) -> bool:
    return len(prediction.answer) < LIMIT


def longest(predictions: Any) -> Any:
    return max(predictions, key=lambda prediction: len(prediction.answer))


def needs_approval(tool: str, arguments: Any) -> bool:
    return True


def look(city: str) -> str:
    """Look up the weather."""
    return f"{city}: 21"
'''


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CodeRoot]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "team_code.py").write_text(CODE.replace("LIMIT", "5"))
    sys.modules.pop("team_code", None)
    yield CodeRoot(tmp_path)
    sys.modules.pop("team_code", None)


def teams(code: CodeRoot) -> dict[str, Module]:
    functions = {name: code.load(f"team_code:{name}") for name in ("is_short", "longest", "look")}
    return {
        "verify": Router(ASK, {"one": Predict(ASK)}, verify=functions["is_short"]),
        "reduce": Map(ASK, [Predict(ASK), Predict(ASK)], reduce=functions["longest"]),
        "tools": Supervisor(ASK, {"one": "You answer."}, tools=[functions["look"]]),
    }


def chat(answer: str) -> str:
    return f"[[ ## answer ## ]]\n{answer}"


def test_functions_of_a_team_are_stored_by_their_import_path(code: CodeRoot) -> None:
    for name, team in teams(code).items():
        program = Program.from_json(team.to_program("t").to_json())
        copy = build(program, code=code)
        assert copy.to_program("t").content_hash == program.content_hash
        with pytest.raises(DefinitionError, match="code is not loaded here"):
            build(program)
        replies: dict[str, list[Any]] = {
            "verify": [chat("too long"), chat("ok")],
            "reduce": [chat("a"), chat("abc")],
            "tools": [
                ToolCall("1", "look", {"city": "Bern"}),
                ToolCall("2", "finish", {"answer": "ok"}),
            ],
        }
        model = ScriptedModel(*replies[name], capabilities=["tools"])
        answer = copy(RunContext(model=model), question="?").answer
        assert answer == {"verify": "ok", "reduce": "abc", "tools": "ok"}[name]
    model = ScriptedModel(chat("far too long"))
    with pytest.raises(CheckError, match="was not accepted"):
        build(teams(code)["verify"].to_program("t"), code=code)(
            RunContext(model=model), question="?"
        )


def test_a_function_that_changed_is_refused(code: CodeRoot) -> None:
    programs = {name: team.to_program("t") for name, team in teams(code).items()}
    (code.folder / "team_code.py").write_text(CODE.replace("LIMIT", "6"))
    sys.modules.pop("team_code", None)
    for program in programs.values():
        with pytest.raises(ConflictError, match="has changed since"):
            build(program, code=code)


def test_the_approval_of_a_supervisors_tool_is_code_of_the_team(code: CodeRoot) -> None:
    look, rule = code.load("team_code:look"), code.load("team_code:needs_approval")
    tool = Tool.from_function(look, policy=ToolPolicy(approval=rule))
    program = Supervisor(ASK, {"one": "You answer."}, tools=[tool]).to_program("t")
    targets = [config.get("target") for config in MODULE_KINDS["supervisor"].code(program.root)]
    assert {"team_code:look", "team_code:needs_approval"} <= set(targets)
    copy = build(Program.from_json(program.to_json()), code=code)
    model = ScriptedModel(ToolCall("1", "look", {"city": "Bern"}), capabilities=["tools"])
    with pytest.raises(WaitingForAnswerError, match="'tool': 'look'"):
        copy(RunContext(model=model), question="?")


def test_a_function_without_an_import_path_is_named() -> None:
    for team, what in [
        (Router(ASK, {"one": "x"}, verify=lambda inputs, prediction: True), "`verify`"),
        (Map(ASK, {"one": "x"}, reduce=lambda predictions: predictions[0]), "`reduce`"),
    ]:
        with pytest.raises(DefinitionError, match=what):
            team.to_program("t")
