"""The actions on programs and executions."""

from dspex.operations.resources.actions import Action
from dspex.operations.resources.execution import EXECUTION
from dspex.operations.resources.inputs import (
    CreateProgram,
    ExecuteProgram,
    ExecutionOf,
    RetryExecution,
)
from dspex.operations.resources.operations import Operations
from dspex.operations.resources.program import PROGRAM

STORED_ACTIONS: tuple[Action, ...] = (
    Action(
        name="create_program",
        resource=PROGRAM,
        input=CreateProgram,
        scope="write",
        run=Operations.create_program,
        description="Create a program of one module; it is ready at once unless it is a draft.",
    ),
    Action(
        name="execute_program",
        resource=EXECUTION,
        input=ExecuteProgram,
        scope="execute",
        run=Operations.execute_program,
        description="Run a program once; the execution is stored even if it fails.",
    ),
    Action(
        name="cancel_execution",
        resource=EXECUTION,
        input=ExecutionOf,
        scope="execute",
        run=Operations.cancel_execution,
        description="Cancel a running execution, in any process.",
    ),
    Action(
        name="retry_execution",
        resource=EXECUTION,
        input=RetryExecution,
        scope="execute",
        run=Operations.retry_execution,
        description="Run the same inputs on the same version again, as a new execution.",
    ),
)
