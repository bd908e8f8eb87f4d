"""The winner of `dspex optimize`: how it is stored, and the command to type next."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.bootstrap import Services
from dspex.errors import NotFoundError
from dspex.learning.optimizers import Outcome
from dspex.operations.programs.stored_programs import current_version, find_program, save_program


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWinner:
    """The version that holds a winner, and the one that was current before, if any."""

    name: str
    id: UUID
    version: int
    previous: int | None


def is_changed(outcome: Outcome[Any]) -> bool:
    """Return whether a search ended with another program than it began with."""
    return outcome.kept is None and bool(outcome.best.candidate.assignment)


async def store_winner(
    services: Services, outcome: Outcome[Any], name: str, *, made_by: str
) -> StoredWinner:
    """Store the program of an outcome as the current version of the program `name`."""
    operations = services.operations
    try:
        record = await find_program(operations, name=name)
        previous = (await current_version(operations, record)).number
    except NotFoundError:
        previous = None
    program = outcome.program.to_program(name)
    record = await save_program(operations, program, made_by=made_by)
    version = await current_version(operations, record)
    return StoredWinner(name=name, id=version.id, version=version.number, previous=previous)


def next_step(
    outcome: Outcome[Any], *, target: str, data: str, file: str | None, stored: StoredWinner | None
) -> str:
    """Return the command that fits the end of a search, with what it does."""
    if not is_changed(outcome):
        if outcome.kept is not None:
            return "the same command with --insist keeps the best candidate (free with --journal)"
        return f"dspex eval {target} {data} --html report.html shows what the program gets wrong"
    if stored is not None and stored.previous not in {None, stored.version}:
        name, before, after = stored.name, stored.previous, stored.version
        return (
            f"dspex program diff {name} {before} {after} shows the changes, and "
            f"dspex program activate {name} {before} returns to the old version"
        )
    program = stored.name if stored is not None else file
    if program is None:
        return "the same command with --store or --output keeps the winner (free with --journal)"
    inputs = " ".join(
        f"{field}=..." for field in outcome.program.to_program().signature.input_fields
    )
    storing = "" if stored is not None else f", and dspex push {program} stores it"
    return f"dspex run {program} {inputs} runs it{storing}"
