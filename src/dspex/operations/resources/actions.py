"""What can be done to resources: one table of actions, from which every surface is derived."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.errors import InvalidError, NotFoundError
from dspex.language.programs import Program
from dspex.language.signatures import SignatureLike
from dspex.operations.resources.domain import EXECUTION, PROGRAM, SIGNATURE
from dspex.operations.resources.entities import ExecutionRecord, ProgramRecord, ProgramVersionRecord, SignatureRecord
from dspex.operations.resources.executing import Executor
from dspex.operations.resources.inputs import CreateProgram, ExecuteProgram
from dspex.operations.resources.ports import Query, Store
from dspex.operations.resources.programs import Programs
from dspex.operations.resources.resource import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One row of the table: `run` is a method of `Operations`, takes an `input` and gives back a row of `resource`."""

    name: str
    resource: Resource[Any]
    input: type
    description: str
    run: Callable[..., Awaitable[Any]]


class Operations:
    """All actions and reads of one workspace, for every surface."""

    def __init__(self, store: Store, programs: Programs, executor: Executor, *, workspace: str = "default") -> None:
        """Take the store and the services that carry actions out."""
        self.store = store
        self.workspace = workspace
        self._programs = programs
        self._executor = executor

    async def create_program(self, given: CreateProgram) -> ProgramRecord:
        """Create a program; see `CreateProgram`.

        Raises:
            InvalidError: the signature, module, backend or configuration is wrong; the field is named.
            ConflictError: a program of this name exists.
        """
        return await self._programs.create(given, workspace=self.workspace)

    async def save_program(self, program: Program, *, backend: str = "native") -> ProgramRecord:
        """Store `program` under its name: a new program, a new version, or nothing new where its contents are known."""
        return await self._programs.save(program, workspace=self.workspace, backend=backend)

    async def save_signature(self, signature: SignatureLike, *, source: str = "class") -> SignatureRecord:
        """Store a signature under its name: new, a new version, or the one that is known already."""
        return await self._programs.save_signature(signature, workspace=self.workspace, source=source)

    async def execute_program(self, given: ExecuteProgram) -> ExecutionRecord:
        """Run a program once; see `ExecuteProgram`. A failed run is returned as a failed execution.

        Raises:
            NotFoundError: there is no such program.
            ConflictError: the program is not ready.
            InvalidError: the inputs do not fit; the failed execution is stored, and its id in the error's context.
        """
        program = await self.program(given.program_id, given.name)
        return await self.execute_record(program, given.inputs, backend=given.backend)

    async def execute_record(
        self, program: ProgramRecord, inputs: dict[str, Any], *, backend: str | None = None
    ) -> ExecutionRecord:
        """Run the version that `program` names as its current one; see `execute_program`."""
        return await self._executor.execute(program, inputs, backend=backend)

    async def program(self, program_id: UUID | None = None, name: str | None = None) -> ProgramRecord:
        """Return a program by id or by name.

        Raises:
            InvalidError: neither or both are given.
            NotFoundError: there is none.
        """
        if (program_id is None) == (name is None):
            raise InvalidError("give either the program's id or its name")
        key: dict[str, Any] = {"id": program_id} if program_id is not None else {"name": name}
        found = await self.store.get(PROGRAM, workspace=self.workspace, **key)
        if found is None:
            raise NotFoundError(f"there is no program {program_id or name!r}; `dspex programs` lists them")
        return found

    async def current_version(self, program: ProgramRecord) -> ProgramVersionRecord:
        """Return the current version of `program`."""
        return await self._executor.version_of(program)

    async def program_value(self, program: ProgramRecord) -> Program:
        """Return `program` as the value that runs."""
        return await self._executor.value_of(program)

    async def signature(self, name: str) -> SignatureRecord:
        """Return the newest version of a signature.

        Raises:
            NotFoundError: there is none.
        """
        found = await self.store.select(SIGNATURE, Query(where={"workspace": self.workspace, "name": name}, limit=1))
        if not found:
            raise NotFoundError(f"there is no signature {name!r}")
        return found[0]

    async def execution(self, execution_id: UUID) -> ExecutionRecord:
        """Return one execution.

        Raises:
            NotFoundError: there is none.
        """
        found = await self.store.get(EXECUTION, workspace=self.workspace, id=execution_id)
        if found is None:
            raise NotFoundError(f"there is no execution {str(execution_id)!r}")
        return found

    async def count(self, resource: Resource[Any], where: dict[str, Any]) -> int:
        """Return how many rows of `resource` in this workspace equal `where`."""
        return await self.store.count(resource, {**where, "workspace": self.workspace})

    async def list(self, resource: Resource[Any], query: Query) -> Any:  # noqa: ANN401  # rows of the resource's entity
        """Return rows of `resource` in this workspace."""
        where = {**query.where, "workspace": self.workspace}
        wanted = Query(where=where, after=query.after, limit=query.limit, oldest_first=query.oldest_first)
        return await self.store.select(resource, wanted)


ACTIONS: tuple[Action, ...] = (
    Action(
        name="create_program",
        resource=PROGRAM,
        input=CreateProgram,
        run=Operations.create_program,
        description="Create a program of one module; it ends ready.",
    ),
    Action(
        name="execute_program",
        resource=EXECUTION,
        input=ExecuteProgram,
        run=Operations.execute_program,
        description="Run a program once; the execution is stored, also when it fails.",
    ),
)
