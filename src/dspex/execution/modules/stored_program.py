"""StoredProgram: call a stored program by its name, as an execution of its own."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.errors import ConfigurationError
from dspex.execution.context import RunContext, use_context
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind
from dspex.execution.modules.predict import SignatureT
from dspex.execution.modules.runnable_module import RunOutputs
from dspex.execution.team_run import TeamLimits, TeamRun
from dspex.language.programs import ModulePath, Node
from dspex.language.signatures import Signature


@checks_names
class StoredProgram(Module[SignatureT]):
    """Calls the current version of a stored program, as an execution inside the current one.

    It needs a server or `dspex run`, whose executions are stored. Limits of teams around it apply
    to it. Its spans are those of its execution, and its usage counts for the caller, too. Programs
    that call one another endlessly are stopped as teams inside one another are.
    """

    def __init__(self, program: str, signature: type[SignatureT] | Signature | str) -> None:
        """Take the name of the program, and the signature that its callers rely on."""
        self.program = program
        self.signature: Signature = Signature.of(signature)

    async def run_in_context(self, context: RunContext, inputs: Mapping[str, Any]) -> RunOutputs:
        """Execute the program; see `Module.run_in_context`.

        Raises:
            ConfigurationError: this process stores no executions.
            DefinitionError: there is no such program.
        """
        values = self.signature.validate_inputs(inputs)
        if context.programs is None:
            raise ConfigurationError(
                f"the program {self.program!r} is stored, but this process stores no executions: "
                "use `dspex run` or a server"
            )
        team = TeamRun(TeamLimits(turns=None), context.frame.team)
        frame = msgspec.structs.replace(context.frame, team=team)
        with use_context(msgspec.structs.replace(context, frame=frame)):
            prediction = await context.programs(self.program, values)
        outputs = {name: prediction[name] for name in self.signature.output_fields}
        return RunOutputs(outputs, {"program": self.program})

    def node(self, path: ModulePath) -> Node:
        """Return this module as data: the name of the program, not the program."""
        config = {"program": self.program}
        return Node(id=str(path), kind=KIND.name, signature=self.signature, config=config)


KIND = ModuleKind(
    name="stored",
    summary="calls a stored program by its name, as an execution of its own",
    build=lambda node, builder: StoredProgram(node.config["program"], builder.signature(node)),
)
