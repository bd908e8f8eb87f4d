"""What an agent does beyond its course: streaming, demonstrations, objections.

And its way to data and back.
"""

import asyncio
import sys
import threading
from typing import Any

import pytest

import dspex
from dspex import Module, Predict, ReAct, Tool, ToolSet, build
from dspex.errors import ConflictError, DefinitionError
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, load
from dspex.execution.tools import ToolPolicy
from dspex.language.records import ToolCall
from dspex.telemetry import FieldDelta, Finished, Partial, Status
from dspex.testing import ScriptedModel


def lookup(city: str) -> str:
    """Look up the weather of a city."""
    return f"{city}: 21 degrees"


FIRST = ToolCall("1", "lookup", {"city": "Paris"})
LAST = ToolCall("2", "finish", {"degrees": 21})


def native(*script) -> ScriptedModel:
    return ScriptedModel(*script, capabilities=["tools", "streaming"], piece=6)


async def collected(module, context, **inputs):
    return [event async for event in module.stream(context, **inputs)]


def test_a_native_agent_streams_its_thoughts_its_tools_and_its_answer(go):
    model = native("Let me see.", FIRST, LAST)
    events = go(
        collected(ReAct("q -> degrees: int", [lookup]), RunContext(model=model), q="Paris?")
    )
    assert [type(event) for event in events] == [
        Status,
        FieldDelta,
        FieldDelta,
        Status,
        Status,
        Partial,
        Status,
        Finished,
    ]
    assert [(event.name, event.state) for event in events if isinstance(event, Status)] == [
        ("ReAct", "begun"),
        ("lookup", "begun"),
        ("lookup", "done"),
        ("ReAct", "done"),
    ]
    chunks = [
        (event.path, event.field, event.text, event.attempt)
        for event in events
        if isinstance(event, FieldDelta)
    ]
    assert chunks == [("self", "next_thought", "Let me", 1), ("self", "next_thought", " see.", 1)]
    assert [event.outputs for event in events if isinstance(event, Partial)] == [{"degrees": 21}]


def test_leaving_a_stream_cancels_the_request_of_a_native_agent(go):
    class Hangs(ScriptedModel):
        stopped = False

        async def stream(self, request, emit):
            await emit("Let me see.")
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped = True

    async def main():
        model = Hangs("x", capabilities=["tools", "streaming"])
        stream = ReAct("q -> a", [lookup]).stream(RunContext(model=model), q="")
        async for event in stream:
            if isinstance(event, FieldDelta):
                break
        await stream.aclose()
        return model.stopped

    assert go(main())


def test_a_native_agent_is_shown_its_demonstrations_as_calls():
    agent = ReAct("q -> degrees: int", [lookup])
    agent.react.demos = [
        {
            "q": "Rome?",
            "trajectory": "(nothing yet)",
            "next_thought": "I look it up",
            "next_tool_name": "lookup",
            "next_tool_args": {"city": "Rome"},
        },
        {"next_tool_name": "lookup"},  # without any input
        {"q": "Bonn?", "next_tool_name": "finish"},  # an end without an answer
    ]
    agent.extract.predict.demos = [
        {"q": "Oslo?", "reasoning": "cold", "degrees": 3},
        {"q": "no answer"},
    ]
    model = native(LAST)
    assert agent(RunContext(model=model), q="Paris?").degrees == 21
    turns = model.requests[0].messages[1:]
    assert [(turn.role, turn.content) for turn in turns] == [
        ("user", "q: Rome?\n\ntrajectory: (nothing yet)"),
        ("assistant", "I look it up"),
        ("tool", "(an example: what it returned is left out)"),
        ("user", "q: Oslo?"),
        ("assistant", "cold"),
        ("tool", "(an example: accepted)"),
        ("user", "q: Paris?"),
    ]
    calls = [turn.tool_calls[0] for turn in turns if turn.tool_calls]
    assert calls == [
        ToolCall("example_1", "lookup", {"city": "Rome"}),
        ToolCall("example_2", "finish", {"degrees": 3}),
    ]
    assert [turn.tool_call_id for turn in turns if turn.role == "tool"] == [
        "example_1",
        "example_2",
    ]


def test_an_assert_about_an_agent_reaches_its_model():
    class Warm(Module):
        def __init__(self):
            self.agent = ReAct("q -> degrees: int", [lookup])

        async def forward(self, q):
            result = await self.agent.acall(q=q)
            dspex.Assert(result.degrees > 21, "warmer", of=result)
            return result

    model = native(LAST, ToolCall("3", "finish", {"degrees": 22}))
    assert Warm()(RunContext(model=model), q="").degrees == 22
    past, feedback = model.requests[1].messages[-2:]
    assert past.tool_calls == (ToolCall("refused_1", "finish", {"degrees": 21}),)
    assert (feedback.role, feedback.tool_call_id, "warmer" in feedback.content) == (
        "tool",
        "refused_1",
        True,
    )


