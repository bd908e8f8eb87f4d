"""The actions on programs and executions."""

from dspex.operations.resources.actions import Action
from dspex.operations.resources.execution import EXECUTION
from dspex.operations.resources.inputs import CreateProgram, ExecuteProgram
from dspex.operations.resources.operations import Operations
from dspex.operations.resources.program import PROGRAM

STORED_ACTIONS: tuple[Action, ...] = (
    Action(
        name="create_program",
        resource=PROGRAM,
        input=CreateProgram,
        scope="write",
        run=Operations.create_program,
        description="Create a program of one module; it ends ready.",
    ),
    Action(
        name="execute_program",
        resource=EXECUTION,
        input=ExecuteProgram,
        scope="execute",
        run=Operations.execute_program,
        description="Run a program once; the execution is stored, also when it fails.",
    ),
)
