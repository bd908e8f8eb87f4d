"""Creates and stores programs and signatures."""

import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from dspex.error_text import shorten, suggest
from dspex.errors import (
    ConflictError,
    DefinitionError,
    FieldError,
    InternalError,
    InvalidError,
    SignatureError,
)
from dspex.execution.backends import Backends
from dspex.execution.modules import build
from dspex.execution.modules.kinds import MODULE_KINDS, kinds_from_text
from dspex.language.programs import Program
from dspex.language.signatures import Signature, SignatureLike
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Change, Insert, Query, Update
from dspex.operations.programs.declarations import (
    check_declarations,
    read_declarations,
    with_declarations,
    with_values_of,
)
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.named_settings import resolve_names
from dspex.operations.programs.names import check_name, check_values
from dspex.operations.programs.records import (
    PROGRAM,
    PROGRAM_VERSION,
    SIGNATURE,
    ProgramRecord,
    ProgramVersionRecord,
    SignatureRecord,
    SignatureStatus,
)
from dspex.operations.tenancy.reach import check_definition

T = TypeVar("T")
_invalid = partial(invalid, constraint="definition")
_TRIES = (False, False, False, False, True)  # True for the last try
STORAGE_SETTINGS = ("store_inputs", "keep_days", "keep_count")


async def _with_retry(work: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `work`, retrying if another client interfered.

    The other client stored the same name at the same time.
    """
    for is_last in _TRIES:
        try:
            return await work()
        except ConflictError:
            if is_last:
                raise
    raise InternalError("the last try returns or raises")


class ProgramWriter:
    """Creates and versions programs.

    Equal content is stored once: saving it again changes nothing.
    """

    def __init__(self, operations: Operations) -> None:
        """Take the operations, whose actor writes; a program may name any backend of theirs."""
        self._operations = operations
        self._store = operations.store
        self._workspace = operations.workspace
        self._heavy = operations.services[HeavyWork]
        self._backends = operations.services[Backends]

    async def create(self, request: CreateProgram) -> ProgramRecord:
        """Create a program from text and settings; see `create_program`."""
        problems = _Problems()
        with problems.collect():
            check_name(request.name)
        # a stand-in, so that the other checks can run
        signature = Signature("input -> output", name="Unknown")
        with problems.collect():
            signature = await self._signature_of(request)
        with problems.collect():
            self._backends.check(request.backend)
        with problems.collect():
            _check_module(request.module)
        settings, backend, storage_settings = dict(request.configuration), request.backend, {}
        with problems.collect():
            backend = _backend_for(settings.pop("isolation", "inline"), request.backend)
        with problems.collect():
            storage_settings = storage_settings_of(settings)
        with problems.collect():
            check_values(request.module, settings)
        for name in (*STORAGE_SETTINGS, *problems.names_under("configuration.")):
            settings.pop(name, None)  # do not report the same problems again when building
        kind = MODULE_KINDS.get(request.module)
        known = () if kind is None else kind.settings
        resolved = None
        with problems.collect():
            resolved = resolve_names(self._operations, settings, known=known)
        program = None
        with problems.collect():
            if resolved is not None:
                program = await self._heavy.run(
                    lambda _: self._declared(
                        request,
                        _build(request, signature, resolved, backend=backend),
                        backend=backend,
                    )
                )
        problems.raise_if_any()
        if program is None:
            raise InternalError("a program without problems was not built")
        for is_last in _TRIES:
            if (
                await self._store.get(PROGRAM, workspace=self._workspace, name=request.name)
                is not None
            ):
                break
            try:
                return await self._insert(
                    program,
                    backend=backend,
                    module=request.module,
                    storage_settings=storage_settings,
                    is_draft=request.draft,
                )
            except ConflictError:  # another client created it or its signature at the same time
                if is_last:
                    raise
        raise ConflictError(
            f"a program named {request.name!r} exists already; choose another name, or execute it"
        )

    def _declared(
        self, request: CreateProgram, program: Program | None, *, backend: str
    ) -> Program | None:
        """Return a program with the variables that a request declares."""
        declarations = read_declarations(request.variables, request.constraints)
        if program is None or not declarations:
            return program
        check_declarations(self._backends.choose(program, stored=backend), declarations)
        return with_values_of(with_declarations(build(program), declarations), program)

    async def save(
        self, program: Program, *, backend: str, made_by: str = "user", activate: bool = True
    ) -> ProgramRecord:
        """Store a program value; see `save_program` and, without `activate`, `record_program`."""
        return await _with_retry(
            lambda: self._save_once(program, backend=backend, made_by=made_by, activate=activate)
        )

    async def _save_once(
        self, program: Program, *, backend: str, made_by: str, activate: bool
    ) -> ProgramRecord:
        record = await self._store.get(PROGRAM, workspace=self._workspace, name=program.name)
        if record is None:
            check_name(program.name)
            kind = program.root.kind
            return await self._insert(program, backend=backend, module=kind, made_by=made_by)
        current = await self._version_of(record, id=record.current_version_id)
        if current is not None and current.content_hash == program.content_hash:
            return record
        existing = await self._version_of(record, content_hash=program.content_hash)
        if existing is not None and not activate:
            return dataclasses.replace(record, current_version_id=existing.id)
        if existing is not None:
            return await self._set_current(record, existing)
        newest = await self._version_of(record)
        signature = await self.save_signature(program.signature, source=program.root.kind)
        number = newest.number + 1 if newest is not None else 1
        version = self._version(
            program, record, number=number, parent_id=record.current_version_id, made_by=made_by
        )
        return await self._set_current(record, version, Insert(version), signature_id=signature.id)

    async def _set_current(
        self,
        record: ProgramRecord,
        version: ProgramVersionRecord,
        *changes: Change,
        **values: Any,
    ) -> ProgramRecord:
        """Make `version` the current one, together with `changes`."""
        values |= {"current_version_id": version.id, "updated_at": self._operations.clock.now()}
        await self._store.write(*changes, Update(resource=PROGRAM, id=record.id, values=values))
        return dataclasses.replace(record, **values)

    async def save_signature(
        self,
        signature: SignatureLike,
        *,
        source: str,
        status: SignatureStatus = "active",
    ) -> SignatureRecord:
        """Store a signature; see `save_signature`."""

        async def save_once() -> SignatureRecord:
            record, change = await self._signature_record(
                Signature.of(signature), source=source, status=status
            )
            if change is not None:
                await self._store.write(change)
            return record

        return await _with_retry(save_once)

    async def _insert(  # all parts of a new program
        self,
        program: Program,
        *,
        backend: str,
        module: str,
        storage_settings: Mapping[str, Any] | None = None,
        is_draft: bool = False,
        made_by: str = "user",
    ) -> ProgramRecord:
        self._backends.check(backend)
        signature, change = await self._signature_record(program.signature, source=module)
        record = ProgramRecord(
            **self._operations.new_row(),
            name=program.name,
            status="draft" if is_draft else "initializing",
            signature_id=signature.id,
            current_version_id=None,
            module=module,
            backend=backend,
            configuration={**program.root.config, **(storage_settings or {})},
        )
        version = self._version(program, record, number=1, parent_id=None, made_by=made_by)
        values: dict[str, Any] = {
            "current_version_id": version.id,
            "status": "draft" if is_draft else PROGRAM.step("become_ready", record.status),
        }
        changes: list[Change] = [] if change is None else [change]
        await self._store.write(
            *changes,
            Insert(record),
            Insert(version),
            Update(resource=PROGRAM, id=record.id, values=values, statuses=(record.status,)),
        )
        return dataclasses.replace(record, **values)

    def _version(
        self,
        program: Program,
        record: ProgramRecord,
        *,
        number: int,
        parent_id: UUID | None,
        made_by: str,
    ) -> ProgramVersionRecord:
        check_definition(program)
        return ProgramVersionRecord(
            **self._operations.new_row(),
            program_id=record.id,
            number=number,
            content_hash=program.content_hash,
            definition=program.definition(),
            assignment=dict(program.assignment),
            parent_id=parent_id,
            made_by=made_by,
        )

    async def _version_of(self, record: ProgramRecord, **where: Any) -> ProgramVersionRecord | None:
        """Return the newest version of a program that matches `where`, or None."""
        query = Query(where={"program_id": record.id, **where}, limit=1)
        rows = await self._store.select(PROGRAM_VERSION, query)
        return rows[0] if rows else None

    async def _signature_of(self, request: CreateProgram) -> Signature:
        if "->" in request.signature:
            try:
                return await self._heavy.run(
                    lambda _: Signature(request.signature, name=request.name)
                )
            except SignatureError as error:
                raise _invalid(
                    "signature", request.signature, "question -> answer: str", message=error.message
                ) from error
        active = {"workspace": self._workspace, "status": "active"}
        newest = Query(where={**active, "name": request.signature}, limit=1)
        rows = await self._store.select(SIGNATURE, newest)
        if not rows:
            names = [row.name for row in await self._store.select(SIGNATURE, Query(where=active))]
            message = (
                "there is no active signature "
                f"{request.signature!r}.{suggest(request.signature, names)}"
            )
            raise _invalid(
                "signature",
                request.signature,
                "'inputs -> outputs', or a stored signature's name",
                message=message,
            )
        return Signature.from_dict(rows[0].definition)

    async def _signature_record(
        self,
        signature: Signature,
        *,
        source: str,
        status: SignatureStatus = "active",
    ) -> tuple[SignatureRecord, Insert | None]:
        """Return the signature record, and the change that adds it if it is new."""
        newest = await self._store.select(
            SIGNATURE, Query(where={"workspace": self._workspace, "name": signature.name}, limit=1)
        )
        if newest and newest[0].content_hash == signature.content_hash:
            return newest[0], None
        data = signature.to_dict()
        sides = {
            role: [item for item in data["fields"] if item["role"] == role]
            for role in ("input", "output")
        }
        record = SignatureRecord(
            **self._operations.new_row(),
            name=signature.name,
            version=newest[0].version + 1 if newest else 1,
            status=status,
            inputs={"fields": sides["input"]},
            outputs={"fields": sides["output"]},
            instructions=signature.instructions,
            content_hash=signature.content_hash,
            source=source,
            definition=data,
        )
        return record, Insert(record)


def _check_module(module: str) -> None:
    """Raise if the module cannot be created from data alone."""
    names = f"one of: {', '.join(kinds_from_text())}"
    kind = MODULE_KINDS.get(module)
    if kind is not None and kind.needs:
        fix = "and store it with dspex run file.py:name"
        raise _invalid("module", module, names, message=f"{module} needs {kind.needs} {fix}")
    _check(module in kinds_from_text(), "module", module, names)


def _build(
    request: CreateProgram, signature: Signature, settings: dict[str, Any], *, backend: str
) -> Program | None:
    """Return the program built from checked parts.

    It is None if its module is invalid (reported already).
    """
    instructions = settings.pop("instructions", request.instructions)
    if instructions is not None and not isinstance(instructions, str):
        raise _invalid(
            "configuration.instructions",
            instructions,
            "a text",
            message=f"{shorten(instructions)} is not a text",
        )
    kind = kinds_from_text().get(request.module)
    if kind is None or kind.create is None:
        return None
    _check(
        "native" in kind.backends or backend in kind.backends,
        "module",
        request.module,
        f"a module of this backend; use the backend {min(kind.backends)!r}",
    )
    try:
        final_signature = signature.with_instructions(instructions) if instructions else signature
        return kind.create(final_signature, settings, request.name)
    except (DefinitionError, TypeError) as error:
        raise _invalid(
            "configuration", request.configuration, "settings of the module", message=str(error)
        ) from error


class _Problems:
    """Collects the field errors of several checks and raises them as one error."""

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        try:
            with input_errors_as_invalid():
                yield
        except InvalidError as error:
            paths = {problem.path for problem in self._errors}
            self._errors += [
                field_error for field_error in error.fields if field_error.path not in paths
            ]

    def names_under(self, path: str) -> list[str]:
        return [
            error.path.removeprefix(path) for error in self._errors if error.path.startswith(path)
        ]

    def raise_if_any(self) -> None:
        if self._errors:
            message = "; ".join(
                f"{error.path}: {error.message.rstrip('.')}" for error in self._errors
            )
            raise InvalidError(message, errors=self._errors)


def _backend_for(isolation: object, backend: str) -> str:
    """Return the backend for an isolation setting."""
    _check(
        isolation in {"inline", "process"},
        "configuration.isolation",
        isolation,
        "inline or process",
    )
    return "isolated" if isolation == "process" and backend == "native" else backend


def storage_settings_of(
    settings: Mapping[str, Any], *, prefix: str = "configuration."
) -> dict[str, Any]:
    """Return the validated storage settings (`STORAGE_SETTINGS`) of a configuration.

    Raises:
        InvalidError: lists every invalid value; each path starts with `prefix`.
    """
    storage_settings, problems = (
        {name: settings[name] for name in STORAGE_SETTINGS if name in settings},
        _Problems(),
    )
    for name, value in storage_settings.items():
        is_flag = isinstance(value, bool)
        with problems.collect():
            if name == "store_inputs":
                _check(is_flag, f"{prefix}{name}", value, "true or false")
            else:
                is_number = isinstance(value, int) and not is_flag and 0 <= value <= 1_000_000_000
                _check(
                    is_number,
                    f"{prefix}{name}",
                    value,
                    "a number of at least 0; 0 keeps everything",
                )
    problems.raise_if_any()
    return storage_settings


def _check(is_fine: bool, field: str, value: object, expected: str) -> None:  # noqa: FBT001, PLR0917
    if not is_fine:
        raise _invalid(field, value, expected)
