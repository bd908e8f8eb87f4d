"""All actions and reads of one actor."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import (
    ConfigurationError,
    ConflictError,
    DefinitionError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from dspex.execution.backends import Backends
from dspex.execution.modules.code import CodeRoot
from dspex.language.programs import Program
from dspex.language.signatures import Signature, SignatureLike
from dspex.operations.events.event_log import Feed
from dspex.operations.executions.execution_recorder import ExecuteOptions
from dspex.operations.executions.executor import Executor, ProgramCall
from dspex.operations.executions.inputs import (
    ExecuteProgram,
    ExecutionOf,
    RetryExecution,
    check_call,
    inputs_of,
)
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.operations.framework.access import LOCAL, Actor
from dspex.operations.framework.action import Action
from dspex.operations.framework.audited_store import Act, AuditedStore
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.framework.policies import AccessPolicy
from dspex.operations.framework.query_arguments import sort_of
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Figures, Page, Query, Store, both
from dspex.operations.jobs.job_engine import JobEngine
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.program_writer import Programs
from dspex.operations.programs.records import (
    PROGRAM,
    SIGNATURE,
    ProgramRecord,
    ProgramVersionRecord,
    SignatureRecord,
    SignatureStatus,
)
from dspex.operations.tenancy.reach import check_reach
from dspex.operations.tenancy.vault import Vault

E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The dependencies of all operations.

    `jobs` is None if this process cannot start jobs, `code` if it was started without a code root.
    `metrics` maps the metric names that API callers may use to functions in the code root
    ("module:function"). `model_hosts` are the hosts whose models all API callers may name by URL.
    """

    store: Store
    executor: Executor
    backends: Backends
    clock: Clock
    new_id: Callable[[], UUID]
    jobs: JobEngine | None = None
    feed: Feed | None = None
    figures: Figures | None = None
    code: CodeRoot | None = None
    vault: Vault | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)
    model_hosts: frozenset[str] = frozenset()


