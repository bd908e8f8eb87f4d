"""Teams whose members are killed: every run ends right or with a typed error.

Teams of all six coordinations run at once, with members in isolated workers, on dspy, and one of
each. Meanwhile the processes of these workers are killed, one after the other.

    python benchmarks/agents_chaos.py [--seconds 30] [--check]
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import dspex
from dspex.agents import Blackboard, Handoff, Map, Router, Sequence, Supervisor
from dspex.errors import DspexError
from dspex.execution.backends import HybridBackend, IsolatedBackend
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.context import RunContext
from dspex.execution.workers import BreakerConfig, Intensity, PoolConfig
from dspex.testing import AgentTurn, ScriptedModel, simulated_agents
from dspex.tools import ToolCall

ASK = "question -> answer"
CALLERS = 2  # that run teams at once, for each place
PAUSES = {"isolated": (0.2, 0.6), "dspy": (1.0, 3.0)}  # between kills; dspy starts slowly
RIGHT = "42"


def teams(first: str, second: str) -> dict[str, dspex.Module]:
    """Return a team of each coordination, with members in these two places."""

    def member(signature: str, role: str, place: str) -> Any:
        return dspex.Predict(dspex.Signature(signature, role)).on(place)

    def pair(signature: str, next_signature: str) -> dict[str, Any]:
        return {
            "first": member(signature, "You begin.", first),
            "second": member(next_signature, "You answer.", second),
        }

    return {
        "handoff": Handoff(ASK, pair("question -> handoff: str?, answer: str?", ASK)),
        "sequence": Sequence(ASK, pair("question -> note", "note -> answer")),
        "blackboard": Blackboard(ASK, pair("question -> note", "note -> answer")),
        "map": Map(ASK, pair(ASK, ASK)),
        "router": Router(ASK, pair(ASK, ASK)),
        "supervisor": Supervisor(ASK, pair(ASK, ASK)),
    }


def solve(turn: AgentTurn) -> Any:
    """Do what a member or the agent above it does in one turn."""
    if turn.tools:
        if any(RIGHT in result for result in turn.results):
            return {"forward": "second"}
        return ToolCall("1", "second", {"question": "?"})
    if "member" in turn.fields:
        return {"member": "first" if turn.chance() < 0.5 else "second"}
    if "handoff" in turn.fields:
        return {"handoff": "second", "answer": ""}
    return {"note": "think"} if "note" in turn.fields else {"answer": RIGHT}


def model(seed: int = 0) -> ScriptedModel:
    return ScriptedModel(simulated_agents(solve, seed=seed), capabilities=["tools"])


@dataclass
class Place:
    """Teams whose members run in two places, and how their runs ended."""

    first: str
    second: str
    outcomes: Counter[str] = field(default_factory=Counter)
    by_team: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.first if self.first == self.second else f"{self.first} and {self.second}"

    def count(self, team: str, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self.by_team.setdefault(team, Counter())[outcome] += 1


def pool(name: str) -> PoolConfig:
    return PoolConfig(
        name=name,
        minimum=2,
        maximum=2,
        spares=1,
        intensity=Intensity(restarts=10_000, seconds=1.0),
        breaker=BreakerConfig(seconds=1.0),  # by default it is open for twice the storm
    )


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[dict[str, Any]]:
    """Yield the backends; without dspy only that of isolated workers."""
    async with contextlib.AsyncExitStack() as stack:
        isolated = await stack.enter_async_context(IsolatedBackend(pool=pool("isolated")))
        backends: dict[str, Any] = {"isolated": isolated}
        if find_spec("dspy") is not None:
            dspy = DspyBackend(DspyConfig(pool=pool("dspy")))
            backends["dspy"] = await stack.enter_async_context(dspy)
        yield backends


async def call(hybrid: HybridBackend, handles: dict[str, Any], place: Place, stop: float) -> None:
    """Run the teams of a place in turn until the storm is over."""
    number = 0
    while time.monotonic() < stop:
        team = list(handles)[number % len(handles)]
        number += 1
        try:
            async with asyncio.timeout(60):
                context = RunContext(model=model(number))
                answer = await hybrid.execute_program(handles[team], {"question": "?"}, context)
            place.count(team, "right" if answer.answer == RIGHT else "WRONG")
        except DspexError as error:
            place.count(team, error.code)
            # a client waits as long as it is told, so that a refusal counts once
            await asyncio.sleep(error.context.get("retry_after") or 0.01)
        except Exception as error:  # noqa: BLE001  # what a run must not raise
            place.count(team, f"UNTYPED {type(error).__name__}")


async def kill(backend: Any, pauses: tuple[float, float], stop: float, seed: int) -> int:
    """Kill a worker of the backend after each pause; return how many were killed."""
    rng, kills = random.Random(seed), 0
    while time.monotonic() < stop:
        await asyncio.sleep(rng.uniform(*pauses))
        victims = [worker.pid for worker in backend.stats().workers if worker.pid]
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signal.SIGKILL)
                kills += 1
    return kills


async def storm(seconds: float) -> list[dict[str, Any]]:
    """Kill workers while teams run; return the figures of each place."""
    async with opened() as backends:
        hybrid = HybridBackend(backends)
        places = [Place(name, name) for name in backends]
        if "dspy" in backends:
            places.append(Place("isolated", "dspy"))
        handles: dict[str, dict[str, Any]] = {}
        for place in places:
            handles[place.name] = {
                name: await hybrid.create_program(team.to_program(name))
                for name, team in teams(place.first, place.second).items()
            }
            for handle in handles[place.name].values():
                await hybrid.execute_program(handle, {"question": "?"}, RunContext(model=model()))
        stop = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            killers = {
                name: group.create_task(kill(backend, PAUSES[name], stop, seed=1))
                for name, backend in backends.items()
            }
            for place in places:
                for _ in range(CALLERS):
                    group.create_task(call(hybrid, handles[place.name], place, stop))
        kills = {name: task.result() for name, task in killers.items()}
    return [
        {
            "place": place.name,
            "seconds": seconds,
            "kills": sum(kills[name] for name in {place.first, place.second}),
            "outcomes": dict(place.outcomes),
            "teams": {name: dict(counts) for name, counts in place.by_team.items()},
        }
        for place in places
    ]


def goal(row: dict[str, Any]) -> tuple[str, bool]:
    """Return the goal of a place, and whether it is reached: each team was also right."""
    bad = sum(
        count for name, count in row["outcomes"].items() if name.startswith(("UNTYPED", "WRONG"))
    )
    total = sum(row["outcomes"].values())
    idle = [name for name, counts in row["teams"].items() if not counts.get("right")]
    text = (
        f"{row['place']}, {row['kills']} kills: {total - bad} of {total} runs end right or with a "
        f"typed error{'; never right: ' + ', '.join(idle) if idle else ''}"
    )
    return text, not bad and not idle


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="how long workers are killed")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    rows = asyncio.run(storm(options.seconds))
    for row in rows:
        print(f"members {row['place']}: {row['outcomes']}")
        for name, counts in row["teams"].items():
            print(f"    {name:12}{counts}")
    reached = [goal(row) for row in rows]
    for text, is_reached in reached:
        print(f"{'reached' if is_reached else 'MISSED '}  {text}")
    return 1 if options.check and not all(is_reached for _, is_reached in reached) else 0


if __name__ == "__main__":
    sys.exit(main())
