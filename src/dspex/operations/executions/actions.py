"""The actions on executions."""

from dspex.operations.executions.inputs import ExecuteProgram, ExecutionOf, RetryExecution
from dspex.operations.executions.program_metrics import ProgramMetrics, program_metrics
from dspex.operations.executions.records import EXECUTION
from dspex.operations.framework.action import Action
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.actions import ProgramRef
from dspex.operations.programs.records import PROGRAM

EXECUTION_ACTIONS: tuple[Action, ...] = (
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
    Action(
        name="program_metrics",
        resource=PROGRAM,
        input=ProgramRef,
        run=program_metrics,
        scope="read",
        description="Figures over all executions of a program.",
        result=ProgramMetrics,
    ),
)
