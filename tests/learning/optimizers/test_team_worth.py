"""What a team is worth against a single agent, and what each of its members is worth."""

from typing import Any

import pytest

import dspex
from dspex import Predict
from dspex.agents import Router, Sequence, Team
from dspex.errors import DefinitionError
from dspex.execution.context import RunContext
from dspex.language.signatures import Signature
from dspex.optimizers import Search, TeamWorth, aablate_members, ablate_members, aoptimize
from dspex.testing import AgentTurn, ScriptedModel, simulated_agents

ASK = "question -> answer"
ROLES = {"law": "You know the law.", "sums": "You know sums."}
PAYS = {"alone": 0.3, "expert": 0.95}


def rows(count: int, start: int = 0) -> dspex.Dataset:
    numbers = range(start, start + count)
    return dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in numbers]
    )


def model(alone: float, expert: float) -> ScriptedModel:
    """Return a model in which even questions are of the law, odd ones sums."""

    def solve(turn: AgentTurn) -> Any:
        question = turn.value("question")
        part = "law" if int(question.split()[1]) % 2 == 0 else "sums"
        if "member" in turn.fields:
            return {"member": part}
        specialists = [name for name, role in ROLES.items() if role in turn.text]
        chance = alone if not specialists else expert if specialists == [part] else 0.1
        right = question.replace("question", "answer")
        return {"answer": right if turn.chance() < chance else "wrong"}

    return ScriptedModel(simulated_agents(solve, seed=3))


def team(**options: Any) -> Team:
    return Team(ASK, ROLES, coordinations=["router", "sequence"], **options)


async def worth(module: Any, alone: float, expert: float, **options: Any) -> TeamWorth:
    context = RunContext(model=model(alone, expert))
    return await aablate_members(
        module, rows(60), metric=dspex.exact_match, context=context, **options
    )


async def test_each_member_is_compared_with_the_team_without_it() -> None:
    figures = await worth(team(default="router"), **PAYS)
    assert figures.gain is not None
    assert figures.gain.comparison.is_better
    assert figures.gain.tokens > 0
    assert figures.gain.per_1k_tokens == pytest.approx(
        figures.gain.comparison.difference / figures.gain.tokens * 1000
    )
    assert list(figures.members) == ["law", "sums"]
    assert all(item.comparison.is_better for item in figures.members.values())
    assert all(item.tokens > 0 for item in figures.members.values())  # one member needs no choice
    text = str(figures)
    assert "the team against it: +0." in text
    assert "for 1,000 tokens" in text
    assert figures.to_dict()["members"]["law"]["difference"] > 0.2


async def test_members_that_the_others_need_are_named() -> None:
    steps = {"draft": Predict("question -> draft"), "polish": Predict("draft -> answer")}
    single = Predict(ASK)
    context = RunContext(model=ScriptedModel("[[ ## draft ## ]]\nx\n[[ ## answer ## ]]\nx"))
    figures = await aablate_members(
        Sequence(ASK, steps), rows(4), metric=dspex.exact_match, single=single, context=context
    )
    assert list(figures.needed) == ["draft", "polish"]
    assert figures.members == {}
    assert figures.gain is not None
    assert figures.gain.comparison.difference == 0.0
    alone = await aablate_members(
        Router(ASK, {"one": single}), rows(4), metric=dspex.exact_match, context=context
    )
    assert (alone.single, alone.gain) == (None, None)
    assert alone.needed == {"one": "'one' is the last member"}


def test_the_synchronous_twin_does_the_same() -> None:
    with dspex.context(model=model(**PAYS)):
        figures = ablate_members(team(default="router"), rows(10), metric=dspex.exact_match)
    assert list(figures.members) == ["law", "sums"]


@pytest.mark.parametrize(("alone", "pays"), [(0.3, True), (1.0, False)])
async def test_a_search_picks_a_team_only_where_it_pays(alone: float, pays: bool) -> None:
    outcome = await aoptimize(
        team(),
        dspex.Joint(
            trials=6, cohort=6, first_rows=20, instructions=1, sets=0, only=("self.coordination",)
        ),
        train=rows(30),
        metric=dspex.exact_match,
        context=RunContext(model=model(alone, 0.95)),
        search=Search(test=rows(40, 100)),
    )
    assert (outcome.program.setting("coordination") == "router") is pays


def test_the_worth_of_a_role_is_measured_like_any_variable() -> None:
    module = Router(ASK, {"law": Predict(Signature(ASK, ROLES["law"]))})
    assert "self.roles.law" in module.variables()


def test_only_a_team_has_members_to_leave_out() -> None:
    with pytest.raises(DefinitionError, match=r"takes a team, such as"):
        ablate_members(Predict("question -> answer"), rows(2), metric=dspex.exact_match)
