"""A language model that scores the outputs of a program."""

from collections.abc import Mapping
from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.slot import Slot
from dspex.language.programs import ModulePath, Node
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature

_JUDGE = Signature(
    "criterion, task, inputs, outputs -> reason, score: probability",
    "Judge the outputs of a program by the criterion. First give a short reason, then a score "
    "from 0 (not at all) to 1 "
    "(entirely).",
)


class _JudgePredict(Predict):
    """Calls the judging model. It has no variables: a search must not tune the judge."""

    def slots(self) -> Mapping[str, Slot]:
        """Return nothing."""
        return {}

    def takes(self, slot: str) -> bool:
        """Return False: no variable can be bound here."""
        del slot
        return False

    def config(self, path: ModulePath) -> dict[str, Any]:
        """Return the settings as data.

        Raises:
            DefinitionError: the model is an object, which cannot be stored.
        """
        return self._config(path)


class JudgedModule(Module[Outputs]):
    """Runs a module and has a model score the outputs; adds the outputs `judged` and `because`.

    Its variables are those of the module, named `program.<path>`; a search does not change the
    judge. A stored judge is built as this class; users write `dspex.evaluation.Judge`.
    """

    def __init__(
        self,
        program: Module[Outputs],
        criterion: str,
        *,
        model: Any = None,
    ) -> None:
        """Take the module, the criterion, and the judging model (by default the context's)."""
        self.program = program
        self.criterion = criterion
        self.judge = _JudgePredict(_JUDGE, model=model)

    def contract(self) -> Signature:
        """Return the program's signature, with the score and the reason as outputs.

        Raises:
            DefinitionError: the program already has a field `judged` or `because`.
        """
        signature: Signature = self.program.contract()
        for name in ("judged", "because"):
            if name in signature.fields:
                raise DefinitionError(
                    f"the program has a field {name!r}, which a Judge adds itself; rename the field"
                )
        return signature.append("judged", "probability").append("because", str)

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        """Run the program, then the judge."""
        outputs = (await self.program.acall(**inputs)).to_dict()
        verdict = await self.judge.acall(
            criterion=self.criterion,
            task=self.program.contract().instructions,
            inputs=str(inputs),
            outputs=str(outputs),
        )
        return {**outputs, "judged": verdict.score, "because": verdict.reason}

    def node(self, path: ModulePath) -> Node:
        """Return this module as data."""
        config = {"criterion": self.criterion, **self.judge.config(path.child("judge"))}
        return Node(
            id=str(path),
            kind=KIND.name,
            config=config,
            children={"program": self.program.node(path.child("program"))},
        )


KIND = ModuleKind(
    name="judge",
    summary="has a model score the outputs of a module",
    build=lambda node, builder: JudgedModule(builder.child(node, "program", Module), **node.config),
)
