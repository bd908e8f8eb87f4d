"""The actions on programs, versions and signatures."""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.errors import (
    ConflictError,
    DspexError,
    InternalError,
    InvalidError,
    NotFoundError,
    SignatureError,
)
from dspex.execution.backends import Backends
from dspex.failures import failure_dict
from dspex.language.signatures import Signature
from dspex.operations.events.records import EVENT
from dspex.operations.framework.action import action
from dspex.operations.framework.audit import AuditEntry
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Figures, Removals, Update
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.names import check_name
from dspex.operations.programs.program_cache import ProgramCache
from dspex.operations.programs.program_writer import ProgramWriter, storage_settings_of
from dspex.operations.programs.records import (
    PROGRAM,
    PROGRAM_VERSION,
    SIGNATURE,
    ProgramRecord,
    ProgramVersionRecord,
    SignatureRecord,
)
from dspex.operations.programs.stored_programs import (
    find_program,
    numbered_version,
    program_value,
    save_signature,
)
from dspex.operations.tenancy.quotas import usage_change

_TRIES = 4
_BUSY = ("pending", "queued", "running", "waiting", "paused")  # states of executions and jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRef:
    """A reference to a program by id or by name."""

    program_id: UUID | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameProgram:
    """Give a program another name."""

    program_id: UUID | None = None
    name: str | None = None
    new_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedProgram:
    """The name of a deleted program, and how much was deleted with it."""

    name: str
    versions: int
    executions: int
    evaluations: int
    optimizations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureProgram:
    """Set how a program's executions are stored; omitted settings stay as they are.

    With `store_inputs` false, inputs are not stored. Executions are deleted when they are older
    than `keep_days`, or not among the newest `keep_count`; 0 keeps them.
    """

    program_id: UUID | None = None
    name: str | None = None
    store_inputs: bool | None = None
    keep_days: int | None = None
    keep_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateVersion:
    """Make a version of a program the current one."""

    program_id: UUID | None = None
    name: str | None = None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffVersions:
    """Compare two versions of a program by their numbers."""

    program_id: UUID | None = None
    name: str | None = None
    first: int
    second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSignature:
    """Store a signature in its string form, "question -> answer: str".

    `name` is by default "Signature"; if it exists, this becomes its next version. `instructions`
    say what to do with the fields. A `draft` is not current before `activate_signature`.
    """

    signature: str
    name: str | None = None
    instructions: str | None = None
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRef:
    """A reference to one version of a signature."""

    signature_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """The differences of two versions: each has a path and the values before and after (null: absent)."""  # noqa: E501  # the text of the schema

    first: ProgramVersionRecord
    second: ProgramVersionRecord
    changes: list[Any]


@action(PROGRAM, scope="write")
async def create_program(operations: Operations, request: CreateProgram) -> ProgramRecord:
    """Create a program of one module; it is ready at once unless it is a draft.

    Raises:
        InvalidError: name, signature, module, backend or configuration is invalid; all problems
            are listed.
        ConflictError: a program of this name exists.
    """
    return await ProgramWriter(operations).create(request)


@action(PROGRAM, scope="write")
async def archive_program(operations: Operations, request: ProgramRef) -> ProgramRecord:
    """Archive a program; its versions and executions stay.

    Raises:
        ConflictError: the program is not ready.
    """
    program = await find_program(operations, request.program_id, request.name)
    return await _step(operations, program, "archive")


@action(PROGRAM, scope="write")
async def reopen_program(operations: Operations, request: ProgramRef) -> ProgramRecord:
    """Make an archived program ready again.

    Raises:
        ConflictError: the program is not archived.
    """
    program = await find_program(operations, request.program_id, request.name)
    return await _step(operations, program, "reopen")


@action(PROGRAM, scope="write")
async def rename_program(operations: Operations, request: RenameProgram) -> ProgramRecord:
    """Give a program another name; its versions and executions stay.

    Raises:
        InvalidError: the new name is not allowed.
        ConflictError: another program has this name.
    """
    check_name(request.new_name)
    program = await find_program(operations, request.program_id, request.name)
    other = await operations.store.get(
        PROGRAM, workspace=operations.workspace, name=request.new_name
    )
    if other is not None and other.id != program.id:
        raise ConflictError(
            f"a program named {request.new_name!r} exists already; choose another name"
        )
    return await _update_program(operations, program, name=request.new_name)


@action(PROGRAM, scope="write")
async def delete_program(operations: Operations, request: ProgramRef) -> DeletedProgram:
    """Delete a program with its versions, executions and jobs; this cannot be undone.

    Raises:
        ConflictError: an execution or a job of it is active, or a row of your own resource refers
            to it.
    """
    program = await find_program(operations, request.program_id, request.name)
    entry = AuditEntry(
        **operations.new_row(),
        actor=operations.actor.name,
        action=operations.action,
        resource=PROGRAM.name,
        resource_id=program.id,
        before={"name": program.name, "status": program.status},
    )
    removed = await operations.services[Removals].remove(
        PROGRAM, program.id, busy=_BUSY, entry=entry
    )
    operations.services[ProgramCache].forget(program.id)
    await operations.services[Figures].prune(EVENT, {"program_id": program.id}, before=None, keep=0)
    size = -sum(part.size for part in removed.values())
    with suppress(NotFoundError):  # the workspace does not have counters yet
        await operations.store.write(
            usage_change(program.workspace, executions=-removed["execution"].rows, size=size)
        )
    counts = {name: part.rows for name, part in removed.items()}
    return DeletedProgram(
        name=program.name,
        versions=counts["program_version"],
        executions=counts["execution"],
        evaluations=counts["evaluation"],
        optimizations=counts["optimization_job"],
    )


