"""Subscriptions: what happens, as it is committed."""

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

AGAIN_S = 0.5
TOPICS = {"execution": "execution", "optimization": "optimization_job", "evaluation": "evaluation"}


def subscriptions(made: SchemaTypes) -> dict[str, Any]:
    """Return one field for each topic: executionUpdates, optimizationUpdates, evaluationUpdates."""
    return {
        f"{topic}_updates": _updates(topic, resource, made) for topic, resource in TOPICS.items()
    }


def _updates(topic: str, resource: str, made: SchemaTypes) -> Any:
    update: Any = _update_type(topic, resource, made)
    target = made.domain[resource]

    async def updates(info: Any, program_id: Any = None, after: Any = None) -> AsyncIterator[Any]:
        with as_graphql():
            operations = info.context.operations
            operations.actor.require(target.reading, f"following {target.plural}")
            program = id_from(program_id, "programId") if program_id is not None else None
            await operations.list(
                target, Query(limit=1)
            )  # a database that is away now is said to be so
            follow = partial(
                operations.services[Feed].follow, operations.workspace, topic, program_id=program
            )
            async with aclosing(
                _with_rows(info.context, _patiently(follow, after, operations), target)
            ) as found:
                async for told, row in found:
                    event = told.event
                    yield update(
                        cursor=told.cursor,
                        at=event.created_at,
                        payload=event.payload,
                        **{resource: row},
                    )

    updates.__annotations__ = {
        "info": strawberry.Info[GraphQLContext, None],
        "program_id": strawberry.ID | None,
        "after": strawberry.ID | None,
        "return": AsyncIterator[update],
    }
    description = (
        f"Each event of {target.plural.replace('_', ' ')} once, from the one behind the cursor "
        "`after` on, "
        "or from now on; of one program where it is given. It goes on when the database was away."
    )
    return strawberry.subscription(resolver=updates, description=description)


async def _patiently(
    follow: Any,
    after: str | None,
    operations: Operations,
) -> AsyncGenerator[FeedEvent, None]:
    """Give all events behind `after`; where the database was away, go on behind the last one."""
    again = str(operations.new_id()) if after is None else after
    while True:
        found = follow(after=after)
        try:
            async for told in found:
                again = told.cursor
                yield told
        except StorageError as error:
            if not error.is_retryable:
                raise
        finally:
            await found.aclose()
        after = again
        await operations.clock.sleep(AGAIN_S)


async def _with_rows(
    context: GraphQLContext, events: AsyncGenerator[FeedEvent, None], target: Resource[Any]
) -> AsyncGenerator[tuple[FeedEvent, Any], None]:
    """Give events with their rows, but for those whose rows retention has deleted meanwhile."""
    async with aclosing(events):
        async for told in events:
            row = await _row(context, told, target)
            if row is not None:
                yield told, row


async def _row(context: GraphQLContext, told: FeedEvent, target: Resource[Any]) -> Any:
    """Return the row that an event is about, None where there is none any more; wait while the database is away."""
    while True:
        context.renew()
        try:
            return await context.load(target, told.event.subject_id)
        except NotFoundError:
            return None
        except StorageError as error:
            if not error.is_retryable:
                raise
            await context.operations.clock.sleep(AGAIN_S)


def _update_type(topic: str, resource: str, made: SchemaTypes) -> Any:
    hints = {
        "cursor": strawberry.ID,
        "at": datetime,
        "payload": JSON,
        resource: made.objects[resource],
    }
    body = type(f"{pascal(topic)}Update", (), {"__annotations__": hints})
    return strawberry.type(
        body,
        description=f"Something that happened: `payload` says what, `{resource}` is the row as it is "
        "now.",
    )
