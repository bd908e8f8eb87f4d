"""Are calls of a route lost, probes too many, hedges worth it? Providers on a virtual clock.

Each random scenario has one to four scripted models with phases (up, errors, down, slow, rate
limit, refusal), one of the policies, and calls at random times. Every call is checked: was it lost
while a model could answer, how many attempts did it make, how often was a dead model probed, and
when was a model used again after it had recovered? A line names the seed of each violation.

Hedging is measured on replies with a long tail, then with every model five times slower. The cost
is the CPU time of a routed call, less that of the model alone, on the real clock.

The cache in Redis is measured with a real server: see `routing_redis.py`.

    python benchmarks/routing.py [--quick] [--check] [--seed N]
"""

import argparse
import asyncio
import heapq
import itertools
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routing_redis import measure_redis

from dspex.errors import DspexError, ModelUnavailableError, RateLimitedError, RefusedError
from dspex.execution.clients import Capability, Request, Response
from dspex.execution.clients.routing import POLICIES, CircuitLimits, Route
from dspex.language.records import Message, Usage
from dspex.testing import FakeClock, ScriptedModel
from dspex.testing.redis import find_redis

RESULTS = Path(__file__).parent / "results" / "routing.json"
LIMITS = CircuitLimits()
GOAL_P99, GOAL_EXTRA, GOAL_SLOW_EXTRA, GOAL_CPU_US = 0.5, 0.1, 0.01, 15.0
OPEN_GOALS = (
    "two servers share a cooldown within 1 s",
    "learned routing reaches the strong model at 60% of its cost",
)
MODES = ("up", "up", "up", "errors", "down", "slow", "limit", "refusal")
ABLE = {"up", "slow"}


class VirtualClock(FakeClock):
    """A clock that jumps to the next sleeper once all tasks wait."""

    async def run(self, task: "asyncio.Future[Any]") -> None:
        """Turn the clock until `task` is done."""
        while not task.done():
            await self.settle(6)
            if task.done():
                break
            until = self._sleepers[0][0]
            while self._sleepers and self._sleepers[0][0] <= until:
                self._ns, _, waiter = heapq.heappop(self._sleepers)
                if not waiter.done():
                    waiter.set_result(None)

    @property
    def seconds(self) -> float:
        """The time in seconds."""
        return self.monotonic_ns() / 1e9


@dataclass(slots=True)
class Attempt:
    """A request that a provider has received; `end` is None until it is answered."""

    call: str
    start: float
    end: float | None = None
    is_answered: bool = False


@dataclass
class Provider:
    """A model whose behaviour follows phases, each (start, mode)."""

    name: str
    clock: VirtualClock
    rng: random.Random
    phases: list[tuple[float, str]]
    latency: float = 0.3
    attempts: list[Attempt] = field(default_factory=list)
    capabilities: frozenset[Capability] = frozenset()

    def phase(self, moment: float) -> tuple[str, float]:
        """Return the mode at a moment, and when it ends."""
        mode, end = "up", 1e9
        for (start, name), following in itertools.zip_longest(self.phases, self.phases[1:]):
            if start <= moment:
                mode, end = name, 1e9 if following is None else following[0]
        return mode, end

    def is_able(self, start: float, end: float) -> bool:
        """Return whether it would have answered at every moment between these."""
        moment = start
        while moment <= end:
            mode, moment = self.phase(moment)
            if mode not in ABLE:
                return False
        return True

    async def complete(self, request: Request) -> Response:
        """Answer as the phase says."""
        mode, end = self.phase(self.clock.seconds)
        attempt = Attempt(request.messages[0].text, self.clock.seconds)
        self.attempts.append(attempt)
        seconds = self.latency * self.rng.uniform(0.5, 1.5) * (6 if mode == "slow" else 1)
        if mode not in ABLE:
            seconds *= 0.2
        await self.clock.sleep(seconds)
        attempt.end = self.clock.seconds
        if mode == "limit":
            raise RateLimitedError("429", retry_after=max(0.1, end - self.clock.seconds))
        if mode == "refusal":
            raise RefusedError("policy", status=400)
        if mode == "down" or (mode == "errors" and self.rng.random() < 0.3):
            raise ModelUnavailableError("status 500", status=500)
        attempt.is_answered = True
        usage = Usage(input_tokens=9, output_tokens=9, calls=1)
        return Response(text=self.name, usage=usage, model=self.name, finish_reason="stop")

    async def aclose(self) -> None:
        """Do nothing."""


