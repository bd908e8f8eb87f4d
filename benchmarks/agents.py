"""Teams against a single agent, limits in runaways, and members that are killed.

Three simulated tasks: one that falls into parts, one in which every step rests on the step before,
and one that anyone can do. A search over the same space of teams runs on each, with 20 seeds. Its
winner is compared with the single agent, row by row, on rows that it has not seen. Goals: it picks
a team where that pays and the single agent where it does not, in 19 of 20 seeds; the winner is
never significantly worse. In every runaway no limit is exceeded. For 30 seconds workers of members
are killed (`agents_chaos.py`): every run ends right or with a typed error.

    python benchmarks/agents.py [--quick] [--check]
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from agents_chaos import goal, storm

import dspex
from dspex.agents import Blackboard, Handoff, Map, Router, Sequence, Supervisor, Team, TeamLimits
from dspex.errors import BudgetError, DspexError, RepetitionError
from dspex.execution.context import RunContext
from dspex.optimizers import Search, aablate_members, aoptimize
from dspex.testing import AgentTurn, ScriptedModel, simulated_agents
from dspex.tools import ToolCall

RESULTS = Path(__file__).parent / "results" / "agents.json"
ASK = "question -> answer"
PARTS = ("law", "sums", "code")
ROLES = {part: f"You are the specialist for {part}." for part in PARTS}
TRAIN, TEST, HELD_OUT, TRIALS = 48, 60, 100, 32


@dataclass(frozen=True)
class World:
    """One task: how likely each is right. `part` is of a specialist in its part, `whole` alone."""

    name: str
    single: float  # the single agent
    part: float  # a specialist on its own part
    whole: float  # a specialist that has to do everything
    joined: float  # all parts, joined by a model that has seen only their answers
    pays: bool


WORLDS = (
    World("decomposes", single=0.45, part=0.97, whole=0.4, joined=0.97, pays=True),
    World("sequential", single=0.85, part=0.9, whole=0.5, joined=0.5, pays=False),
    World("trivial", single=1.0, part=1.0, whole=1.0, joined=1.0, pays=False),
)


def right(turn: AgentTurn) -> str:
    return turn.value("question").replace("question", "answer")


def agents(world: World, seed: int) -> ScriptedModel:
    """Return the model of a world: what each role of a team does, and how well."""

    def answer(turn: AgentTurn, chance: float) -> str:
        return right(turn) if turn.chance() < chance else "a wrong answer"

    def join(turn: AgentTurn, answers: str) -> str:
        """Return the answer that follows from the answers of the members."""
        parts = [part for part in PARTS if f"{part} is right" in answers]
        return answer(turn, world.joined if len(parts) == len(PARTS) else world.whole)

    def solve(turn: AgentTurn) -> Any:
        if turn.tools:
            members = [part for part in PARTS if part in turn.tools]
            if len(turn.results) < len(members):
                question = {"question": turn.value("question")}
                return [ToolCall(part, part, question) for part in members]
            return {"answer": join(turn, " ".join(turn.results))}
        if "member" in turn.fields:
            return {"member": PARTS[int(turn.chance() * len(PARTS))]}
        if turn.value("answers"):
            return {"answer": join(turn, turn.value("answers"))}
        for part, role in ROLES.items():
            if role in turn.text and "part" in turn.fields:
                mark = "right" if turn.chance("part") < world.part else "wrong"
                return {"part": f"{part} is {mark}", "answer": answer(turn, world.whole)}
        return {"answer": answer(turn, world.single)}

    return ScriptedModel(simulated_agents(solve, seed=seed), capabilities=["tools"])


def space() -> Team:
    """Return the space of teams, the same for all tasks; the single agent is its default."""
    members = {
        part: dspex.Predict(dspex.Signature("question -> part, answer", role))
        for part, role in ROLES.items()
    }
    join = dspex.Predict("question, answers: list[any] -> answer")
    return Team(
        ASK,
        members,
        coordinations={
            "fan": Map(ASK, members, reduce=join),
            "supervisor": Supervisor(ASK, members),
            "router": Router(ASK, members),
            "sequence": Sequence(ASK, members),
        },
    )


def rows(start: int, count: int) -> dspex.Dataset:
    numbers = range(start, start + count)
    pairs = [{"question": f"question {n}", "answer": f"answer {n}"} for n in numbers]
    return dspex.Dataset.from_rows(pairs)


async def search(world: World, seed: int) -> dict[str, Any]:
    """Search the space on one task, and compare the winner with the single agent."""
    team = space()
    names = ("self.coordination", *(f"self.members.{part}" for part in PARTS))
    optimizer = dspex.Joint(
        trials=TRIALS, cohort=8, first_rows=12, instructions=1, sets=0, only=names
    )
    start = seed * 1000
    train, test = rows(start, TRAIN), rows(start + 300, TEST)
    held_out = rows(start + 600, HELD_OUT)
    context = RunContext(model=agents(world, seed))
    outcome = await aoptimize(
        team,
        optimizer,
        train=train,
        metric=dspex.exact_match,
        context=context,
        search=Search(seed=seed, test=test),
    )
    winner = outcome.program
    choice = winner.setting("coordination") if winner.active() else "single"
    worth = await aablate_members(winner, held_out, metric=dspex.exact_match, context=context)
    assert worth.gain is not None
    comparison = worth.gain.comparison
    return {
        "task": world.name,
        "seed": seed,
        "choice": choice,
        "members": winner.active(),
        "score": worth.team.mean,
        "single": 0.0 if worth.single is None else worth.single.mean,
        "difference": comparison.difference,
        "is_worse": comparison.interval.high < 0 and comparison.p_value < 0.05,
        "tokens": worth.gain.tokens,
        "per_1k_tokens": worth.gain.per_1k_tokens,
        "worth": {name: item.comparison.difference for name, item in worth.members.items()},
    }


def summary(world: World, figures: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [row for row in figures if row["task"] == world.name]
    rates = [row["per_1k_tokens"] for row in mine if row["per_1k_tokens"] is not None]
    return {
        "task": world.name,
        "seeds": len(mine),
        "choices": dict(Counter(row["choice"] for row in mine)),
        "suits": sum((row["choice"] != "single") is world.pays for row in mine),
        "score": fmean(row["score"] for row in mine),
        "single": fmean(row["single"] for row in mine),
        "worse": sum(row["is_worse"] for row in mine),
        "tokens": fmean(row["tokens"] for row in mine),
        "per_1k_tokens": fmean(rates) if rates else None,
    }


# --- runaways ---------------------------------------------------------------------------------


def chat(**fields: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def endless(rng: random.Random) -> ScriptedModel:
    """Return a model whose agents never end: they hand over, call members, and change the state."""

    def reply(request: Any) -> Any:
        number = rng.randrange(10**9)
        if request.tools:
            return ToolCall("1", rng.choice(["a", "b"]), {"question": f"{number}"})
        prompt = request.messages[0].text
        if "handoff" in prompt:
            return chat(handoff="b" if "You are a." in prompt else "a", answer=f"{number}")
        return chat(answer=f"{number}", draft=f"{number}", critique=f"{number}")

    return ScriptedModel(reply, capabilities=["tools"])


def runaways(limits: TeamLimits) -> dict[str, dspex.Module]:
    """Return teams that never end by themselves."""
    form = "question -> handoff: str?, answer: str?"
    handing = {name: dspex.Predict(dspex.Signature(form, f"You are {name}.")) for name in "ab"}
    asking = {name: dspex.Predict(ASK) for name in "ab"}
    writing = {
        "writer": dspex.Predict("question, critique: str? = null -> draft"),
        "critic": dspex.Predict("draft -> critique"),
    }
    nested: dspex.Module = dspex.Predict(ASK)
    for _ in range(40):
        nested = Router(ASK, {"inner": nested}, limits=TeamLimits(depth=None))
    inner = Supervisor(ASK, asking, max_turns=10_000, limits=TeamLimits(turns=None))
    return {
        "handoff cycle": Handoff(ASK, handing, limits=limits),
        "supervisor": Supervisor(ASK, asking, max_turns=10_000, limits=limits),
        "blackboard": Blackboard("question -> draft", writing, limits=limits),
        "nested teams": Router(ASK, {"inner": nested}, limits=limits),
        "supervisor inside": Router(ASK, {"inner": inner}, limits=limits),
        "fan-out": Map(
            "items: list[str] -> answer: list[str]",
            dspex.Predict("item -> answer"),
            over="items",
            limits=limits,
        ),
    }


ENDLESS = {"handoff cycle", "supervisor", "blackboard", "supervisor inside"}
LIMITS = {
    "turns": TeamLimits(turns=7, depth=None),
    "depth": TeamLimits(turns=None, depth=3, calls=200),
    "calls": TeamLimits(turns=None, depth=None, calls=9),
    "tokens": TeamLimits(turns=None, depth=None, tokens=20_000),
    "seconds": TeamLimits(turns=None, depth=None, seconds=0.3),
}


async def runaway(seed: int) -> list[dict[str, Any]]:
    """Run every runaway under every limit; report what was used."""
    figures = []
    for limit, limits in LIMITS.items():
        for name, team in runaways(limits).items():
            model = endless(random.Random(seed))
            inputs = (
                {"items": [str(n) for n in range(500)]} if name == "fan-out" else {"question": "?"}
            )
            start = time.monotonic()
            try:
                await team.acall(RunContext(model=model), **inputs)
                outcome = "ended"
            except (BudgetError, RepetitionError) as error:
                outcome = str(error.context.get("limit", error.code))
            except DspexError as error:
                outcome = error.code
            calls, seconds = len(model.requests), time.monotonic() - start
            words = sum(len(m.text.split()) for request in model.requests for m in request.messages)
            holds = {
                "turns": calls <= 2 * 7 + 2,  # a supervisor asks between its turns
                "depth": calls <= 200,
                "calls": calls <= 9,
                "tokens": words <= 20_000,
                "seconds": seconds < 0.3 + 2,
            }[limit]
            figures.append(
                {
                    "runaway": name,
                    "limit": limit,
                    "outcome": outcome,
                    "calls": calls,
                    "seconds": seconds,
                    "holds": holds,
                }
            )
    return figures


# --- report -----------------------------------------------------------------------------------


def goals(
    tasks: list[dict[str, Any]], limits: list[dict[str, Any]], storms: list[dict[str, Any]]
) -> list[tuple[str, bool]]:
    results = []
    for world, row in zip(WORLDS, tasks, strict=True):
        what = "a team" if world.pays else "the single agent"
        least = row["seeds"] - 1
        results.append(
            (
                f"{world.name}: {what} in {row['suits']} of {row['seeds']} seeds, at least {least}",
                row["suits"] >= least,
            )
        )
        results.append(
            (
                f"{world.name}: significantly worse than the single agent in {row['worse']} seeds",
                row["worse"] == 0,
            )
        )
    broken = [
        row
        for row in limits
        if not row["holds"] or (row["outcome"] == "ended" and row["runaway"] in ENDLESS)
    ]
    results.append(
        (f"limits hold in {len(limits) - len(broken)} of {len(limits)} runaways", not broken)
    )
    results += [goal(row) for row in storms]
    return results


async def measure(
    *, quick: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    seeds = 3 if quick else 20
    figures = [await search(world, seed) for world in WORLDS for seed in range(seeds)]
    limits = [row for seed in range(1 if quick else 3) for row in await runaway(seed)]
    return figures, limits, await storm(10 if quick else 30)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 seeds, and 10 seconds of kills")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    begin = time.monotonic()
    figures, limits, chaos_figures = asyncio.run(measure(quick=options.quick))
    tasks = [summary(world, figures) for world in WORLDS]
    print(f"{'task':12}{'suits':>8}{'score':>8}{'single':>8}{'tokens':>8}{'per 1k':>8}  choices")
    for row in tasks:
        rate = "" if row["per_1k_tokens"] is None else f"{row['per_1k_tokens']:+.2f}"
        print(
            f"{row['task']:12}{row['suits']:>5}/{row['seeds']:<2}{row['score']:8.3f}{row['single']:8.3f}{row['tokens']:+8.0f}"
            f"{rate:>8}  {row['choices']}"
        )
    print(f"\n{'runaway':20}" + "".join(f"{limit:>22}" for limit in LIMITS))
    for name in dict.fromkeys(row["runaway"] for row in limits):
        cells = [
            next(row for row in limits if row["runaway"] == name and row["limit"] == limit)
            for limit in LIMITS
        ]
        print(
            f"{name:20}"
            + "".join(f"{cell['outcome'] + ' after ' + str(cell['calls']):>22}" for cell in cells)
        )
    print()
    for row in chaos_figures:
        print(f"chaos, members {row['place']}: {row['outcomes']}")
    print(f"\nafter {time.monotonic() - begin:.0f} s:")
    reached = goals(tasks, limits, chaos_figures)
    for text, ok in reached:
        print(f"{'reached' if ok else 'MISSED '}  {text}")
    RESULTS.parent.mkdir(exist_ok=True)
    data = {
        "tasks": tasks,
        "seeds": figures,
        "runaways": limits,
        "chaos": chaos_figures,
        "goals": [{"goal": g, "reached": ok} for g, ok in reached],
    }
    RESULTS.write_text(json.dumps(data, indent=2))
    return 1 if options.check and not all(ok for _, ok in reached) else 0


if __name__ == "__main__":
    sys.exit(main())