def test_settings_of_an_agent_reach_a_model_with_native_tools():
    agent = ReAct("q -> degrees: int", [lookup], temperature=0.5, stop="END", seed=7)
    agent.bind_path("react.max_tokens", 50)
    model = ScriptedModel(FIRST, LAST, capabilities=["tools", "seed"])
    assert agent(RunContext(model=model), q="").degrees == 21
    assert [(ask.temperature, ask.max_tokens, [*ask.stop], ask.seed) for ask in model.requests] == [
        (0.5, 50, ["END"], 7)
    ] * 2
    assert [ask.tool_choice for ask in model.requests] == ["auto"] * 2
    unable = native(LAST)
    agent(RunContext(model=unable, seed=3), q="")
    assert (unable.requests[0].temperature, unable.requests[0].seed) == (0.5, None)
    with pytest.raises(DefinitionError, match="warmth"):
        ReAct("q -> a", [lookup], warmth=1)  # type: ignore[call-arg]


def test_what_an_agent_did_is_its_trajectory():
    def broken(city: str) -> str:
        raise LookupError("no such city")

    wrong = ToolCall("4", "finish", {"degrees": "warm"})
    model = native("Let me see.", FIRST, ToolCall("3", "broken", {"city": "Bonn"}), wrong, LAST)
    prediction = ReAct("q -> degrees: int", [lookup, broken])(RunContext(model=model), q="")
    steps = prediction.trajectory
    assert [(step["tool"], step["arguments"]) for step in steps] == [
        ("lookup", {"city": "Paris"}),
        ("broken", {"city": "Bonn"}),
        ("finish", {"degrees": "warm"}),
        ("finish", {"degrees": 21}),
    ]
    assert [step["observation"] for step in steps[:2]] == [
        "Paris: 21 degrees",
        "error: broken failed: LookupError: no such city",
    ]
    assert steps[1]["error"] == "broken failed: LookupError: no such city"
    assert "int" in steps[2]["error"]
    assert steps[0]["ms"] >= 0
    replies = [
        "[[ ## next_thought ## ]]\nlook\n[[ ## next_tool_name ## ]]\nlookup\n"
        '[[ ## next_tool_args ## ]]\n{"city": "Paris"}',
        "[[ ## next_thought ## ]]\ndone\n[[ ## next_tool_name ## ]]\nfinish\n[[ ## next_tool_args "
        "## ]]\n{}",
        "[[ ## reasoning ## ]]\nr\n[[ ## degrees ## ]]\n21",
    ]
    prediction = ReAct("q -> degrees: int", [lookup])(
        RunContext(model=ScriptedModel(*replies)), q=""
    )
    assert [
        (step["thought"], step["tool"], step["observation"]) for step in prediction.trajectory
    ] == [
        ("look", "lookup", "Paris: 21 degrees"),
        ("done", "finish", None),
    ]
    assert prediction.degrees == 21


def test_what_is_not_a_function_is_not_a_tool():
    with pytest.raises(DefinitionError, match="'lookup' is not a tool; give a function"):
        ReAct("q -> a", ["lookup"])  # type: ignore[list-item]


def test_an_agent_that_is_a_tool_keeps_its_trajectory_to_itself():
    inner = ReAct(
        "riddle -> solution", [lookup], model=native(ToolCall("1", "finish", {"solution": "wind"}))
    )
    model = native(ToolCall("1", "riddler", {"riddle": "?"}), ToolCall("2", "finish", {"a": "x"}))
    prediction = ReAct("q -> a", [Tool.from_module(inner, name="riddler")])(
        RunContext(model=model), q=""
    )
    assert prediction.trajectory[0]["observation"] == "wind"


MODULE = '''
from dspex import Module, Predict, ToolPolicy, ReAct, Tool, ToolSet


def lookup(city: str) -> str:
    """Look up the weather of a city."""
    return f"{city}: WARMTH degrees"


def is_allowed(name, arguments):
    return arguments != {"city": "Atlantis"}


class Riddle(Module):
    signature = "riddle -> solution"

    def __init__(self):
        self.solve = Predict("riddle -> solution")

    async def forward(self, riddle):
        return await self.solve.acall(riddle=riddle)


def agent():
    tools = ToolSet(
        [
            Tool.from_function(lookup, name="weather", description="The weather now."),
            Tool.from_module(Riddle(), name="riddler", description="Solves riddles."),
        ],
        policies={"weather": ToolPolicy(timeout=2.5, retries=1, permit=is_allowed)},
    )
    limits = {"max_turns": 4, "max_tokens": 900, "max_usd": 0.5}
    return ReAct("q -> degrees: int", tools, model="local/x", **limits)
'''


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module `agents` in a code root."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "agents.py").write_text(MODULE.replace("WARMTH", "21"))
    sys.modules.pop("agents", None)
    yield CodeRoot(tmp_path)
    sys.modules.pop("agents", None)


