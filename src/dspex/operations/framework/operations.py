"""All actions and reads of one actor."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

from dspex.errors import NotFoundError
from dspex.operations.framework.access import LOCAL, Actor
from dspex.operations.framework.action import Action
from dspex.operations.framework.audited_store import Act, AuditedStore
from dspex.operations.framework.dependencies import Dependencies
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.framework.policies import AccessPolicy
from dspex.operations.framework.query_arguments import sort_of
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Page, Query, Store, both

E = TypeVar("E")
RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


class Operations:
    """What one actor may do in one workspace; actions take it as their first argument.

    `store` checks policies and quotas and writes the audit trail. `services` are those of the
    process, by type: `operations.services[Executor]`.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        *,
        actor: Actor = LOCAL,
        action: str = "write",
        policies: tuple[AccessPolicy, ...] = (),
    ) -> None:
        """Take the dependencies and the actor.

        `action` is the name in the audit trail; `policies` limit the rows that may be changed.
        """
        self.dependencies = dependencies
        self.actor = actor
        self.action = action
        self.workspace = actor.workspace
        self.clock = dependencies.clock
        self.new_id = dependencies.new_id
        self.services = dependencies.services
        self.store: Store = AuditedStore(
            dependencies.store,
            act=Act(actor=actor, name=action, policies=policies),
            clock=dependencies.clock,
            new_id=dependencies.new_id,
            on_write=dependencies.on_write,
            quotas=dependencies.quotas,
        )

    def as_actor(self, actor: Actor) -> "Operations":
        """Return the operations of another actor."""
        return Operations(self.dependencies, actor=actor)

    async def perform(self, action: Action[RequestT, ResultT], request: RequestT) -> ResultT:
        """Run an action if the actor may; its writes are audited under its name.

        Raises:
            ForbiddenError: the actor lacks the scope of the action, or a policy or a check rejects
                the actor, a row or the request.
            ActionError: the action itself fails.
        """
        self.actor.require(action.scope, action.name)
        for policy in action.policies:
            policy.require(self.actor, action.name)
        for check in self.dependencies.checks:
            check(self.actor, request)
        operations = Operations(
            self.dependencies, actor=self.actor, action=action.name, policies=action.policies
        )
        with input_errors_as_invalid():
            return await action.run(operations, request)

    async def row(self, resource: Resource[E], key: UUID) -> E:
        """Return one row of this workspace, of any resource.

        Raises:
            NotFoundError: the row does not exist.
        """
        row = await self.store.get(resource, workspace=self.workspace, id=key)
        if row is None:
            raise NotFoundError(f"there is no {resource.name.replace('_', ' ')} {str(key)!r}")
        return row

    def new_row(self) -> dict[str, Any]:
        """Return the common columns of a new row: an id, this workspace and the time."""
        now = self.clock.now()
        return {
            "id": self.new_id(),
            "workspace": self.workspace,
            "created_at": now,
            "updated_at": now,
        }

    async def count(self, resource: Resource[Any], where: dict[str, Any]) -> int:
        """Return how many rows of `resource` in this workspace match `where`.

        Raises:
            ForbiddenError: the actor may not read the resource.
        """
        return await self.store.count(resource, self._readable(resource, where))

    async def list(self, resource: Resource[Any], query: Query) -> Any:
        """Return rows of `resource` in this workspace.

        Raises:
            ForbiddenError: the actor may not read the resource.
            InvalidError: the resource cannot be sorted by the attribute of the query.
        """
        return await self.store.select(resource, self._own(resource, query))

    async def page(self, resource: Resource[E], query: Query, *, most: int) -> Page[E]:
        """Return the first rows of `resource` with at most `most` bytes in total; see `list`."""
        return await self.store.page(resource, self._own(resource, query), most=most)

    def _own(self, resource: Resource[Any], query: Query) -> Query:
        where = self._readable(resource, query.where)
        if query.sort is not None:
            sort_of(resource, query.sort.attribute)
        return dataclasses.replace(query, where=where)

    def may_read(self, resource: Resource[Any]) -> bool:
        """Return whether this actor may read a resource."""
        return self.actor.may(resource.reading) and all(
            policy.admits(self.actor) for policy in resource.policies
        )

    def _readable(self, resource: Resource[Any], where: Mapping[str, Any]) -> dict[str, Any]:
        """Return `where` narrowed to the rows of a resource that this actor may read."""
        operation = f"reading {resource.plural}"
        self.actor.require(resource.reading, operation)
        readable_where = dict(where)
        for policy in resource.policies:
            policy.require(self.actor, operation)
            for name, value in policy.rows(self.actor).items():
                readable_where[name] = (
                    both(readable_where[name], value) if name in readable_where else value
                )
        return readable_where
