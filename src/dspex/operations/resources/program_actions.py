"""What can be done to programs, their versions and their signatures, beside making and executing them."""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dspex.errors import ConflictError, DspexError, InternalError, InvalidError, NotFoundError, SignatureError
from dspex.language.signatures import Signature
from dspex.operations.resources.actions import Action
from dspex.operations.resources.execution import EXECUTION
from dspex.operations.resources.inputs import invalid
from dspex.operations.resources.operations import Operations
from dspex.operations.resources.ports import Measure, Update
from dspex.operations.resources.program import PROGRAM, PROGRAM_VERSION, ProgramRecord, ProgramVersionRecord
from dspex.operations.resources.programs import kept_of
from dspex.operations.resources.resource import Probability
from dspex.operations.resources.signature import SIGNATURE, SignatureRecord

_TRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRef:
    """Names a program by id or by name."""

    program_id: UUID | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureProgram:
    """Set what is stored of a program's executions; what is not given stays as it is.

    `store_inputs` false leaves inputs out of them. They are deleted when they are older than `keep_days`, or not among
    the newest `keep_count`; 0 keeps them.
    """

    program_id: UUID | None = None
    name: str | None = None
    store_inputs: bool | None = None
    keep_days: int | None = None
    keep_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateVersion:
    """Make a version of a program the one that runs."""

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
    """Store a signature in its string form ("question -> answer: str"), as a new version where its name is known."""

    signature: str
    name: str | None = None
    instructions: str | None = None
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRef:
    """Names one version of a signature."""

    signature_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramMetrics:
    """Figures over all stored executions of a program. Times are those of completed ones.

    `success_rate` is of those that were completed or failed. `cost_usd` is the sum of the known prices, None where none
    is known.
    """

    program: ProgramRecord
    total: int
    completed: int
    failed: int
    cancelled: int
    interrupted: int
    success_rate: Probability | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    last_executed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """Where two versions differ: each change is a path, and the values before and after (null: not there)."""

    first: ProgramVersionRecord
    second: ProgramVersionRecord
    changes: list[Any]


async def archive_program(operations: Operations, given: ProgramRef) -> ProgramRecord:
    """Take a program out of use; its versions and executions stay.

    Raises:
        ConflictError: it is not ready.
    """
    return await _step(operations, await operations.program(given.program_id, given.name), "archive")


async def initialize_program(operations: Operations, given: ProgramRef) -> ProgramRecord:
    """Make a draft or broken program ready by building it; one that cannot be built is in error, and says why.

    Raises:
        ConflictError: it is in another state.
    """
    found = await operations.program(given.program_id, given.name)
    begun = await _step(operations, found, "initialize", error=None)
    try:
        choice = operations.floor.backends.choose(await operations.program_value(begun), stored=begun.backend)
        await choice.backend.create_program(choice.program)
    except DspexError as error:
        return await _step(operations, begun, "fail", error=error.to_dict())
    return await _step(operations, begun, "become_ready")


async def configure_program(operations: Operations, given: ConfigureProgram) -> ProgramRecord:
    """Set what is stored of executions; see `ConfigureProgram`. Of two that do so at once, nothing is lost."""
    names = ("store_inputs", "keep_days", "keep_count")
    values = kept_of({name: value for name in names if (value := getattr(given, name)) is not None}, within="")
    if not values:
        raise InvalidError(f"give at least one of {', '.join(names)}")
    for is_last in (*[False] * _TRIES, True):
        found = await operations.program(given.program_id, given.name)
        as_it_was = {"updated_at": found.updated_at}  # executions do not change it, everything else does
        try:
            return await _changed(
                operations, found, expected=as_it_was, configuration={**found.configuration, **values}
            )
        except ConflictError:
            if is_last:
                raise
    raise InternalError("the last try returns or raises")


async def program_metrics(operations: Operations, given: ProgramRef) -> ProgramMetrics:
    """Compute the figures of a program in the database."""
    found = await operations.program(given.program_id, given.name)
    figures = operations.floor.figures
    if figures is None:
        raise InternalError("these operations stand on no figures")
    done = {"status": "completed"}
    measures = {
        "total": Measure(kind="count"),
        **{name: Measure(kind="count", where={"status": name}) for name in _ENDS},
        "mean_ms": Measure(kind="mean", of="duration_ms", where=done),
        "p50_ms": Measure(kind="p50", of="duration_ms", where=done),
        "p95_ms": Measure(kind="p95", of="duration_ms", where=done),
        "input_tokens": Measure(kind="sum", of="usage.input_tokens"),
        "output_tokens": Measure(kind="sum", of="usage.output_tokens"),
        "cost_usd": Measure(kind="sum", of="cost_usd"),
    }
    made = await figures.aggregate(EXECUTION, {"program_id": found.id}, measures)
    judged = made["completed"] + made["failed"]
    tokens = {name: int(made.pop(name) or 0) for name in ("input_tokens", "output_tokens")}
    return ProgramMetrics(
        program=found,
        success_rate=Probability(made["completed"] / judged) if judged else None,
        last_executed_at=found.last_executed_at,
        **tokens,
        **made,
    )


_ENDS = ("completed", "failed", "cancelled", "interrupted")


async def activate_version(operations: Operations, given: ActivateVersion) -> ProgramRecord:
    """Make a version the current one.

    Raises:
        NotFoundError: there is no version of this number.
    """
    found = await operations.program(given.program_id, given.name)
    version = await _version(operations, found, given.number)
    return await _changed(operations, found, current_version_id=version.id)