@action(PROGRAM, scope="write")
async def initialize_program(operations: Operations, request: ProgramRef) -> ProgramRecord:
    """Build a draft or broken program so that it becomes ready.

    Raises:
        ConflictError: the program is in another state.
    """
    draft = await find_program(operations, request.program_id, request.name)
    program = await _step(operations, draft, "initialize", error=None)
    try:
        with input_errors_as_invalid():
            choice = operations.services[Backends].choose(
                await program_value(operations, program), stored=program.backend
            )
            await choice.backend.create_program(choice.program)
    except DspexError as error:
        return await _step(operations, program, "fail", error=failure_dict(error))
    return await _step(operations, program, "become_ready")


@action(PROGRAM, scope="write")
async def configure_program(operations: Operations, request: ConfigureProgram) -> ProgramRecord:
    """Set how a program's executions are stored, and for how long."""
    names = ("store_inputs", "keep_days", "keep_count")
    values = storage_settings_of(
        {name: value for name in names if (value := getattr(request, name)) is not None}, prefix=""
    )
    if not values:
        raise InvalidError(f"give at least one of {', '.join(names)}")
    for is_last in (*[False] * _TRIES, True):
        program = await find_program(operations, request.program_id, request.name)
        # unlike other changes, executions do not touch it
        expected = {"updated_at": program.updated_at}
        try:
            return await _update_program(
                operations,
                program,
                expected=expected,
                configuration={**program.configuration, **values},
            )
        except ConflictError:
            if is_last:
                raise
    raise InternalError("the last try returns or raises")


@action(PROGRAM, scope="write")
async def activate_version(operations: Operations, request: ActivateVersion) -> ProgramRecord:
    """Make a version of a program the current one.

    Raises:
        NotFoundError: the version does not exist.
    """
    program = await find_program(operations, request.program_id, request.name)
    version = await numbered_version(operations, program, request.number)
    return await _update_program(operations, program, current_version_id=version.id)


@action(PROGRAM_VERSION, scope="read")
async def diff_versions(operations: Operations, request: DiffVersions) -> VersionDiff:
    """Compare two versions of a program.

    Raises:
        NotFoundError: one of the versions does not exist.
    """
    program = await find_program(operations, request.program_id, request.name)
    first, second = [
        await numbered_version(operations, program, number)
        for number in (request.first, request.second)
    ]
    before, after = [
        {"definition": row.definition, "assignment": row.assignment} for row in (first, second)
    ]
    return VersionDiff(first=first, second=second, changes=list(_changes("", before, after)))


@action(SIGNATURE, scope="write")
async def create_signature(operations: Operations, request: CreateSignature) -> SignatureRecord:
    """Store a signature in its string form.

    Raises:
        InvalidError: the text is not a signature; the message says where and why.
    """
    try:
        signature = await operations.services[HeavyWork].run(
            lambda _: Signature(
                request.signature, request.instructions or "", name=request.name or ""
            )
        )
    except SignatureError as error:
        raise invalid("signature", request.signature, f"a signature ({error.message})") from error
    return await save_signature(
        operations, signature, source="string", status="draft" if request.draft else "active"
    )


@action(SIGNATURE, scope="write")
async def activate_signature(operations: Operations, request: SignatureRef) -> SignatureRecord:
    """Activate a draft of a signature.

    Raises:
        ConflictError: the signature is not a draft.
    """
    return await _signature_step(operations, request, "activate")


@action(SIGNATURE, scope="write")
async def deprecate_signature(operations: Operations, request: SignatureRef) -> SignatureRecord:
    """Deprecate a signature for new programs.

    Raises:
        ConflictError: the signature is not active.
    """
    return await _signature_step(operations, request, "deprecate")


async def _signature_step(
    operations: Operations, request: SignatureRef, step: str
) -> SignatureRecord:
    record = await operations.store.get(
        SIGNATURE, workspace=operations.workspace, id=request.signature_id
    )
    if record is None:
        raise NotFoundError(f"there is no signature {str(request.signature_id)!r}")
    values: dict[str, Any] = {
        "status": SIGNATURE.step(step, record.status),
        "updated_at": operations.clock.now(),
    }
    sources = SIGNATURE.transitions[step].sources
    await operations.store.write(
        Update(resource=SIGNATURE, id=record.id, values=values, statuses=sources)
    )
    return dataclasses.replace(record, **values)


async def _step(
    operations: Operations,
    program: ProgramRecord,
    step: str,
    **values: Any,
) -> ProgramRecord:
    status = PROGRAM.step(step, program.status)
    return await _update_program(
        operations, program, sources=PROGRAM.transitions[step].sources, status=status, **values
    )


async def _update_program(
    operations: Operations,
    program: ProgramRecord,
    *,
    sources: tuple[str, ...] = (),
    expected: Mapping[str, Any] = types.MappingProxyType({}),
    **values: Any,
) -> ProgramRecord:
    values["updated_at"] = operations.clock.now()
    change = Update(
        resource=PROGRAM, id=program.id, values=values, statuses=sources, expected=expected
    )
    await operations.store.write(change)
    return dataclasses.replace(program, **values)


def _changes(path: str, before: Any, after: Any) -> Iterator[dict[str, Any]]:
    """Yield the differences of two JSON values.

    It looks into nested objects and lists of equal length.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            below = f"{path}.{name}" if path else name
            if before.get(name) != after.get(name) or (name in before) != (name in after):
                yield from _changes(below, before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new:
                yield from _changes(f"{path}[{number}]", old, new)
    else:
        yield {"path": path, "before": before, "after": after}
