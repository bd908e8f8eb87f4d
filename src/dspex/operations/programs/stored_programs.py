"""Reads and stores programs and signatures, for actions and for code that runs without them."""

from dataclasses import replace
from uuid import UUID

from dspex.errors import (
    ConfigurationError,
    DefinitionError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from dspex.execution.modules.code import CodeRoot
from dspex.language.programs import Program
from dspex.language.signatures import Signature, SignatureLike
from dspex.operations.framework.missing_rows import missing_row
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.program_cache import ProgramCache
from dspex.operations.programs.program_writer import ProgramWriter
from dspex.operations.programs.records import (
    PROGRAM,
    PROGRAM_VERSION,
    ProgramRecord,
    ProgramVersionRecord,
    SignatureRecord,
    SignatureStatus,
)


async def find_program(
    operations: Operations, program_id: UUID | None = None, name: str | None = None
) -> ProgramRecord:
    """Return a program by id or by name.

    Raises:
        InvalidError: neither or both are given.
        NotFoundError: the program does not exist.
    """
    key = program_key(program_id, name)
    column = "id" if isinstance(key, UUID) else "name"
    record = await operations.store.get(PROGRAM, workspace=operations.workspace, **{column: key})
    if record is None:
        raise await missing_row(operations, PROGRAM, key)
    return record


def program_key(program_id: UUID | None, name: str | None) -> UUID | str:
    """Return the id or the name of a program.

    Raises:
        InvalidError: neither or both are given.
    """
    if program_id is not None and name is None:
        return program_id
    if name is not None and program_id is None:
        return name
    raise InvalidError("give either the program's id or its name")


async def current_version(operations: Operations, program: ProgramRecord) -> ProgramVersionRecord:
    """Return the current version of `program`.

    Raises:
        NotFoundError: the program does not have a version yet.
    """
    return await operations.services[ProgramCache].version(program)


async def numbered_version(
    operations: Operations, program: ProgramRecord, number: int
) -> ProgramVersionRecord:
    """Return the version of `program` with this number.

    Raises:
        NotFoundError: it does not exist.
    """
    version = await operations.store.get(PROGRAM_VERSION, program_id=program.id, number=number)
    if version is None:
        raise NotFoundError(
            f"program {program.name!r} has no version {number}; `dspex program versions "
            f"{program.name}` lists them"
        )
    return version


async def program_value(operations: Operations, program: ProgramRecord) -> Program:
    """Return the current version of `program` as a runnable value, under its current name."""
    value = await operations.services[ProgramCache].value(program)
    return value if value.name == program.name else replace(value, name=program.name)


async def save_program(
    operations: Operations, program: Program, *, backend: str = "native", made_by: str = "user"
) -> ProgramRecord:
    """Store `program` under its name and make it the current version.

    It is a new program or version unless it is stored already. A new version says who made it:
    `made_by`.
    """
    return await ProgramWriter(operations).save(program, backend=backend, made_by=made_by)


async def record_program(operations: Operations, program: Program) -> ProgramRecord:
    """Return the record of `program` at its version, stored first if it is new; for its executions.

    A new version becomes the current one. An older one does not: running the code of a program does
    not undo what a search has stored since.
    """
    return await ProgramWriter(operations).save(program, backend="native", activate=False)


async def save_signature(
    operations: Operations,
    signature: SignatureLike,
    *,
    source: str = "class",
    status: SignatureStatus = "active",
) -> SignatureRecord:
    """Store a signature under its name, as a new version unless it is stored already."""
    return await ProgramWriter(operations).save_signature(signature, source=source, status=status)


async def save_signature_class(
    operations: Operations, target: str, *, is_draft: bool = False
) -> SignatureRecord:
    """Import and store the signature "pkg.mod:Name" of the code root; see `save_signature`.

    It imports code, so it is for the command line only and is not an action of the domain.

    Raises:
        ForbiddenError: the caller uses the API.
        ConfigurationError: this process does not have a code root.
        DefinitionError: the target cannot be imported or is not a signature.
    """
    if operations.actor.key_id is not None:
        raise ForbiddenError("signatures are imported from code at the command line only")
    code = operations.services.get(CodeRoot)
    if code is None:
        raise ConfigurationError(
            "importing a signature class needs a code root; start this process with one"
        )
    value = code.load(target)
    if not isinstance(value, Signature) and not (
        isinstance(value, type) and issubclass(value, Signature)
    ):
        raise DefinitionError(
            f"{target!r} is {type(value).__name__}, not a Signature class; name such a class"
        )
    return await save_signature(
        operations, value, source="class", status="draft" if is_draft else "active"
    )
