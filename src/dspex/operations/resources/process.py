"""Stored heartbeats of processes that run executions."""

from dataclasses import dataclass

from dspex.operations.resources.resource import Resource, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord(Row):
    """One executor. `beats` counts heartbeats; other hosts treat it as dead when the count stops."""

    owner: str
    beats: int = 0


PROCESS = Resource(
    name="process",
    plural="processes",
    entity=ProcessRecord,
    is_audited=False,
    is_internal=True,
)