def scenario(seed: int) -> tuple[VirtualClock, list[Provider], Route, list[float]]:
    """Return the clock, the providers, the route and the times of the calls of a seed."""
    rng, clock = random.Random(seed), VirtualClock()
    providers = []
    for name in "abcd"[: rng.randint(1, 4)]:
        moment, phases = 0.0, list[tuple[float, str]]()
        while moment < 120:
            phases.append((moment, rng.choice(MODES)))
            moment += rng.choice((5.0, 15.0, 40.0)) * rng.uniform(0.5, 1.5)
        providers.append(Provider(name, clock, rng, phases))
    route = Route(
        *providers,
        policy=rng.choice([*POLICIES]),
        weights=[rng.uniform(0.2, 5) for _ in providers],
        clock=clock,
        rng=rng,
    )
    moments = sorted(rng.uniform(0, 110) for _ in range(rng.choice((20, 60, 150))))
    return clock, providers, route, moments


async def play(seed: int) -> dict[str, Any]:
    """Play a scenario; return its figures and violations."""
    clock, providers, route, moments = scenario(seed)
    calls: list[tuple[str, float, float, DspexError | None]] = []

    async def call(number: int, moment: float) -> None:
        await clock.sleep(moment)
        start, error = clock.seconds, None
        try:
            await route.complete(Request(messages=(Message("user", str(number)),)))
        except DspexError as failure:
            error = failure
        calls.append((str(number), start, clock.seconds, error))

    work = asyncio.gather(*(call(number, moment) for number, moment in enumerate(moments)))
    await clock.run(work)
    attempts = Counter(attempt.call for item in providers for attempt in item.attempts)
    violations = [
        f"call {name} was lost while {item.name} could answer"
        for name, start, end, error in calls
        if error is not None
        for item in providers
        if item.is_able(start, end)
    ]
    violations += [
        f"call {name} made {count} attempts"
        for name, count in attempts.items()
        if count > route.attempts
    ]
    for item in providers:
        violations += early_probes(item)
    violations += late_recoveries(providers, route, moments)
    return {
        "calls": len(calls),
        "failed": sum(error is not None for *_, error in calls),
        "attempts": attempts.total(),
        "violations": [f"seed {seed}: {text}" for text in violations],
    }


def early_probes(item: Provider) -> list[str]:
    """Return the requests that were sent earlier than a circuit allows."""
    ends = sorted((each.end, each.is_answered) for each in item.attempts if each.end is not None)
    violations = []
    opened: float | None = None
    in_row = 0
    for end, is_answered in ends:
        in_row = 0 if is_answered else in_row + 1
        if is_answered:
            opened = None
        elif opened is None and in_row >= LIMITS.consecutive and item.phase(end)[0] != "refusal":
            opened = end
            closed = next((moment for moment, answer in ends if answer and moment > end), 1e9)
            # the circuit may have opened before, by the share of failures or by a rate limit
            probes = [each.start for each in item.attempts if end < each.start < closed]
            gaps = [later - earlier for earlier, later in itertools.pairwise(probes)]
            if not any(mode == "refusal" for _, mode in item.phases) and any(
                gap < LIMITS.interval - 1e-6 for gap in gaps
            ):
                violations.append(f"{item.name} was probed after {min(gaps):.2f} s at {end:.1f}")
    return violations


def late_recoveries(providers: list[Provider], route: Route, moments: list[float]) -> list[str]:
    """Return the recoveries of the first model after which it was not used within one window."""
    if route.policy.name not in {"primary", "fallback", "hedged"}:
        return []
    first, violations = providers[0], []
    for (_, before), (start, mode) in itertools.pairwise(first.phases):
        end = start + LIMITS.window
        asked = [moment for moment in moments if start + LIMITS.interval <= moment <= end - 1]
        if before not in {"down", "limit"} or mode != "up" or not asked:
            continue
        if first.phase(start)[1] < end or asked[0] > end - 2:
            continue
        if not any(each.is_answered and start <= each.start <= end for each in first.attempts):
            violations.append(f"{first.name} was not used again after {start:.1f}")
    return violations


async def hedge(calls: int, seed: int) -> dict[str, float]:
    """Return the 99th percentiles with and without hedging, and the share of extra requests."""
    figures: dict[str, float] = {}
    for policy in ("fallback", "hedged"):
        rng, clock = random.Random(seed), VirtualClock()
        models = [Tail(name, clock, rng) for name in "ab"]
        route = Route(*models, policy=policy, clock=clock, rng=random.Random(seed))
        # 2,000 slow calls take an hour; what lasts for many hours is usual, and is hedged again
        for phase, scale, count in (("normal", 1.0, calls), ("slow", 5.0, 2_000)):
            before, seconds = sum(model.calls for model in models), list[float]()
            for model in models:
                model.scale = scale
            for _ in range(count):
                start = clock.seconds
                await clock.run(asyncio.ensure_future(route.complete(REQUEST)))
                seconds.append(clock.seconds - start)
            extra = sum(model.calls for model in models) - before - count
            figures[f"{policy} {phase} p99"] = sorted(seconds)[int(0.99 * count)]
            figures[f"{policy} {phase} extra"] = extra / count
    return figures


