"""Processes that run executions, as others see them."""

from dataclasses import dataclass

from dspex.operations.resources.resource import Resource, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord(Row):
    """One life of an executor. `beats` grows as long as it lives; for other hosts, one that stands still is gone."""

    owner: str
    beats: int = 0


PROCESS = Resource(
    name="process",
    plural="processes",
    entity=ProcessRecord,
    is_audited=False,
    is_internal=True,
)
