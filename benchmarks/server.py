"""The server with all features on against a bare GraphQL application, in one run.

Figures are medians of interleaved rounds.

    python benchmarks/server.py [--quick] [--check] [--database sqlite|postgres]

Keys, limits, audit, trace and persistence are on; the model is scripted. The peer is `bare_app.py`
from $DSPEX_SHARED/bench or `../shared/bench`, with one insert into a database of the same kind.
Servers run on the first core, the load and PostgreSQL on the last. Of two servers, each has as many
connections as the single one. There no process is pinned, so that neither server has to share its
core. CPU is that of the server process.
Writes `benchmarks/results/server.json`."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("DSPEX_SHARED", HERE.parent.parent / "shared")) / "bench"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
# Linux: the clock of another process, in nanoseconds; its figures in /proc have steps of 10 ms
_SCHEDULED = 2
FIELDS = "{ id status inputs startedAt }"
MUTATION = "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) " + FIELDS + " }"
BARE_LIST = "{ executions(first: 50) { id status inputs startedAt program { id name } } }"
LIST = "{ executions(first: 50) { nodes { id status inputs startedAt program { id name } } } }"
TWO = {
    "one": "one server, 32 connections",
    "two": "two, 32 each",
    "one with all": "one server, 64 connections",
}
INPUTS = {"question": "What is the capital of France?"}


def start(stack: ExitStack, cores: list[int], *command: str) -> subprocess.Popen:
    pinned = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, *command]
    process = stack.enter_context(
        subprocess.Popen(
            pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
    )
    stack.callback(process.kill)
    return process


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}


class Server:
    """A server process, and what it is asked."""

    def __init__(self, stack: ExitStack, *command: str, cores: list[int] = CORES[:1]) -> None:
        self.process = start(stack, cores, *command)
        words = self.process.stdout.readline().split()
        if not words or words[0] != "ready":
            sys.exit(f"{command[0]} does not start: {words}")
        self.url = f"http://127.0.0.1:{words[1]}"
        self.key = words[2] if len(words) > 2 else None

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def cpu(self) -> float:
        """Return the CPU seconds of all its threads."""
        return time.clock_gettime(~self.process.pid << 3 | _SCHEDULED)

    def stats(self) -> dict[str, int]:
        url = f"{self.url}/stats"
        request = urllib.request.Request(url, headers=self.headers)  # noqa: S310  # our own server
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.load(answer)


class Load:
    """The process that sends the requests."""

    def __init__(self, stack: ExitStack, *, cores: list[int] = CORES[-1:]) -> None:
        self.process = start(stack, cores, str(HERE / "server_load.py"))
        self.process.stdout.readline()

    def run(
        self, servers: list[Server], work: dict[str, Any], *, connections: int, calls: int
    ) -> dict[str, float]:
        request = {
            **work,
            "urls": [server.url for server in servers],
            "headers": servers[0].headers,
            "connections": connections,
            "calls": calls,
        }
        before = [server.cpu() for server in servers]
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        seconds = sum(
            server.cpu() - earlier for server, earlier in zip(servers, before, strict=True)
        )
        if reply["errors"]:
            print("error:", reply["first_error"], file=sys.stderr)
        return {**reply, "cpu_us": seconds / calls * 1e6}


def graphql(
    query: str, variables: dict[str, Any] | None = None, expect: str = "COMPLETED"
) -> dict[str, Any]:
    return {"path": "/graphql", "body": {"query": query, "variables": variables}, "expect": expect}


BARE = graphql(MUTATION, {"input": {"programId": "p1", "inputs": INPUTS}})
OURS = graphql(MUTATION, {"input": {"program": "triage", "inputs": INPUTS}})
REST = {"path": "/v1/programs/triage/execute", "body": {"inputs": INPUTS}, "expect": "completed"}
LISTS = {"bare list": graphql(BARE_LIST), "list": graphql(LIST)}


def median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rounds)


def compare(
    stack: ExitStack, databases: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one server beside the bare application."""
    load = Load(stack)
    bare = Server(stack, str(SHARED / "bare_app.py"), "--port", "0", "--url", databases["bare"])
    ours = Server(stack, str(HERE / "server_side.py"), databases["ours"], databases["state"])
    sides = {"bare": (bare, BARE), "graphql": (ours, OURS), "rest": (ours, REST)}
    results: dict[str, Any] = {"executions": {}, "lists": {}}
    for connections in (16, 64):
        rounds: dict[str, list[Any]] = {name: [] for name in sides}
        for n in range(options.rounds + 1):
            for name, (server, work) in sides.items():
                row = load.run([server], work, connections=connections, calls=options.calls)
                if n:  # the first round warms
                    rounds[name].append(row)
        results["executions"][connections] = rounds
    rounds = {name: [] for name in LISTS}
    for _ in range(options.rounds):
        for name, work in LISTS.items():
            server = bare if name.startswith("bare") else ours
            rounds[name].append(
                load.run([server], work, connections=16, calls=max(300, options.calls // 10))
            )
    results["lists"] = rounds
    ours.stats()
    load.run([ours], LISTS["list"], connections=1, calls=10)
    results["reads_per_list"] = ours.stats().get("reads", 0) / 10
    return results


def two_servers(
    stack: ExitStack, databases: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one server with 32 connections, two with 32 each, and one with 64.

    The two share one database.
    """
    load = Load(stack, cores=CORES)
    command = (str(HERE / "server_side.py"), databases["ours"], databases["state"])
    first = Server(stack, *command, cores=CORES)
    second = Server(stack, *command, first.key, cores=CORES)
    sides = {"one": ([first], 32), "two": ([first, second], 64)}
    if not options.quick:
        sides["one with all"] = ([first], 64)
    results: dict[str, list[Any]] = {name: [] for name in sides}
    for n in range(6 if options.quick else 8):  # the difference is small
        for name, (servers, connections) in sides.items():
            row = load.run(servers, REST, connections=connections, calls=max(3000, options.calls))
            if n:
                results[name].append(row)
    return results


def check(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return each goal with its measured value and its limit."""
    goals: list[tuple[str, float, float]] = []
    for database, figures in results["databases"].items():
        for connections, rounds in figures["executions"].items():
            bare = median(rounds["bare"], "cpu_us")
            at = f"{database}, {connections} connections"
            goals.append(
                (f"GraphQL CPU over bare ({at})", median(rounds["graphql"], "cpu_us") / bare, 1.2)
            )
            goals.append(
                (f"REST CPU over bare ({at})", median(rounds["rest"], "cpu_us") / bare, 0.5)
            )
            for name in ("graphql", "rest"):
                over = median(rounds[name], "p99_ms") - median(rounds["bare"], "p99_ms")
                goals.append((f"{name} p99 over bare, ms ({at})", over, 5.0))
        lists = figures["lists"]
        ratio = median(lists["list"], "cpu_us") / median(lists["bare list"], "cpu_us")
        goals.append((f"list of 50 with programs, CPU over bare ({database})", ratio, 1.6))
        goals.append((f"reads for that list ({database})", figures["reads_per_list"], 3))
    if two := results.get("two"):
        goals.append(
            (
                "two servers, CPU over one",
                median(two["two"], "cpu_us") / median(two["one"], "cpu_us"),
                1.1,
            )
        )
        shares = [max(figures["split"]) / sum(figures["split"]) for figures in two["two"]]
        goals.append(("the larger share of two servers", statistics.median(shares), 0.6))
        goals.append(
            ("errors with two servers", sum(figures["errors"] for figures in two["two"]), 0)
        )
    errors = sum(
        row["errors"]
        for figures in results["databases"].values()
        for rounds in (*figures["executions"].values(), figures["lists"])
        for side in rounds.values()
        for row in side
    )
    goals.append(("errors", errors, 0))
    return goals


def table(results: dict[str, Any]) -> None:
    print(f"\n{'what':52} {'CPU us':>8} {'p50 ms':>8} {'p99 ms':>8} {'/s':>7}")
    for database, figures in results["databases"].items():
        for connections, rounds in figures["executions"].items():
            for name, side in rounds.items():
                _line(f"{database}, {connections} connections: {name}", side)
        for name, side in figures["lists"].items():
            _line(f"{database}: {name} of 50", side)
    for name, side in results.get("two", {}).items():
        _line(f"postgres: {TWO[name]}, REST", side)


def _line(name: str, side: list[Any]) -> None:
    values = [median(side, part) for part in ("cpu_us", "p50_ms", "p99_ms", "per_second")]
    print(f"{name:52} {values[0]:8.0f} {values[1]:8.2f} {values[2]:8.2f} {values[3]:7.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds of 400 calls, not 7 of 4000")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument(
        "--database", choices=["sqlite", "postgres"], action="append", help="one database only"
    )
    options = parser.parse_args()
    if not (SHARED / "bare_app.py").exists():
        print(f"skipped: no yardsticks at {SHARED} (set DSPEX_SHARED)")
        return
    options.rounds, options.calls = (2, 400) if options.quick else (7, 4000)
    results: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": len(CORES),
        "databases": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for database in options.database or ["sqlite", "postgres"]:
            run(database, Path(folder), results, options)
    goals = check(results)
    table(results)
    print()
    for name, value, most in goals:
        print(
            f"{'reached' if value <= most else 'MISSED ':8} {name}: {value:.2f} (at most {most:g})"
        )
    results["goals"] = [
        {"goal": name, "measured": value, "most": most} for name, value, most in goals
    ]
    out = HERE / "results" / "server.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1))
    if options.check and any(value > most for _, value, most in goals):
        sys.exit(1)


def run(database: str, folder: Path, results: dict[str, Any], options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        if database == "sqlite":
            databases = {
                "bare": f"sqlite+aiosqlite:///{folder}/bare.sqlite3",
                "ours": "-",
                "state": str(folder / "sqlite"),
            }
            results["databases"][database] = compare(stack, databases, options)
            return
        from dspex.testing.postgres import PostgresServer

        os.sched_setaffinity(0, CORES[-1:])  # the database server is a child of this process
        server = stack.enter_context(PostgresServer())
        bare, ours = (server.url(server.make()) for _ in range(2))
        driver = bare.replace("postgresql://", "postgresql+asyncpg://", 1)
        databases = {"bare": driver, "ours": ours, "state": str(folder / "postgres")}
        with ExitStack() as inner:
            results["databases"][database] = compare(inner, databases, options)
        os.sched_setaffinity(0, CORES)
        server = stack.enter_context(PostgresServer())
        databases["ours"] = server.url(server.make())
        with ExitStack() as inner:
            results["two"] = two_servers(inner, databases, options)


if __name__ == "__main__":
    main()