REQUEST = Request(messages=(Message("user", "hi"),))


class Tail:
    """Answers in about 0.3 s, and two of a hundred times in about 6 s."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, name: str, clock: VirtualClock, rng: random.Random) -> None:
        self.name = name
        self.clock = clock
        self.rng = rng
        self.scale = 1.0
        self.calls = 0

    async def complete(self, request: Request) -> Response:
        """Answer late."""
        self.calls += 1
        seconds = self.rng.lognormvariate(-1.2, 0.25) * (20 if self.rng.random() < 0.02 else 1)
        await self.clock.sleep(seconds * self.scale)
        usage = Usage(input_tokens=9, output_tokens=9, calls=1)
        return Response(text="x", usage=usage, model=self.name, finish_reason="stop")

    async def aclose(self) -> None:
        """Do nothing."""


async def cost(calls: int, rounds: int) -> dict[str, float]:
    """Return the CPU microseconds of a call: of the model alone, and more of each policy."""

    async def measure(model: Any) -> float:
        start = time.process_time()
        for _ in range(calls):
            await model.complete(REQUEST)
        return (time.process_time() - start) / calls * 1e6

    alone = ScriptedModel("x", name="a")
    routes = {
        policy: Route(alone, ScriptedModel("x", name="b"), policy=policy) for policy in POLICIES
    }
    differences: dict[str, list[float]] = {policy: [] for policy in routes}
    bare = []
    for _ in range(rounds):
        for policy, route in routes.items():
            base = min(await measure(alone), await measure(alone))
            bare.append(base)
            differences[policy].append(await measure(route) - base)
            alone.requests.clear()
    figures = {policy: sorted(values)[len(values) // 2] for policy, values in differences.items()}
    return {"model alone": min(bare), **figures}


def main() -> int:
    """Run, print the table, write the JSON; return 1 if `--check` finds a goal that is missed."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer scenarios and calls")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed")
    parser.add_argument("--seed", type=int, help="play one scenario")
    options = parser.parse_args()
    if options.seed is not None:
        print(json.dumps(asyncio.run(play(options.seed)), indent=2))
        return 0
    count = 1000 if options.quick else 5000
    plays = asyncio.run(_plays(range(count)))
    hedges = asyncio.run(hedge(2000 if options.quick else 20_000, seed=7))
    costs = asyncio.run(cost(3000, rounds=3 if options.quick else 9))
    violations = [text for each in plays for text in each["violations"]]
    totals = {key: sum(each[key] for each in plays) for key in ("calls", "failed", "attempts")}
    p99 = hedges["hedged normal p99"] / hedges["fallback normal p99"]
    goals: list[tuple[str, bool, str]] = [
        (
            f"{count} scenarios (seeds 0 to {count - 1})",
            not violations,
            f"{len(violations)} violations",
        ),
        (f"p99 with hedging <= {GOAL_P99}", p99 <= GOAL_P99, f"{p99:.3f}"),
        (
            f"extra requests <= {GOAL_EXTRA:.0%}",
            hedges["hedged normal extra"] <= GOAL_EXTRA,
            f"{hedges['hedged normal extra']:.2%}",
        ),
        (
            f"extra while everything is slow <= {GOAL_SLOW_EXTRA:.0%}",
            hedges["hedged slow extra"] <= GOAL_SLOW_EXTRA,
            f"{hedges['hedged slow extra']:.2%}",
        ),
        (
            f"CPU of a routed call <= {GOAL_CPU_US:g} us (fallback)",
            costs["fallback"] <= GOAL_CPU_US,
            f"{costs['fallback']:.1f} us",
        ),
    ]
    redis: dict[str, Any] = {}
    if find_redis() is None:
        print("skipped: the cache in Redis (no redis-server and no valkey-server)")
    else:
        redis, more = measure_redis(quick=options.quick)
        goals += more
    print(f"{totals['calls']} calls, {totals['attempts']} attempts, {totals['failed']} failed")
    print("CPU us:", ", ".join(f"{name} {value:.1f}" for name, value in costs.items()))
    print("hedging:", ", ".join(f"{name} {value:.3f}" for name, value in hedges.items()))
    for text in violations[:20]:
        print("  " + text)
    for name, is_met, value in goals:
        print(f"{'met   ' if is_met else 'MISSED'}  {name}: {value}")
    for name in OPEN_GOALS:
        print(f"open    {name}: not built yet")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {**totals, "violations": violations, "hedging": hedges, "cpu_us": costs, "redis": redis}
        )
    )
    return int(options.check and not all(is_met for _, is_met, _ in goals))


async def _plays(seeds: range) -> list[dict[str, Any]]:
    return [await play(seed) for seed in seeds]


if __name__ == "__main__":
    sys.exit(main())
