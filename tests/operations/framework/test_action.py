"""An action is declared where its function is written."""

import asyncio
from dataclasses import dataclass

from dspex.operations.domain import DOMAIN
from dspex.operations.framework.action import action
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.records import PROGRAM, ProgramRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameProgram:
    """The new name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """All names."""

    names: list[str]


@action(PROGRAM, scope="write")
async def rename_program(operations: Operations, request: RenameProgram) -> ProgramRecord:
    """Give a program another name.

    Its versions stay.
    """
    raise NotImplementedError(operations, request)


@action(PROGRAM, scope="read")
async def list_names(operations: Operations, request: RenameProgram) -> Names:
    """List names."""
    del operations
    return Names(names=[request.name])


def test_name_input_result_and_description_follow_from_the_function() -> None:
    assert (rename_program.name, rename_program.input) == ("rename_program", RenameProgram)
    assert rename_program.description == "Give a program another name."
    assert rename_program.result is None  # a row of the resource
    assert list_names.result is Names


def test_an_action_is_called_like_its_function() -> None:
    assert asyncio.run(list_names(None, RenameProgram(name="a"))) == Names(names=["a"])


def test_every_action_has_a_name_of_its_own_and_a_description() -> None:
    names = [each.name for each in DOMAIN.actions]
    assert len(names) == len(set(names)) > 30
    assert all(each.description.endswith(".") for each in DOMAIN.actions)
