"""ProgramOfThought: answer by code that the model writes and a sandbox runs."""

from collections.abc import Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import ExecutionError
from dspex.execution.adapters import Adapter
from dspex.execution.clients import LanguageModel
from dspex.execution.modules.attempts import check_count
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.code_session import (
    CodeSession,
    check_names,
    check_sandbox,
    code_session,
    json_inputs,
    limits_of,
    observation,
    sandbox_config,
    without,
)
from dspex.execution.modules.host_calls import SUBMIT
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import SignatureT
from dspex.execution.sandbox import Sandbox, SandboxLimits
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

CODE, PREVIOUS, ERROR = "generated_code", "previous_code", "error"
FINAL_CODE, CODE_OUTPUT = "final_generated_code", "code_output"


@checks_names
class ProgramOfThought(Module[SignatureT]):
    """Has the model write Python code, runs it in a sandbox, and reads the answer from its output.

    The inputs are names in the code. The code ends with its results in a call of `SUBMIT`, or with
    its last line; code that fails is sent back with the error. The predictors and their fields are
    named as in dspy. Source: Chen et al., "Program of Thoughts Prompting", 2022.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        *,
        max_iters: int = 3,
        sandbox: Sandbox | str | None = None,
        limits: SandboxLimits | Mapping[str, Any] | None = None,
        model: LanguageModel | str | Variable | None = None,
        adapter: Adapter | str | Variable | None = None,
    ) -> None:
        """Take the signature.

        Args:
            signature: inputs and outputs of the whole module.
            max_iters: how often code is written at most.
            sandbox: "monty" (the default), "deno", "subprocess" (unsafe), or a sandbox.
            limits: what the code may use.
            model: as for `Predict`.
            adapter: as for `Predict`.

        Raises:
            DefinitionError: `max_iters`, the sandbox, a limit or the name of an input is invalid.
        """
        self.signature = Signature.of(signature)
        check_names(self.signature)
        self.max_iters = check_count("max_iters", max_iters)
        self._sandbox = check_sandbox(sandbox)
        self._limits = limits_of(limits)
        outputs = ", ".join(f"`{name}`" for name in self.signature.output_fields)
        names = list(self.signature.output_fields)
        task = (
            f"{self.signature.instructions}\n\nWrite Python code that computes {outputs}. The "
            f"inputs are variables of their names. End with {SUBMIT}(field=value, ...)."
        )
        self.code_generate = ChainOfThought(
            without(self.signature.append(CODE, desc="Python code"), names).with_instructions(task),
            model=model,
            adapter=adapter,
        )
        self.code_regenerate = ChainOfThought(
            without(
                self.signature.append(PREVIOUS, role="input", desc="code that failed")
                .append(ERROR, role="input", desc="its error")
                .append(CODE, desc="corrected Python code"),
                names,
            ).with_instructions(f"{task} An earlier version failed: correct the error."),
            model=model,
            adapter=adapter,
        )
        self.generate_output = ChainOfThought(
            self.signature.append(FINAL_CODE, role="input", desc="the code").append(
                CODE_OUTPUT, role="input", desc="what it printed and submitted"
            ),
            model=model,
            adapter=adapter,
        )

    async def forward(self, **inputs: Any) -> Prediction[SignatureT] | Mapping[str, Any]:
        """Write and run code, then answer.

        Raises:
            ExecutionError: no version of the code ran without an error.
            SandboxError: the sandbox cannot be started.
        """
        values = self.signature.validate_inputs(inputs)
        attempt = await self.code_generate.acall(**values)
        for number in range(1, self.max_iters + 1):
            code = str(attempt[CODE])
            outputs = self.signature.output_fields
            async with code_session(self._sandbox, self._limits, outputs=outputs) as session:
                output, error = await self._run(session, code, values)
            if error is None:
                answer = await self.generate_output.acall(
                    **values, **{FINAL_CODE: code, CODE_OUTPUT: output}
                )
                return {name: answer[name] for name in self.contract().output_fields}
            if number < self.max_iters:
                attempt = await self.code_regenerate.acall(
                    **values, **{PREVIOUS: code, ERROR: error}
                )
        raise ExecutionError(
            f"none of {self.max_iters} versions of the code ran; the last: {error}"
        )

    async def _run(
        self, session: CodeSession, code: str, values: Mapping[str, Any]
    ) -> tuple[str, str | None]:
        """Return the output of code, and its error."""
        result = await session.run(code, json_inputs(values))
        if result.fault is not None:
            return "", observation(result)
        return session.observation(result), None

    def contract(self) -> Signature:
        """Return the signature, with the reasoning of the last step."""
        signature: Signature = self.signature
        return signature.prepend("reasoning")

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: the sandbox is an object.
        """
        parts = {
            "code_generate": self.code_generate,
            "code_regenerate": self.code_regenerate,
            "generate_output": self.generate_output,
        }
        return Node(
            id=str(path),
            kind=KIND.name,
            signature=self.signature,
            config={
                "max_iters": self.max_iters,
                **sandbox_config(self._sandbox, self._limits, str(path)),
            },
            children={name: part.node(path.child(name)) for name, part in parts.items()},
        )


def _build(node: Node, builder: NodeBuilder) -> ProgramOfThought:
    module = ProgramOfThought(builder.signature(node), **node.config)
    for name in node.children:
        setattr(module, name, builder.child(node, name, ChainOfThought))
    return module


KIND = ModuleKind(
    name="program_of_thought",
    summary="answers by code that the model writes and a sandbox runs",
    build=_build,
    create=lambda signature, settings, name: ProgramOfThought(signature, **settings).to_program(
        name
    ),
    settings=("max_iters", "sandbox", "limits", "model", "adapter"),
    backends=frozenset({"native", "dspy"}),
    dspy_class="ProgramOfThought",
)
