"""Stored data sets."""

from dataclasses import dataclass
from typing import Any, Literal

from dspex.operations.framework.resource import Resource, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord(Row):
    """One immutable version of a data set.

    `checksum` covers the rows; `schema` lists their fields and types.
    """

    name: str
    version: int
    split: Literal["train", "validation", "test"]
    schema: dict[str, Any]
    rows: list[Any]
    row_count: int
    checksum: str
    source: str


DATASET = Resource(
    name="dataset",
    plural="datasets",
    entity=DatasetRecord,
    unique=(("workspace", "name", "version"),),
)
