"""How jobs are run: limits, retries, and when a silent worker counts as dead."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.operations.jobs.job import JobResource


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPolicy:
    """The times (in seconds) and limits of one installation.

    Args:
        queues: the kinds of jobs by the name of their queue.
        concurrency: jobs of one queue that one worker runs at once, unless its kind says otherwise.
        limits: jobs of a queue, by its name, that run at once in all workers together; no limit by
            default.
        attempts: starts of a job with errors that a retry may cure, before it fails for good.
        deaths: starts of a job during which workers died, before the job itself is blamed.
        backoff: the wait before the second attempt; each further one waits twice as long, `longest`
            at most.
        beat: the time between two heartbeats of a worker.
        dead_after: a worker without a heartbeat for this long is dead.
        poll: the time between two looks of workers for new and cancelled jobs; a worker without
            jobs waits twice as long.
        stall: a job whose code has kept its process busy for this long without a pause has failed;
            0: never.
        start: how long the process of a job may take to start.
        grace: how long a stopped job may take to end before its process is killed.
        longest_run: how long a job may run without a restart of its worker; 0: no limit.
    """

    queues: Mapping[str, JobResource[Any]]
    concurrency: int = 4
    limits: dict[str, int] = field(default_factory=dict)
    attempts: int = 5
    deaths: int = 10
    backoff: float = 1.0
    longest: float = 60.0
    beat: float = 0.5
    dead_after: float = 2.0
    poll: float = 0.25
    stall: float = 60.0
    start: float = 120.0
    grace: float = 2.0
    longest_run: float = 0.0

    def per_worker(self, queue: str) -> int:
        """Return how many jobs of a queue one worker runs at once."""
        return self.queues[queue].per_worker or self.concurrency

    def wait(self, attempts: int) -> float:
        """Return the seconds to wait after this many attempts."""
        return min(self.backoff * 2.0 ** (attempts - 1), self.longest)


def serves(needs: dict[str, Any], code: str, revision: str) -> bool:
    """Return whether a worker with this code root and revision can run a job with these needs."""
    return not needs or (needs.get("code"), needs.get("revision")) == (code, revision)


def channel_of(queue: str, needs: dict[str, Any]) -> str:
    """Return the name of the channel for jobs of a queue with the same needs."""
    return queue if not needs else f"{queue}@{needs['code']}@{needs['revision']}"
