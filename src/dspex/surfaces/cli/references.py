"""Rows as people name them on the command line: by name, by id, or by the end of an id."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from dspex.error_text import suggest
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.cli.table import short_id

Select = Callable[[Resource[Any], Query], Awaitable[list[Any]]]
"""Returns the rows of a resource; usually `Operations.list`."""
_SHORTEST = 6
_ID_CHARACTERS = frozenset("0123456789abcdef-")
_RECENT, _NAMES = 1000, 100
_NOUNS = {"api_key": "key", "optimization_job": "optimization"}


def noun_of(resource: Resource[Any]) -> str:
    """Return the name of a resource on the command line."""
    return _NOUNS.get(resource.name, resource.name.replace("_", "-"))


def has_names(resource: Resource[Any]) -> bool:
    """Return whether the rows of a resource have names."""
    return any(attribute.name == "name" for attribute in resource.attributes)


async def find_row(select: Select, resource: Resource[Any], text: str) -> Any:
    """Return the row that `text` names: a name, an id, or the end of the id of a recent row.

    Of several versions with one name it is the newest.

    Raises:
        NotFoundError: there is no such row.
        InvalidError: several recent rows end so.
    """
    rows: list[Any] = []
    if has_names(resource):
        rows = (await select(resource, Query(where={"name": text}, limit=1)))[:1]
    if not rows and (key := _parse_id(text)) is not None:
        rows = await select(resource, Query(where={"id": key}, limit=1))
    elif not rows and may_be_id(text):
        recent = await select(resource, Query(limit=_RECENT))
        rows = [row for row in recent if str(row.id).endswith(text.lower())]
    noun, plural = (name.replace("_", " ") for name in (resource.name, resource.plural))
    if len(rows) > 1:
        endings = ", ".join(short_id(row.id) for row in rows[:5])
        raise InvalidError(f"several {plural} end in {text!r}: {endings}; write more of the id")
    if not rows:
        names: list[str] = []
        if has_names(resource):
            names = [row.name for row in await select(resource, Query(limit=_NAMES))]
        hint = suggest(text, sorted(set(names)))
        list_hint = f"`dspex {noun_of(resource)} list` shows the {plural}"
        raise NotFoundError(
            f"there is no {noun} {text!r}" + (f".{hint} {list_hint}" if hint else f"; {list_hint}")
        )
    return rows[0]


def may_be_id(text: str) -> bool:
    """Return whether `text` can be an id or the end of one."""
    return len(text) >= _SHORTEST and set(text.lower()) <= _ID_CHARACTERS


def _parse_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
