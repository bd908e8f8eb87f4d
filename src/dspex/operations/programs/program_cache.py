"""A cache of programs, versions and backend choices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import NotFoundError
from dspex.execution.backends import Backends, Choice
from dspex.language.programs import Program
from dspex.operations.framework.store import Change, Store, Update
from dspex.operations.programs.records import (
    PROGRAM,
    PROGRAM_VERSION,
    ProgramRecord,
    ProgramVersionRecord,
)

FRESH = 0.5
_CAPACITY = 1000


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    record: ProgramRecord
    until: int


class ProgramCache:
    """Looks up programs with a cache.

    Records are at most half a second old; versions are immutable. Changes by this process
    invalidate the cache at once (`on_write`). A stale record is harmless: the write that records an
    execution requires that the program is still ready.
    """

    def __init__(self, store: Store, *, backends: Backends, clock: Clock) -> None:
        """Take the collaborators; the cache starts empty."""
        self._store = store
        self._backends = backends
        self._clock = clock
        self._programs: dict[tuple[str, object], _CacheEntry] = {}
        self._values: dict[UUID, Program] = {}
        self._choices: dict[tuple[UUID, str, str | None], Choice] = {}

    def on_write(self, changes: Sequence[Change]) -> None:
        """Invalidate the programs that were changed in more than their counters."""
        for change in changes:
            if type(change) is Update and change.resource is PROGRAM and not change.increments:
                self.forget(change.id)

    def forget(self, program_id: UUID) -> None:
        """Invalidate one program."""
        for key in [key for key, entry in self._programs.items() if entry.record.id == program_id]:
            del self._programs[key]

    async def program(self, workspace: str, key: UUID | str) -> ProgramRecord | None:
        """Return a program by id or name."""
        now = self._clock.monotonic_ns()
        entry = self._programs.get((workspace, key))
        if entry is not None and entry.until > now:
            return entry.record
        criteria: dict[str, Any] = {"id": key} if isinstance(key, UUID) else {"name": key}
        record = await self._store.get(PROGRAM, workspace=workspace, **criteria)
        if record is not None:
            if len(self._programs) >= _CAPACITY:
                self._programs.clear()
            self._programs[workspace, key] = _CacheEntry(record, now + int(FRESH * 1e9))
        return record

    async def version(self, program: ProgramRecord) -> ProgramVersionRecord:
        """Return the current version of `program`.

        Raises:
            NotFoundError: the program does not have a version yet.
        """
        row = await self._store.get(PROGRAM_VERSION, id=program.current_version_id)
        if row is None:
            raise NotFoundError(f"program {program.name!r} has no version; it is {program.status}")
        return row

    async def value(self, program: ProgramRecord) -> Program:
        """Return the current version of `program` as a runnable value."""
        key = program.current_version_id
        if key is None or key not in self._values:
            version = await self.version(program)
            if len(self._values) >= _CAPACITY:
                self._values.clear()
                self._choices.clear()
            data = {"definition": version.definition, "assignment": version.assignment}
            self._values[version.id] = Program.from_dict(data)
            return self._values[version.id]
        return self._values[key]

    async def choice(self, program: ProgramRecord, backend: str | None) -> Choice:
        """Return the backend for `program`, or the one named `backend`.

        Raises:
            InvalidError: the backend is not available, or cannot run this program.
        """
        value = await self.value(program)
        if program.current_version_id is None:
            return self._backends.choose(value, stored=program.backend, backend=backend)
        key = (program.current_version_id, program.backend, backend)
        if key not in self._choices:
            self._choices[key] = self._backends.choose(
                value, stored=program.backend, backend=backend
            )
        return self._choices[key]