async def diff_versions(operations: Operations, given: DiffVersions) -> VersionDiff:
    """Compare two versions; see `VersionDiff`.

    Raises:
        NotFoundError: there is no version of one of these numbers.
    """
    found = await operations.program(given.program_id, given.name)
    first, second = [await _version(operations, found, number) for number in (given.first, given.second)]
    before, after = [{"definition": row.definition, "assignment": row.assignment} for row in (first, second)]
    return VersionDiff(first=first, second=second, changes=list(_changes("", before, after)))


async def create_signature(operations: Operations, given: CreateSignature) -> SignatureRecord:
    """Store a signature; see `CreateSignature`.

    Raises:
        InvalidError: it is none; the message says where and why.
    """
    try:
        made = await operations.floor.executor.heavy.run(
            lambda _: Signature(given.signature, given.instructions or "", name=given.name or "")
        )
    except SignatureError as error:
        raise invalid("signature", given.signature, f"a signature ({error.message})") from error
    return await operations.save_signature(made, source="string", status="draft" if given.draft else "active")


async def activate_signature(operations: Operations, given: SignatureRef) -> SignatureRecord:
    """Put a draft in use.

    Raises:
        ConflictError: it is no draft.
    """
    return await _signature_step(operations, given, "activate")


async def deprecate_signature(operations: Operations, given: SignatureRef) -> SignatureRecord:
    """Take a signature out of use for new programs; those that have it keep it.

    Raises:
        ConflictError: it is not active.
    """
    return await _signature_step(operations, given, "deprecate")


async def _signature_step(operations: Operations, given: SignatureRef, step: str) -> SignatureRecord:
    found = await operations.store.get(SIGNATURE, workspace=operations.workspace, id=given.signature_id)
    if found is None:
        raise NotFoundError(f"there is no signature {str(given.signature_id)!r}")
    values: dict[str, Any] = {
        "status": SIGNATURE.step(step, found.status),
        "updated_at": operations.floor.clock.now(),
    }
    sources = SIGNATURE.transitions[step].sources
    await operations.store.write(Update(resource=SIGNATURE, id=found.id, values=values, statuses=sources))
    return dataclasses.replace(found, **values)


async def _step(operations: Operations, found: ProgramRecord, step: str, **values: Any) -> ProgramRecord:  # noqa: ANN401
    status = PROGRAM.step(step, found.status)
    return await _changed(operations, found, sources=PROGRAM.transitions[step].sources, status=status, **values)


async def _changed(
    operations: Operations,
    found: ProgramRecord,
    *,
    sources: tuple[str, ...] = (),
    expected: Mapping[str, Any] = types.MappingProxyType({}),
    **values: Any,  # noqa: ANN401
) -> ProgramRecord:
    values["updated_at"] = operations.floor.clock.now()
    change = Update(resource=PROGRAM, id=found.id, values=values, statuses=sources, expected=expected)
    await operations.store.write(change)
    return dataclasses.replace(found, **values)


async def _version(operations: Operations, program: ProgramRecord, number: int) -> ProgramVersionRecord:
    found = await operations.store.get(PROGRAM_VERSION, program_id=program.id, number=number)
    if found is None:
        raise NotFoundError(f"program {program.name!r} has no version {number}")
    return found


def _changes(path: str, before: Any, after: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  # JSON values
    """Yield the differences of two JSON values, as deep as objects go, and through lists of one length."""
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


PROGRAM_ACTIONS: tuple[Action, ...] = (
    Action(
        name="archive_program",
        resource=PROGRAM,
        input=ProgramRef,
        run=archive_program,
        scope="write",
        description="Take a program out of use; what it did stays.",
    ),
    Action(
        name="initialize_program",
        resource=PROGRAM,
        input=ProgramRef,
        run=initialize_program,
        scope="write",
        description="Make a draft or broken program ready by building it.",
    ),
    Action(
        name="configure_program",
        resource=PROGRAM,
        input=ConfigureProgram,
        run=configure_program,
        scope="write",
        description="Set what is stored of a program's executions, and for how long.",
    ),
    Action(
        name="program_metrics",
        resource=PROGRAM,
        input=ProgramRef,
        run=program_metrics,
        scope="read",
        description="Figures over all executions of a program.",
        result=ProgramMetrics,
    ),
    Action(
        name="activate_version",
        resource=PROGRAM,
        input=ActivateVersion,
        run=activate_version,
        scope="write",
        description="Make a version of a program the one that runs.",
    ),
    Action(
        name="diff_versions",
        resource=PROGRAM_VERSION,
        input=DiffVersions,
        run=diff_versions,
        scope="read",
        description="Compare two versions of a program.",
        result=VersionDiff,
    ),
    Action(
        name="create_signature",
        resource=SIGNATURE,
        input=CreateSignature,
        run=create_signature,
        scope="write",
        description="Store a signature in its string form.",
    ),
    Action(
        name="activate_signature",
        resource=SIGNATURE,
        input=SignatureRef,
        run=activate_signature,
        scope="write",
        description="Put a draft in use.",
    ),
    Action(
        name="deprecate_signature",
        resource=SIGNATURE,
        input=SignatureRef,
        run=deprecate_signature,
        scope="write",
        description="Take a signature out of use for new programs.",
    ),
)
