"""The six coordinations as ordinary programs: traced, streamed, stored, created, verified."""

from typing import Any

import pytest

from dspex import Module, Predict, Prediction, ReAct
from dspex.agents import (
    Blackboard,
    Board,
    Coordination,
    Handoff,
    Map,
    Router,
    Sequence,
    Supervisor,
    with_handoff,
)
from dspex.errors import CheckError, DefinitionError, ExecutionError, InputError
from dspex.execution.context import RunContext
from dspex.execution.modules import build
from dspex.execution.modules.agents.board import board_fields
from dspex.execution.modules.kinds import MODULE_KINDS
from dspex.language.programs import Program
from dspex.language.records import ToolCall
from dspex.language.signatures import Signature
from dspex.telemetry import FieldDelta, Finished
from dspex.testing import ScriptedModel, by_role

ASK = "question -> answer"
PEERS = {"law": "You know the law.", "sums": "You know sums."}


def chat(**fields: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def sequence(**options: Any) -> Sequence:
    members = {"draft": Predict("question -> draft"), "polish": Predict("draft -> answer")}
    return Sequence(ASK, members, **options)


def over_topics(**options: Any) -> Map:
    return Map(
        "topics: list[str] -> answer",
        Predict("topic -> note"),
        over="topics",
        item="topic",
        reduce=Predict("answers: list[str] -> answer"),
        **options,
    )


def blackboard(**options: Any) -> Blackboard:
    members = {
        "writer": Predict("question, critique: str? = null -> answer"),
        "critic": Predict("answer -> critique, approved: bool"),
    }
    return Blackboard("question -> answer, approved: bool", members, until="approved", **options)


TEAMS: dict[str, tuple[Any, list[Any], list[str]]] = {
    # kind: the team, the replies of the model, the route
    "sequence": (sequence, [chat(draft="d"), chat(answer="42")], ["draft", "polish"]),
    "map": (
        lambda **options: Map(ASK, {**PEERS, "third": "You know more."}, **options),
        [chat(answer="41"), chat(answer="42"), chat(answer="42")],
        ["law", "sums", "third"],
    ),
    "router": (
        lambda **options: Router(ASK, PEERS, **options),
        [chat(member="sums"), chat(answer="42")],
        ["sums"],
    ),
    "supervisor": (
        lambda **options: Supervisor(ASK, PEERS, **options),
        [
            ToolCall("1", "sums", {"question": "6 * 7?"}),
            chat(answer="42"),
            ToolCall("2", "finish", {"forward": "sums"}),
        ],
        ["sums"],
    ),
    "handoff": (
        lambda **options: Handoff(ASK, PEERS, **options),
        [chat(handoff="sums"), chat(answer="42")],
        ["law", "sums"],
    ),
    "blackboard": (
        blackboard,
        [
            chat(answer="41"),
            chat(critique="too low", approved="false"),
            chat(answer="42"),
            chat(critique="", approved="true"),
        ],
        ["writer", "critic", "writer", "critic"],
    ),
}
KINDS = pytest.mark.parametrize("kind", TEAMS)


def native(*replies: Any) -> ScriptedModel:
    return ScriptedModel(*replies, capabilities=["tools"])


def stored(module: Module) -> Module:
    return build(Program.from_json(module.to_program("team").to_json()))


@KINDS
def test_a_team_is_a_program_that_can_be_stored(kind: str) -> None:
    make, replies, route = TEAMS[kind]
    team = stored(make())
    assert team.to_program("team").content_hash == make().to_program("team").content_hash
    assert (team.to_program().root.kind, MODULE_KINDS[kind].name) == (kind, kind)
    prediction = team(RunContext(model=native(*replies)), question="6 * 7?")
    assert prediction.answer == "42"
    span = prediction.trace.spans[-1]
    assert (span.path, span.attributes["route"]) == ("self", route)
    paths = {span.path for span in prediction.trace.spans}
    assert {f"members[{name!r}]" for name in route} <= paths
    assert prediction.usage.calls == len(replies)


@KINDS
async def test_members_stream_under_their_paths(kind: str) -> None:
    make, replies, route = TEAMS[kind]
    model = ScriptedModel(*replies, capabilities=["tools", "streaming"])
    events = [event async for event in make().stream(RunContext(model=model), question="?")]
    assert isinstance(events[-1], Finished)
    assert events[-1].prediction.answer == "42"
    paths = {event.path for event in events if isinstance(event, FieldDelta)}
    assert f"members[{route[-1]!r}]" in paths


@KINDS
def test_members_and_parts_have_variables_that_can_be_assigned(kind: str) -> None:
    make, _, route = TEAMS[kind]
    team = make()
    name = f"members[{route[-1]!r}].instructions"
    assert name in team.variables()
    changed = team.assign({name: "Be brief."})
    part = dict(changed.named_modules())[name.rpartition(".")[0]]
    assert part.contract().instructions == "Be brief."
    assert dict(team.named_modules())[name.rpartition(".")[0]].contract() != part.contract()


SETTINGS: dict[str, dict[str, Any]] = {
    "sequence": {
        "members": {
            "draft": {"signature": "question -> draft", "role": "Draft."},
            "polish": {"signature": "draft -> answer", "strategy": "chain_of_thought"},
        }
    },
    "map": {"members": PEERS, "concurrency": 2},
    "router": {"members": PEERS, "model": "local/gemma3-270m"},
    "supervisor": {"members": PEERS, "max_turns": 3},
    "handoff": {"members": PEERS, "start": "sums"},
    "blackboard": {
        "members": {"writer": {"signature": "question, critique: str? = null -> answer"}},
        "limits": {"turns": 4, "tokens": 1000},
        "attempts": 1,
    },
}


@KINDS
def test_a_team_is_created_from_text(kind: str) -> None:
    create = MODULE_KINDS[kind].create
    assert create is not None
    program = create(Signature(ASK), SETTINGS[kind], "team")
    team = build(program)
    assert isinstance(team, Coordination)
    assert team.to_program("team").content_hash == program.content_hash
    with pytest.raises(DefinitionError, match=r"takes no 'membres'\. Did you mean 'members'"):
        create(Signature(ASK), {**SETTINGS[kind], "membres": {}}, "team")
    with pytest.raises(DefinitionError, match="the setting `members` is an object"):
        create(Signature(ASK), {"members": ["law"]}, "team")
    if kind == "blackboard":
        assert (team.limits.turns, team.limits.tokens, team.attempts) == (4, 1000, 1)


def is_42(inputs: Any, prediction: Prediction) -> bool:
    if prediction.answer == "41":
        raise ValueError("one more")
    return bool(prediction.answer == "42")


@pytest.mark.parametrize("kind", [kind for kind in TEAMS if kind != "blackboard"])
def test_a_refused_answer_is_given_again_with_the_reason_and_then_an_error(kind: str) -> None:
    make, replies, _ = TEAMS[kind]
    wrong = [reply.replace("42", "41") if isinstance(reply, str) else reply for reply in replies]
    model = native(*wrong, *replies)
    team = make(verify=is_42)
    assert team(RunContext(model=model), question="?").answer == "42"
    first_of_second = model.requests[len(wrong)].messages[-1].text
    assert "one more" in first_of_second
    with pytest.raises(CheckError, match=r"none of 2 answers of .* one more"):
        team(RunContext(model=native(*wrong, *wrong)), question="?")


def test_a_module_verifies_with_a_reason() -> None:
    judge = Predict("question, answer -> is_right: bool, why")
    team = Router(ASK, PEERS, verify=judge)
    replies = [
        *(chat(member="sums"), chat(answer="41"), chat(is_right="false", why="too low")),
        *(chat(member="sums"), chat(answer="42"), chat(is_right="true", why="")),
    ]
    model = ScriptedModel(*replies)
    prediction = stored(team)(RunContext(model=model), question="6 * 7?")
    assert prediction.answer == "42"
    assert "too low" in model.requests[3].messages[-1].text
    assert "verify" in {span.path for span in prediction.trace.spans}
    with pytest.raises(DefinitionError, match="no output that is true or false"):
        Router(ASK, PEERS, verify=Predict("answer -> grade: int"))


def test_map_works_over_the_items_of_a_list() -> None:
    model = ScriptedModel(
        by_role({"`note`": lambda request: chat(note="n"), "`answers`": chat(answer="all")})
    )
    prediction = stored(over_topics())(RunContext(model=model), topics=["a", "a", "b"])
    assert prediction.answer == "all"
    assert prediction.trace.spans[-1].attributes["route"] == ["worker"] * 3
    lists = Map(
        "topics: list[str] -> note: list[str]",
        Predict("topic -> note"),
        over="topics",
        item="topic",
    )
    notes = stored(lists)(RunContext(model=ScriptedModel(chat(note="n"))), topics=["a", "b"])
    assert notes.note == ["n", "n"]


def test_what_members_cannot_do_is_refused_when_the_team_is_declared() -> None:
    other = Predict("topic -> note")
    with pytest.raises(DefinitionError, match="'1' needs 'topic', and nothing before it"):
        Sequence(ASK, [other])
    with pytest.raises(DefinitionError, match="no member gives 'answer'"):
        Sequence(ASK, [Predict("question -> note")])
    with pytest.raises(DefinitionError, match="'1' needs the input 'topic'"):
        Router(ASK, [other])
    with pytest.raises(DefinitionError, match="'1' does not give 'answer'"):
        Handoff(ASK, [Predict("question -> note")])
    with pytest.raises(DefinitionError, match="no input 'topics' to work over"):
        Map(ASK, other, over="topics")
    with pytest.raises(DefinitionError, match="two types on the board, str and int"):
        Blackboard(ASK, [Predict("question -> answer: int")])
    with pytest.raises(DefinitionError, match="named by letters"):
        Router(ASK, {"a b": "x"})
    with pytest.raises(DefinitionError, match="a team needs at least one member"):
        Router(ASK, {})
    with pytest.raises(DefinitionError, match="no member 'x' to start with"):
        Handoff(ASK, PEERS, start="x")
    with pytest.raises(DefinitionError, match="the field 'forward' is added by the team"):
        Supervisor("question -> forward", PEERS)


def test_the_answer_of_a_member_is_forwarded_word_for_word() -> None:
    text = "Line one.\n\n  - keep   my spaces"
    model = native(
        ToolCall("1", "law", {"question": "?"}),
        chat(answer=text),
        ToolCall("2", "finish", {"forward": "law", "answer": "a summary that must not be used"}),
    )
    assert Supervisor(ASK, PEERS)(RunContext(model=model), question="?").answer == text


def test_a_forward_of_a_member_that_has_not_answered_is_refused() -> None:
    model = native(
        ToolCall("1", "finish", {"forward": "law"}),
        ToolCall("2", "finish", {"answer": "my own"}),
    )
    assert Supervisor(ASK, PEERS)(RunContext(model=model), question="?").answer == "my own"
    assert "'law', which has not answered" in model.requests[1].messages[-1].text


def test_a_forward_of_a_member_that_failed_says_why() -> None:
    class Broken(Module):
        signature = ASK

        async def forward(self, question: str) -> Any:
            raise LookupError("no book")

    model = native(
        ToolCall("1", "law", {"question": "?"}), ToolCall("2", "finish", {"forward": "law"})
    )
    team = Supervisor(ASK, {"law": Broken(), "sums": "You sum."})
    with pytest.raises(CheckError, match="which failed: law failed: LookupError: no book"):
        team(RunContext(model=model), question="?")


def test_a_supervisor_also_works_in_text() -> None:
    step = "next_thought", "next_tool_name", "next_tool_args"
    replies = [
        chat(**dict(zip(step, ("ask", "sums", '{"question": "6 * 7?"}'), strict=True))),
        chat(answer="42"),
        chat(**dict(zip(step, ("done", "finish", "{}"), strict=True))),
        chat(reasoning="it said so", forward="sums"),
    ]
    model = ScriptedModel(*replies)
    assert Supervisor(ASK, PEERS)(RunContext(model=model), question="?").answer == "42"
    assert "- law: You know the law." in model.requests[0].messages[0].text


def test_roles_are_variables_that_the_choosing_model_sees() -> None:
    for make in (Router, Supervisor, Handoff):
        team = make(ASK, PEERS)
        assert {"self.roles.law", "self.roles.sums"} <= {*team.variables()}
        changed = stored(team.assign({"self.roles.sums": "The best at numbers."}))
        assert isinstance(changed, Coordination)
        assert changed.role("sums") == "The best at numbers."
        assert team.role("sums") == "You know sums."
    model = native(ToolCall("1", "finish", {"answer": "x"}))
    changed = Supervisor(ASK, PEERS).assign({"self.roles.law": "Knows every statute."})
    changed(RunContext(model=model), question="?")
    assert [tool.description for tool in model.requests[0].tools][:1] == ["Knows every statute."]


def test_the_next_member_sees_nothing_of_the_handoff() -> None:
    model = ScriptedModel(chat(handoff="sums"), chat(answer="42"))
    specialist = Predict("question -> answer")
    alone = ScriptedModel(chat(answer="42"))
    team = Handoff(ASK, {"desk": "You are the desk.", "sums": specialist})
    assert team(RunContext(model=model), question="6 * 7?").answer == "42"
    specialist(RunContext(model=alone), question="6 * 7?")
    assert model.requests[1].messages == alone.requests[0].messages


def test_a_member_that_asks_for_them_gets_its_colleagues_and_the_way_to_it() -> None:
    calls: list[Any] = []

    class Last(Module):
        signature = "question, visited: list[str], colleagues: dict[str, str] -> answer"

        async def forward(self, **inputs: Any) -> dict[str, Any]:
            calls.append(inputs)
            return {"answer": "42"}

    team = Handoff(ASK, {"desk": "You are the desk.", "last": Last()})
    team(RunContext(model=ScriptedModel(chat(handoff="last"))), question="?")
    assert calls == [
        {"question": "?", "visited": ["desk"], "colleagues": {"desk": "You are the desk."}}
    ]


def test_an_agent_with_tools_may_hand_over() -> None:
    def lookup(name: str) -> str:
        """Look up a customer."""
        return f"{name} is a customer"

    agent = ReAct(with_handoff(ASK, "law"), [lookup])
    team = Handoff(ASK, {"agent": agent, "law": "You know the law."})
    model = native(
        ToolCall("1", "lookup", {"name": "Ada"}),
        ToolCall("2", "finish", {"handoff": "law"}),
        chat(answer="42"),
    )
    prediction = team(RunContext(model=model), question="?")
    assert prediction.answer == "42"
    assert [span.name for span in prediction.trace.spans if span.kind == "tool"] == ["lookup"]


def test_a_board_refuses_writes_that_rest_on_old_values() -> None:
    board = Board(board_fields([Signature("n: int -> total: int")]))
    _, versions = board.read(["n"])
    assert board.compare_and_set(versions, {"n": 1})
    assert not board.compare_and_set(versions, {"total": 5})
    values, versions = board.read(["n", "total"])
    assert values == {"n": 1}
    assert board.compare_and_set(versions, {"n": 1})  # the same value is not a change
    assert board.compare_and_set(versions, {"total": 2})
    with pytest.raises(InputError, match="total"):
        board.compare_and_set({}, {"total": "many"})
    with pytest.raises(InputError, match=r"no field 'totl'\. Did you mean 'total'"):
        board.read(["totl"])


class Reader(Module):
    signature = "n: int -> total: int"

    async def forward(self, n: int) -> dict[str, int]:
        return {"total": n * 10}


class Raiser(Module):
    signature = "start: int -> n: int"

    async def forward(self, start: int) -> dict[str, int]:
        return {"n": start + 1}


def test_a_member_whose_input_changed_while_it_worked_works_again() -> None:
    team = Blackboard("start: int, n: int -> total: int", {"raiser": Raiser(), "reader": Reader()})
    prediction = team(RunContext(), start=1, n=1)
    assert prediction.total == 20
    assert prediction.trace.spans[-1].attributes["route"] == ["raiser", "reader", "reader"]


def test_a_board_on_which_nobody_can_go_on_is_an_error() -> None:
    team = Blackboard("start: int -> total: int", {"reader": Reader()}, attempts=1)
    with pytest.raises(CheckError, match="nobody could give total"):
        team(RunContext(), start=1)


def test_an_answer_that_does_not_fit_the_signature_is_refused() -> None:
    class Wrong(Module):
        signature = "question -> answer"

        async def forward(self, question: str) -> dict[str, object]:
            return {"answer": {"not": "text"}}

    with pytest.raises(ExecutionError, match="none of 2 answers"):
        Router(ASK, {"wrong": Wrong()})(RunContext(), question="?")