class Operations:
    """All actions and reads of one actor in one workspace, for every surface."""

    def __init__(
        self,
        floor: Floor,
        *,
        actor: Actor = LOCAL,
        action: str = "write",
        policies: tuple[AccessPolicy, ...] = (),
    ) -> None:
        """Take the dependencies and the actor.

        `action` is the name in the audit trail; `policies` limit the rows that may be changed.
        """
        self.floor = floor
        self.actor = actor
        self.workspace = actor.workspace
        self.store: Store = AuditedStore(
            floor.store,
            act=Act(actor=actor, name=action, policies=policies),
            clock=floor.clock,
            new_id=floor.new_id,
            on_write=floor.executor.on_write,
            quotas=floor.executor.quotas,
        )
        self._action = action
        self._executor = floor.executor
        self._programs = Programs(
            self.store,
            clock=floor.clock,
            new_id=floor.new_id,
            backends=floor.backends,
            heavy=floor.executor.heavy,
        )

    def as_actor(self, actor: Actor) -> "Operations":
        """Return the operations of another actor."""
        return Operations(self.floor, actor=actor)

    @property
    def vault(self) -> Vault:
        """The vault, which hashes keys and encrypts secrets.

        Raises:
            ConfigurationError: no vault is configured.
        """
        if self.floor.vault is None:
            raise ConfigurationError("no vault is configured; keys and secrets need one")
        return self.floor.vault

    async def perform(self, action: Action, request: Any) -> Any:
        """Run an action if the actor may; its writes are audited under its name.

        Raises:
            ForbiddenError: the actor lacks the scope of the action, a policy rejects the actor or a
            row, or
                the actor may not choose an address in the request (see `check_reach`).
            ActionError: the action itself fails.
        """
        self.actor.require(action.scope, action.name)
        for policy in action.policies:
            policy.require(self.actor, action.name)
        check_reach(self.actor, request, self.floor.model_hosts)
        operations = Operations(
            self.floor, actor=self.actor, action=action.name, policies=action.policies
        )
        with input_errors_as_invalid():
            return await action.run(operations, request)

    async def create_program(self, request: CreateProgram) -> ProgramRecord:
        """Create a program; see `CreateProgram`.

        Raises:
            InvalidError: name, signature, module, backend or configuration is invalid; all problems
            are
                listed.
            ConflictError: a program of this name exists.
        """
        return await self._programs.create(request, workspace=self.workspace)

    async def save_program(self, program: Program, *, backend: str = "native") -> ProgramRecord:
        """Store `program` under its name as a new program or version, unless its content is stored already."""
        return await self._programs.save(program, workspace=self.workspace, backend=backend)

    async def save_signature(
        self, signature: SignatureLike, *, source: str = "class", status: SignatureStatus = "active"
    ) -> SignatureRecord:
        """Store a signature under its name, as a new version unless its content is stored already."""
        return await self._programs.save_signature(
            signature, workspace=self.workspace, source=source, status=status
        )

    async def save_signature_class(self, target: str, *, is_draft: bool = False) -> SignatureRecord:
        """Import and store the signature "pkg.mod:Name" of the code root, as a new version if its name exists.

        It imports code, so it is for the command line only and is not an action of the domain.

        Raises:
            ForbiddenError: the caller uses the API.
            ConfigurationError: this process does not have a code root.
            DefinitionError: the target cannot be imported or is not a signature.
        """
        if self.actor.key_id is not None:
            raise ForbiddenError("signatures are imported from code at the command line only")
        if self.floor.code is None:
            raise ConfigurationError(
                "importing a signature class needs a code root; start this process with one"
            )
        value = self.floor.code.load(target)
        if not isinstance(value, Signature) and not (
            isinstance(value, type) and issubclass(value, Signature)
        ):
            raise DefinitionError(
                f"{target!r} is {type(value).__name__}, not a Signature class; name such a class"
            )
        return await self.save_signature(
            value, source="class", status="draft" if is_draft else "active"
        )

    async def execute_program(self, request: ExecuteProgram) -> ExecutionRecord:
        """Run a program once; see `ExecuteProgram`. A failed run is returned as a failed execution.

        Raises:
            NotFoundError: the program does not exist.
            ConflictError: the program is not ready.
            InvalidError: the inputs are invalid; the error has the id of the stored, failed
            execution.
        """
        check_call(request)
        inputs = inputs_of(request)
        key = request.program_id if request.program_id is not None else request.name
        if key is None or (request.program_id is not None and request.name is not None):
            raise InvalidError("give either the program's id or its name")
        program = await self._executor.program_of(self.workspace, key)
        if program is None:
            raise _no_program(key)
        options = ExecuteOptions(
            actor=self.actor.name,
            backend=request.backend,
            idempotency_key=request.idempotency_key,
            timeout=request.timeout,
        )
        return await self._executor.execute(program, inputs, options)

    async def execute_record(
        self,
        program: ProgramRecord,
        inputs: dict[str, Any],
        *,
        backend: str | None = None,
        call: ProgramCall | None = None,
    ) -> ExecutionRecord:
        """Run the current version of `program`, or `call` in its place; see `execute_program`."""
        options = ExecuteOptions(actor=self.actor.name, backend=backend)
        return await self._executor.execute(program, inputs, options, call=call)

    async def cancel_execution(self, request: ExecutionOf) -> ExecutionRecord:
        """Cancel a running execution, here at once or in another process within a second.

        Raises:
            NotFoundError: the execution does not exist.
            ConflictError: it has ended.
        """
        record = await self.execution(request.execution_id)
        EXECUTION.step("cancel", record.status)
        await self._executor.cancel(record, actor=self.actor.name)
        return await self.execution(request.execution_id)

    async def retry_execution(self, request: RetryExecution) -> ExecutionRecord:
        """Run the same inputs on the same version again, as a new execution that refers to the old one.

        Raises:
            NotFoundError: the execution does not exist.
            ConflictError: it has not ended or was completed, or its inputs are redacted or not
            stored.
        """
        original = await self.execution(request.execution_id)
        if original.status not in {"failed", "cancelled", "interrupted"}:
            raise ConflictError(
                f"the execution is {original.status}: only failed, cancelled and interrupted "
                "executions can be retried"
            )
        if original.payloads != "stored":
            raise ConflictError(
                f"the inputs of this execution are {original.payloads}: execute the program with "
                "the inputs instead"
            )
        check_call(request)
        program = dataclasses.replace(
            await self.program(original.program_id), current_version_id=original.program_version_id
        )
        options = ExecuteOptions(
            actor=self.actor.name,
            action=self._action,
            backend=original.backend,
            idempotency_key=request.idempotency_key,
            timeout=request.timeout,
            retry_of=original.id,
        )
        return await self._executor.execute(program, original.inputs, options)

    async def program(
        self, program_id: UUID | None = None, name: str | None = None
    ) -> ProgramRecord:
        """Return a program by id or by name.

        Raises:
            InvalidError: neither or both are given.
            NotFoundError: the program does not exist.
        """
        if (program_id is None) == (name is None):
            raise InvalidError("give either the program's id or its name")
        key: dict[str, Any] = {"id": program_id} if program_id is not None else {"name": name}
        record = await self.store.get(PROGRAM, workspace=self.workspace, **key)
        if record is None:
            raise _no_program(program_id or name or "")
        return record

    async def current_version(self, program: ProgramRecord) -> ProgramVersionRecord:
        """Return the current version of `program`."""
        return await self._executor.version_of(program)

    async def program_value(self, program: ProgramRecord) -> Program:
        """Return the current version of `program` as a runnable value."""
        return await self._executor.value_of(program)

    async def signature(self, name: str) -> SignatureRecord:
        """Return the newest version of a signature.

        Raises:
            NotFoundError: the signature does not exist.
        """
        rows = await self.store.select(
            SIGNATURE, Query(where={"workspace": self.workspace, "name": name}, limit=1)
        )
        if not rows:
            raise NotFoundError(f"there is no signature {name!r}")
        return rows[0]

    async def execution(self, execution_id: UUID) -> ExecutionRecord:
        """Return one execution.

        Raises:
            NotFoundError: the execution does not exist.
        """
        return await self.row(EXECUTION, execution_id)

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
        now = self.floor.clock.now()
        return {
            "id": self.floor.new_id(),
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


def _no_program(key: UUID | str) -> NotFoundError:
    return NotFoundError(
        f"there is no program {key if isinstance(key, UUID) else repr(key)}; `dspex programs` "
        "lists them"
    )