def test_an_agent_with_its_tools_goes_to_data_and_back(code):
    agent = code.load("agents:agent")()
    program = dspex.Program.from_json(agent.to_program("p").to_json())
    again = build(program, code=code)
    assert again.to_program("p").content_hash == agent.to_program("p").content_hash
    assert isinstance(again, ReAct)
    assert (again.max_turns, again.max_tokens, again.max_usd, again.react.model) == (
        4,
        900,
        0.5,
        "local/x",
    )
    weather, riddler = again.tools["weather"], again.tools["riddler"]
    assert (weather.description, weather.policy) == (
        "The weather now.",
        agent.tools["weather"].policy,
    )
    assert (riddler.description, type(riddler.module).__name__) == ("Solves riddles.", "Riddle")
    with pytest.raises(DefinitionError, match="code is not loaded here"):
        build(program)


def test_a_saved_agent_is_loaded_with_its_tools_and_runs_as_before(code, tmp_path):
    agent = code.load("agents:agent")()
    agent.extract.predict.demos = [{"q": "Oslo?", "reasoning": "cold", "degrees": 3}]
    agent.save(tmp_path / "agent.json")
    again: Any = load(tmp_path / "agent.json", code=code)
    assert again.extract.predict.demos == agent.extract.predict.demos
    script = [
        ToolCall("1", "weather", {"city": "Paris"}),
        ToolCall("2", "weather", {"city": "Atlantis"}),
        ToolCall("3", "riddler", {"riddle": "?"}),
        "[[ ## solution ## ]]\nthe wind",
        LAST,
    ]

    def requests_of(program):
        model = native(*script)
        assert program(RunContext(model=model, models=lambda _: model), q="Paris?").degrees == 21
        return model.requests

    requests = [requests_of(agent), requests_of(again)]
    assert requests[0] == requests[1]
    results = [turn.content for turn in requests[1][-1].messages if turn.role == "tool"][1:]
    assert results == [
        "Paris: 21 degrees",
        "error: weather: this call is not permitted",
        "the wind",
    ]


def test_a_tool_whose_source_has_changed_is_a_conflict(code):
    program = code.load("agents:agent")().to_program("p")
    (code.folder / "agents.py").write_text(MODULE.replace("WARMTH", "50"))
    sys.modules.pop("agents")  # another process loads what is there now
    with pytest.raises(ConflictError, match="has changed"):
        build(program, code=code)


def test_a_tool_that_import_cannot_find_is_named():
    def local(city: str) -> str:
        return city

    with pytest.raises(DefinitionError, match="the tool 'local' cannot be stored"):
        ReAct("q -> a", [local]).to_program()
    forbidding = ToolSet(
        [lookup], policies={"lookup": ToolPolicy(permit=lambda _name, _arguments: False)}
    )
    with pytest.raises(
        DefinitionError, match="the permission of the tool 'lookup' cannot be stored"
    ):
        ReAct("q -> a", forbidding).to_program()


def test_a_module_that_is_a_tool_is_found_by_path_and_a_copy_runs_its_own():
    inner = Predict("riddle -> solution")
    agent = ReAct("q -> a", [Tool.from_module(inner, name="riddler")])
    assert [path for path, _ in agent.named_modules()] == [
        "self",
        "react",
        "extract",
        "extract.predict",
        "tools['riddler']",
    ]
    copy = agent.assign({"tools['riddler'].instructions": "Solve it."})
    assert inner.signature.instructions != "Solve it."
    model = native(
        ToolCall("1", "riddler", {"riddle": "?"}),
        "[[ ## solution ## ]]\nwind",
        ToolCall("2", "finish", {"a": "wind"}),
    )
    prediction = copy(RunContext(model=model), q="")
    assert "Your task: Solve it." in model.requests[1].messages[0].content
    assert "tools['riddler']" in {span.path for span in prediction.trace.spans}


def test_an_agent_whose_tools_are_bound_to_what_cannot_be_copied_is_assigned_to():
    class Database:
        def __init__(self):
            self.lock = threading.Lock()

        def find(self, key: str) -> str:
            with self.lock:
                return key

    agent = ReAct("q -> a", [Database().find])
    assert (
        agent.assign({"react.instructions": "Find it."}).tools["find"].call
        is agent.tools["find"].call
    )
