"""A team as a space: coordination, membership, roles and shared numbers are variables."""

from itertools import islice
from typing import Any

import pytest

from dspex import Float, Module, Predict
from dspex.agents import Map, Team, with_handoff
from dspex.errors import DefinitionError, VariableError
from dspex.execution.context import RunContext
from dspex.execution.modules import build
from dspex.execution.modules.kinds import MODULE_KINDS
from dspex.language.programs import Program
from dspex.language.records import ToolCall
from dspex.language.signatures import Signature
from dspex.language.variables import samples, var
from dspex.testing import ScriptedModel
from dspex.testing.backends import answering
from tests.execution.modules.agents.places import PLACES, opened, placed, run

ASK = "question -> answer"
ROLES = {"law": "You know the law.", "sums": "You know sums."}


def team(**options: Any) -> Team:
    return Team(ASK, ROLES, coordinations=["router", "supervisor", "map", "sequence"], **options)


def stored(module: Module) -> Team:
    program = module.to_program("t")
    copy = build(Program.from_json(program.to_json()))
    assert copy.to_program("t").content_hash == program.content_hash
    assert isinstance(copy, Team)
    return copy


def answer(module: Module, *replies: Any) -> tuple[Any, Any]:
    model = ScriptedModel(*replies, capabilities=["tools"])
    prediction = module(RunContext(model=model), question="?")
    return prediction, prediction.trace.spans[-1].attributes


