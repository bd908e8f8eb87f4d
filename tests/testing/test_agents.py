"""Models for tests of agents: scripts by role, skills, chances and failures."""

from typing import Any

import pytest

from dspex import Predict, ReAct
from dspex.errors import ModelUnavailableError
from dspex.execution.context import RunContext
from dspex.language.records import ToolCall
from dspex.language.signatures import Signature
from dspex.testing import AgentTurn, ScriptedModel, by_role, simulated_agents, tool_calls

ASK = "question -> answer"


def ask(role: str, **settings: Any) -> Predict[Any]:
    return Predict(Signature(ASK, role), **settings)


def test_each_role_has_a_script_of_its_own() -> None:
    failure = ModelUnavailableError("gone")
    script = by_role(
        {
            "You are A.": ["[[ ## answer ## ]]\na1", "[[ ## answer ## ]]\na2"],
            "You are B.": lambda request: "[[ ## answer ## ]]\nb",
            "You are C.": failure,
        }
    )
    context = RunContext(model=ScriptedModel(script))
    answers = [ask(f"You are {role}.")(context, question="?").answer for role in "ABAA"]
    assert answers == ["a1", "b", "a2", "a2"]
    with pytest.raises(ModelUnavailableError):
        ask("You are C.")(context, question="?")
    with pytest.raises(AssertionError, match="no role of"):
        ask("You are D.")(context, question="?")


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_a_simulated_agent_sees_its_inputs_and_answers_in_the_layout(adapter: str) -> None:
    turns: list[AgentTurn] = []

    def solve(turn: AgentTurn) -> Any:
        turns.append(turn)
        return {"answer": turn.value("question").upper()}

    context = RunContext(model=ScriptedModel(simulated_agents(solve)))
    assert ask("You shout.", adapter=adapter)(context, question="where to?").answer == "WHERE TO?"
    assert turns[0].fields == ["answer"]
    assert "You shout." in turns[0].text


def test_a_simulated_agent_calls_tools_and_sees_their_results() -> None:
    def look(city: str) -> str:
        """Look up the weather."""
        return f"{city}: 21"

    def solve(turn: AgentTurn) -> Any:
        assert turn.tools == ["look", "finish"]
        if not turn.results:
            return [ToolCall(city, "look", {"city": city}) for city in ("Bern", "Rome")]
        return {"answer": " and ".join(turn.results)}

    model = ScriptedModel(simulated_agents(solve), capabilities=["tools"])
    prediction = ReAct(ASK, [look])(RunContext(model=model), question="?")
    assert prediction.answer == "Bern: 21 and Rome: 21"


def test_chances_are_equal_for_equal_prompts_and_failures_have_their_rate() -> None:
    def solve(turn: AgentTurn) -> Any:
        return {"answer": str(turn.chance() < 0.3)}

    def answers(seed: int, failures: float) -> list[str]:
        context = RunContext(
            model=ScriptedModel(simulated_agents(solve, seed=seed, failures=failures))
        )
        results = []
        for number in range(200):
            try:
                results.append(ask("You guess.")(context, question=str(number)).answer)
            except ModelUnavailableError:
                results.append("failed")
        return results

    first = answers(1, 0.0)
    assert first == answers(1, 0.0)
    assert first != answers(2, 0.0)
    assert 35 < first.count("True") < 85
    assert 20 < answers(1, 0.2).count("failed") < 60


def test_several_calls_are_one_reply() -> None:
    calls = (ToolCall("1", "a", {}), ToolCall("2", "b", {}))
    assert tool_calls(*calls).tool_calls == calls


@pytest.mark.parametrize(
    ("move", "message"),
    [
        ({"anser": "4"}, "`solve` returned 'anser', which the prompt does not ask for. Did you"),
        (None, "`solve` returned nothing for the prompt"),
    ],
)
def test_a_move_that_answers_nothing_is_an_error_of_the_test(move: Any, message: str) -> None:
    model = ScriptedModel(simulated_agents(lambda _turn: move))
    with pytest.raises(AssertionError) as caught:
        Predict("question -> answer")(RunContext(model=model), question="?")
    assert message in str(caught.value)
