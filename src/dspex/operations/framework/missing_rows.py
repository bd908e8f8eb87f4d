"""The error for a row that does not exist."""

from typing import Any
from uuid import UUID

from dspex.error_text import suggest
from dspex.errors import NotFoundError
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query

_ROWS, _BYTES = 200, 1_000_000  # are read to find a similar name


async def missing_row(
    operations: Operations, resource: Resource[Any], key: UUID | str, *, noun: str = ""
) -> NotFoundError:
    """Return the error for a row that does not exist, with a similar name if there is one.

    Only the names of recent rows that the actor may read are suggested.
    """
    noun = noun or resource.name.replace("_", " ")
    hint = ""
    if isinstance(key, str) and operations.may_read(resource):
        page = await operations.page(resource, Query(limit=_ROWS), most=_BYTES)
        hint = suggest(key, sorted({row.name for row in page.rows}))
    list_hint = f"`dspex {resource.name} list` lists them"
    return NotFoundError(
        f"there is no {noun} {str(key)!r}" + (f".{hint} {list_hint}" if hint else f"; {list_hint}")
    )