def chat(**fields: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def test_the_single_agent_is_in_every_space_and_the_default() -> None:
    space = team().variables()
    assert space["self.coordination"].options[0] == "single"
    assert space["self.coordination"].default == "single"
    prediction, attributes = answer(stored(team()), chat(answer="42"))
    assert prediction.answer == "42"
    assert attributes == {"route": [], "coordination": "single"}


def test_each_coordination_is_a_value() -> None:
    cases: list[tuple[str, list[Any], list[str]]] = [
        ("router", [chat(member="sums"), chat(answer="42")], ["sums"]),
        ("map", [chat(answer="42")], ["law", "sums"]),
        ("sequence", [chat(answer="42")], ["law", "sums"]),
        (
            "supervisor",
            [
                ToolCall("1", "sums", {"question": "?"}),
                chat(answer="42"),
                ToolCall("2", "finish", {"forward": "sums"}),
            ],
            ["sums"],
        ),
    ]
    for choice, replies, route in cases:
        chosen_team = stored(team().assign({"self.coordination": choice}))
        prediction, attributes = answer(chosen_team, *replies)
        assert prediction.answer == "42"
        assert attributes == {"route": route, "coordination": choice}
    with pytest.raises(VariableError, match=r"self\.coordination"):
        team().assign({"self.coordination": "chat"})
    with pytest.raises(DefinitionError, match=r"unknown coordination 'rooter'\. Did you mean"):
        Team(ASK, ROLES, coordinations=["rooter"])


def test_membership_is_a_value() -> None:
    smaller = stored(team().assign({"self.coordination": "map", "self.members.law": False}))
    assert answer(smaller, chat(answer="42"))[1]["route"] == ["sums"]
    supervised = stored(
        team().assign({"self.coordination": "supervisor", "self.members.law": False})
    )
    model = ScriptedModel(ToolCall("1", "finish", {"answer": "42"}), capabilities=["tools"])
    supervised(RunContext(model=model), question="?")
    assert [tool.name for tool in model.requests[0].tools] == ["sums", "finish"]
    nobody = {"self.members.law": False, "self.members.sums": False}
    alone = stored(team().assign({"self.coordination": "map", **nobody}))
    assert answer(alone, chat(answer="42"))[1]["route"] == []


def test_roles_are_values_of_all_coordinations_that_show_them() -> None:
    changed = stored(
        team().assign({"self.coordination": "router", "self.roles.sums": "The best at numbers."})
    )
    model = ScriptedModel(chat(member="sums"), chat(answer="42"))
    changed(RunContext(model=model), question="?")
    assert "The best at numbers." in model.requests[0].messages[-1].text
    names = [name for name in team().variables() if "roles" in name]
    assert names == ["self.roles.law", "self.roles.sums"]


def test_variables_are_active_only_where_they_matter() -> None:
    space = stored(team()).variables()
    law, choose = "members['law'].instructions", "coordinations['router'].choose.instructions"
    for choice, members, roles, router in [
        ("single", False, False, False),
        ("router", True, True, True),
        ("map", True, False, False),
    ]:
        values: dict[str, Any] = {"self.coordination": choice}
        assert space.is_active("self.members.law", values) is members
        values |= {"self.members.law": True}
        assert space.is_active(law, values) is members
        assert space.is_active("self.roles.law", values) is roles
        assert space.is_active(choose, values) is router
        assert space.is_active("single.instructions", values) is (choice == "single")
    assert not space.is_active(law, {"self.coordination": "map", "self.members.law": False})


def test_random_assignments_are_programs_that_run() -> None:
    module = team()
    for assignment in islice(samples(module.variables(), seed=1), 20):
        values = {
            "member": "law" if assignment.get("self.members.law") else "sums",
            "answer": "42",
            "forward": None,
            "next_tool_name": "finish",
            "next_tool_args": {},
        }
        context = RunContext(model=answering(values))
        assert stored(module.assign(assignment))(context, question="?").answer == "42"


def test_a_number_is_shared_by_members_each_with_its_binding() -> None:
    heat = Float(0, 1, name="heat", default=0.4)
    shared = stored(team().share("temperature", heat, {"law": var("heat") * 0.5}))
    hot = stored(shared.assign({"self.coordination": "map", "heat": 0.8}))
    settings = [module.settings for module in hot.members.values() if isinstance(module, Predict)]
    assert settings == [{"temperature": 0.4}, {"temperature": 0.8}]
    assert shared.variables()["heat"].when is not None
    with pytest.raises(DefinitionError, match="no member 'bills' with a slot 'temperature'"):
        team().share("temperature", heat, {"bills": var("heat")})
    with pytest.raises(DefinitionError, match="no member has a slot 'warmth'"):
        team().share("warmth", heat)


def test_ways_that_suit_the_members_are_found() -> None:
    assert list(Team(ASK, ROLES).coordinations) == [
        *("sequence", "map", "router", "supervisor", "blackboard"),
    ]
    agents = {
        name: Predict(with_handoff(Signature(ASK, role), "sums")) for name, role in ROLES.items()
    }
    assert list(Team(ASK, agents).coordinations) == ["handoff"]
    steps = {"draft": Predict("question -> draft"), "polish": Predict("draft -> answer")}
    assert list(Team(ASK, steps).coordinations) == ["sequence", "supervisor", "blackboard"]


def test_a_configured_coordination_gets_the_members_of_the_team() -> None:
    judge = Predict("answers: list[str] -> answer")
    fan = Map(ASK, ROLES, reduce=judge)
    module = stored(Team(ASK, ROLES, coordinations={"fan": fan}, default="fan"))
    prediction, attributes = answer(module, chat(answer="4"), chat(answer="2"), chat(answer="42"))
    assert (prediction.answer, attributes["route"]) == ("42", ["law", "sums"])
    assert "coordinations['fan'].reduce.instructions" in module.variables()


def test_a_sequence_without_a_member_that_it_needs_is_an_error() -> None:
    steps = {"draft": Predict("question -> draft"), "polish": Predict("draft -> answer")}
    module = Team(ASK, steps, coordinations=["sequence"], default="sequence")
    assert answer(stored(module), chat(draft="d"), chat(answer="42"))[0].answer == "42"
    with pytest.raises(DefinitionError, match="'polish' needs 'draft'"):
        answer(module.assign({"self.members.draft": False}), chat(answer="42"))
    with pytest.raises(DefinitionError, match="cannot do without 'draft'"):
        Team(ASK, steps, coordinations=["sequence"], default="sequence").without("draft")


def test_a_team_is_created_from_text() -> None:
    create = MODULE_KINDS["team"].create
    assert create is not None
    settings = {
        "members": ROLES,
        "coordinations": ["router"],
        "default": "router",
        "single": {"strategy": "chain_of_thought"},
    }
    module = build(create(Signature(ASK), settings, "t"))
    assert isinstance(module, Team)
    assert type(module.single).__name__ == "ChainOfThought"
    with pytest.raises(DefinitionError, match="settings of a Predict"):
        create(Signature(ASK), {**settings, "single": {"tool": []}}, "t")


@PLACES
async def test_members_run_elsewhere_in_every_coordination(place: str) -> None:
    async with opened(place) as backends:
        for choice, route in (("map", ["law", "sums"]), ("router", ["sums"])):
            module = placed(team(), place).assign({"self.coordination": choice})
            model = answering({"answer": "42", "member": "sums"})
            prediction = await run(module, backends, RunContext(model=model), question="?")
            assert prediction.answer == "42"
            assert prediction.trace.spans[-1].attributes["route"] == route
            kinds = [span.kind for span in prediction.trace.spans]
            assert kinds.count("backend") == (0 if place == "native" else len(route))
