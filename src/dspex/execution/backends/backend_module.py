"""A program of another backend as a module: to run, evaluate and optimize."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from dspex.errors import DefinitionError, VariableError
from dspex.execution.backends.backend import Backend
from dspex.execution.context import RunContext
from dspex.execution.modules import Module
from dspex.execution.modules.runnable_module import RunOutputs
from dspex.execution.modules.settings import SETTINGS, setting_problem
from dspex.language.programs import ROOT, ModulePath, Node, Program
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.language.variables import Assignment, Constraint, Float, Space, Variable
from dspex.language.variables.sampling import explain_refusal
from dspex.sync import on_loop

_SHARED = "temperature of all predictors"
_OF_PREDICTORS = (".instructions", ".demos")


class BackendModule(Module):
    """Runs a program on a backend, such as a dspy program on the bridge, without changing it.

    The caller starts and closes the backend, which runs on the event loop that owns it, even if a
    `forward` calls this module from another loop.

    `variables` is the space of the program: for a dspy program, the instructions and demonstrations
    of its predictors by path. `with_variables` binds more variables to `places`.
    """

    def __init__(self, program: Program, backend: Backend) -> None:
        """Take the program and its backend."""
        self._program = program
        self._backend = backend

    def contract(self) -> Signature:
        """Return the program's signature."""
        return self._program.signature

    def to_program(self, name: str = "") -> Program:
        """Return the program."""
        return self._program if not name else replace(self._program, name=name)

    def node(self, path: ModulePath) -> Node:
        """Return the program's root."""
        del path
        return self._program.root

    def variables(self) -> Space:
        """Return the program's space."""
        return self._program.space

    def places(self) -> tuple[str, ...]:
        """Return the paths for variables: slots, and models and settings of predictors."""
        declared = [path for variable in self._program.space.values() for path in variable.paths]
        predictors = self._predictors()
        settings = [f"{place}.{slot}" for place in predictors for slot in ("model", *SETTINGS)]
        whole = self._program.root.kind == "dspy"  # it has one adapter
        settings += (
            [ROOT.place("adapter")] if whole else [f"{place}.adapter" for place in predictors]
        )
        return tuple(dict.fromkeys([*declared, *settings]))

    def unfit(self, slot: str, value: object) -> str:
        """Return what a place accepts instead of `value`, or an empty text if it fits."""
        return setting_problem(slot.rpartition(".")[2], value)

    def _predictors(self) -> list[str]:
        paths = [path for variable in self._program.space.values() for path in variable.paths]
        return list(
            dict.fromkeys(
                path.rpartition(".")[0] for path in paths if path.endswith(_OF_PREDICTORS)
            )
        )

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot."""
        return slot == "temperature"

    def bind(self, slot: str, value: Any) -> None:
        """Set the temperature of all predictors, whatever variables say."""
        if not self.takes(slot):
            super().bind(slot, value)
        space = self._program.space
        paths = tuple(f"{place}.temperature" for place in self._predictors())
        unbound = [
            replace(
                variable,
                paths=tuple(path for path in variable.paths if path not in paths),
                bindings={
                    path: binding
                    for path, binding in variable.bindings.items()
                    if path not in paths
                },
            )
            for variable in space.values()
            if variable.name != _SHARED
        ]
        shared = Float(value, value, name=_SHARED, paths=paths)
        self._program = replace(
            self._program,
            space=Space.derived([*unbound, shared], space.constraints),
            assignment={**self._program.assignment, shared.name: value},
        )

    def assign(self, values: Assignment) -> Self:
        """Return the program with new values for some variables, on the same backend.

        Raises:
            VariableError: a variable is unknown, a value has the wrong kind or does not fit its
                place, or a constraint rejects the assignment.
        """
        program = self._program.assign(values)
        declared = {
            name: value for name, value in program.assignment.items() if name in program.space
        }
        try:
            bound = list(program.space.bound(declared))
        except VariableError as error:
            raise explain_refusal(program.space, error) from error
        for path, value in bound:
            if expected := self.unfit(path, value):
                raise VariableError(f"{path!r} takes {expected}")
        return type(self)(program, self._backend)

    def with_variables(self, *added: Variable | Constraint) -> Self:
        """Return the program with more variables, which replace variables of the same places.

        Raises:
            DefinitionError: a variable is bound to a place that does not exist.
        """
        space = self._program.space
        places, owners = (
            self.places(),
            {path: name for name, variable in space.items() for path in variable.paths},
        )
        bound = {
            path
            for item in added
            if isinstance(item, Variable)
            for path in item.paths or (item.name,)
        }
        if unknown := sorted(bound - set(places)):
            raise DefinitionError(
                f"the program has no place {unknown[0]!r}; it has: {', '.join(places)}"
            )
        for variable in [item for item in added if isinstance(item, Variable)]:
            for path in variable.paths or (variable.name,):
                self.check_variable(variable, path, path)
        replaced = {owners[path] for path in bound if path in owners}
        additions = [
            item.named(item.name, item.name) if isinstance(item, Variable) else item
            for item in added
        ]
        assignment = {
            name: value for name, value in self._program.assignment.items() if name not in replaced
        }
        program = replace(
            self._program, space=space.remove(*replaced).add(*additions), assignment=assignment
        )
        program.space.check_rewrites()
        return type(self)(program, self._backend)

    async def run_in_context(self, context: RunContext, inputs: Mapping[str, Any]) -> RunOutputs:
        """Run the program on its backend; see `Module.run_in_context`."""
        owner = context.frame.loop or asyncio.get_running_loop()
        prediction = await on_loop(owner, self._execute(context, inputs))
        fallback = prediction.fallback
        attributes: dict[str, object] = {} if fallback is None else {"fallback": fallback.reason}
        return RunOutputs(prediction.to_dict(), attributes)

    async def _execute(self, context: RunContext, inputs: Mapping[str, Any]) -> Prediction:
        handle = await self._backend.create_program(self._program)
        return await self._backend.execute_program(handle, inputs, context)
