"""The load side of `server.py`, a separate process: one closed HTTP loop per connection.

Reads one JSON line {"urls", "path", "body", "headers", "connections", "calls"} after another,
answers each with one:
{"p50_ms", "p99_ms", "per_second", "errors", "split"} (`split`: how many calls each URL answered).
"""

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp


async def measure(work: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(work["body"]).encode()
    headers = {"content-type": "application/json", **work["headers"]}
    latencies: list[float] = []
    split = [0] * len(work["urls"])
    errors: list[str] = []
    numbers = iter(range(work["calls"]))

    async def loop(session: aiohttp.ClientSession, target: int) -> None:
        url = work["urls"][target] + work["path"]
        for _ in numbers:
            start = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as answer:
                text = await answer.read()
            latencies.append(time.perf_counter() - start)
            split[target] += 1
            if answer.status != 200 or b'"errors"' in text or work["expect"].encode() not in text:
                errors.append(f"{answer.status}: {text[:300]!r}")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for n in range(work["connections"]):
                group.create_task(loop(session, n % len(work["urls"])))
        wall = time.perf_counter() - start
    latencies.sort()
    count = len(latencies)
    return {
        "p50_ms": latencies[count // 2] * 1e3,
        "p99_ms": latencies[count * 99 // 100] * 1e3,
        "per_second": count / wall,
        "errors": len(errors),
        "first_error": errors[:1],
        "split": split,
    }


def main() -> None:
    import uvloop

    uvloop.install()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(measure(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
