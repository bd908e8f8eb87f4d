"""Stored worker processes."""

from dataclasses import dataclass
from typing import Any, Literal

from dspex.operations.framework.resource import Resource, Row, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWorkerRecord(Row):
    """One worker process. `beats` counts heartbeats; a worker whose count stops growing is dead.

    `code` is the code root that it imports from, `revision` a hash of the code in it; both are
    empty without a code root.
    """

    host: str
    pid: int
    status: Literal["alive", "stopped", "dead"] = "alive"
    queues: list[Any]
    code: str = ""
    revision: str = ""
    beats: int = 0


JOB_WORKER = Resource(
    name="job_worker",
    plural="job_workers",
    entity=JobWorkerRecord,
    transitions={
        "stop": Transition(("alive",), "stopped"),
        "bury": Transition(("alive",), "dead"),
    },
    indexes=(("status",),),
    reading="admin",
    is_audited=False,
)
