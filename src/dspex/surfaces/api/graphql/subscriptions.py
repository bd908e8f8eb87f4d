"""Subscriptions: events, as they are committed."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

import strawberry
from strawberry.scalars import JSON

from dspex.errors import NotFoundError, StorageError
from dspex.operations.events.event_log import Feed, FeedEvent
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.query_arguments import id_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.errors import as_graphql
from dspex.surfaces.api.graphql.types import SchemaTypes, pascal

RETRY_S = 0.5
TOPICS = {
    "execution": "execution",
    "optimization": "optimization_job",
    "evaluation": "evaluation",
    "ingestion": "ingestion",
}


def subscriptions(types: SchemaTypes) -> dict[str, Any]:
    """Return one field for each topic: executionUpdates, ingestionUpdates and so on."""
    return {
        f"{topic}_updates": _updates(topic, resource, types) for topic, resource in TOPICS.items()
    }


def _updates(topic: str, resource: str, types: SchemaTypes) -> Any:
    update: Any = _update_type(topic, resource, types)
    target = types.domain[resource]

    async def entries_of(info: Any, program_id: Any, after: Any) -> AsyncGenerator[Any, None]:
        with as_graphql():
            operations = info.context.operations
            operations.actor.require(target.reading, f"following {target.plural}")
            program = id_from(program_id, "programId") if program_id is not None else None
            await operations.list(target, Query(limit=1))  # raises if the database is down
            follow = partial(
                operations.services[Feed].follow, operations.workspace, topic, program_id=program
            )
            async with aclosing(
                _with_rows(info.context, _follow_patiently(follow, after, operations), target)
            ) as entries:
                async for entry, row in entries:
                    event = entry.event
                    yield update(
                        cursor=entry.cursor,
                        at=event.created_at,
                        payload=event.payload,
                        **{resource: row},
                    )

    async def all_updates(info: Any, after: Any = None) -> AsyncIterator[Any]:
        async with aclosing(entries_of(info, None, after)) as entries:
            async for entry in entries:
                yield entry

    async def updates(info: Any, program_id: Any = None, after: Any = None) -> AsyncIterator[Any]:
        async with aclosing(entries_of(info, program_id, after)) as entries:
            async for entry in entries:
                yield entry

    has_program = "program_id" in {part.name for part in target.attributes}
    resolver = updates if has_program else all_updates
    resolver.__annotations__ = {
        "info": strawberry.Info[GraphQLContext, None],
        **({"program_id": strawberry.ID | None} if has_program else {}),
        "after": strawberry.ID | None,
        "return": AsyncIterator[update],
    }
    which = ", of one program or of all" if has_program else ""
    description = (
        f"Each event of {target.plural.replace('_', ' ')} once, after the cursor `after` or from "
        f"now on{which}. It continues after an outage of the database."
    )
    return strawberry.subscription(resolver=resolver, description=description)


async def _follow_patiently(
    follow: Any,
    after: str | None,
    operations: Operations,
) -> AsyncGenerator[FeedEvent, None]:
    """Yield all events after `after`; continue after an outage of the database."""
    cursor = str(operations.new_id()) if after is None else after
    while True:
        entries = follow(after=after)
        try:
            async for entry in entries:
                cursor = entry.cursor
                yield entry
        except StorageError as error:
            if not error.is_retryable:
                raise
        finally:
            await entries.aclose()
        after = cursor
        await operations.clock.sleep(RETRY_S)


async def _with_rows(
    context: GraphQLContext, events: AsyncGenerator[FeedEvent, None], target: Resource[Any]
) -> AsyncGenerator[tuple[FeedEvent, Any], None]:
    """Yield events with their rows; skip events whose rows retention has deleted."""
    async with aclosing(events):
        async for entry in events:
            row = await _load_row(context, entry, target)
            if row is not None:
                yield entry, row


async def _load_row(context: GraphQLContext, entry: FeedEvent, target: Resource[Any]) -> Any:
    """Return the row of an event, None if it was deleted; wait while the database is down."""
    while True:
        context.renew()
        try:
            return await context.load(target, entry.event.subject_id)
        except NotFoundError:
            return None
        except StorageError as error:
            if not error.is_retryable:
                raise
            await context.operations.clock.sleep(RETRY_S)


def _update_type(topic: str, resource: str, types: SchemaTypes) -> Any:
    hints = {
        "cursor": strawberry.ID,
        "at": datetime,
        "payload": JSON,
        resource: types.objects[resource],
    }
    body = type(f"{pascal(topic)}Update", (), {"__annotations__": hints})
    return strawberry.type(
        body,
        description=f"An event, described by `payload`; `{resource}` is the row as it is now.",
    )
