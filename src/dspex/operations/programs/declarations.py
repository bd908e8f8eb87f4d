"""Variables and constraints that callers declare as data, beside those of a program."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from dspex.errors import DefinitionError
from dspex.execution.backends import BackendModule, Choice
from dspex.execution.modules import CodeRoot, Module, build
from dspex.execution.modules.kinds import kinds_from_text
from dspex.language.programs import Program
from dspex.language.variables import Constraint, Variable
from dspex.operations.framework.field_errors import invalid

T = TypeVar("T")
Declaration = Variable | Constraint
MOST: Final = 200


def read_declarations(
    variables: Sequence[Any] | None, constraints: Sequence[Any] | None
) -> tuple[Declaration, ...]:
    """Return variables and constraints from the data that their `to_dict` writes.

    Raises:
        InvalidError: one is malformed, or they are too many.
    """
    variables, constraints = variables or (), constraints or ()
    if len(variables) + len(constraints) > MOST:
        raise invalid("variables", "...", f"at most {MOST} variables and constraints")
    return (
        *_read("variables", variables, Variable.from_dict),
        *_read("constraints", constraints, Constraint.from_dict),
    )


def _read(name: str, data: Sequence[Any], read: Callable[[Any], T]) -> list[T]:
    items = []
    for number, each in enumerate(data):
        try:
            items.append(read(each))
        except (DefinitionError, RecursionError) as error:
            message = getattr(error, "message", "it is nested too deeply")
            kind = f"a {name[:-1]}, as `program.variables()` writes it"
            raise invalid(f"{name}[{number}]", each, kind, message=message) from error
    return items


def module_of(choice: Choice, code: CodeRoot | None) -> Module:
    """Return a program as a module that runs where its choice of a backend says."""
    if choice.name == "native":
        return build(choice.program, code=code)
    return BackendModule(choice.program, choice.backend)


def with_declarations(module: Module, declarations: Sequence[Declaration]) -> Module:
    """Return a module with more variables and constraints.

    Raises:
        InvalidError: there is no such place, a variable does not fit it, or they contradict.
    """
    if not declarations:
        return module
    try:
        declared = module.with_variables(*declarations)
        declared.variables().complete({})  # computes what is computed
    except (DefinitionError, RecursionError) as error:
        message = getattr(error, "message", "an expression is nested too deeply")
        names = [each.name for each in declarations]
        raise invalid("variables", names, "variables of the program", message=message) from error
    return declared


def check_declarations(choice: Choice, declarations: Sequence[Declaration]) -> None:
    """Check declarations for a program where it runs; one with code is checked by the worker.

    Raises:
        InvalidError: see `with_declarations`.
    """
    kinds = {node.kind for node in choice.program.root.walk()}
    if declarations and (choice.name == "dspy" or kinds <= kinds_from_text().keys()):
        with_declarations(module_of(choice, None), declarations)


def with_values_of(module: Module, program: Program) -> Program:
    """Return `program` as `module`, which was made from it and then given variables or values."""
    winner = module.to_program(program.name)
    return replace(
        program,
        signature=winner.signature,
        root=winner.root,
        space=winner.space,
        assignment=winner.assignment,
    )
