"""A language model that scores what a program answers."""

from collections.abc import Mapping
from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.slot import Slot
from dspex.language.programs import Node
from dspex.language.signatures import Signature

_JUDGE = Signature(
    "criterion, task, inputs, outputs -> reason, score: probability",
    "Judge the outputs of a program by the criterion. First give a short reason, then a score from 0 (not at all) to 1 "
    "(entirely).",
)


class _JudgePredict(Predict):
    """Asks the judging model. Nothing of it varies: a search would talk the judge round instead of doing better."""

    def slots(self) -> Mapping[str, Slot]:
        """Return nothing."""
        return {}

    def takes(self, slot: str) -> bool:
        """Return that no variable is bound here."""
        del slot
        return False

    def config(self, path: str) -> dict[str, Any]:
        """Return the settings as data.

        Raises:
            DefinitionError: the model is an object, which is not data.
        """
        return self._config(path)


class JudgedModule(Module):
    """Runs a module and lets a model score what came out; the score is the output `judged`, the reason `because`.

    Its variables are those of the module, named `program.<path>`; the judge itself stays as it is in a search. This is
    what a stored judge is built as; people write `dspex.evaluation.Judge`.
    """

    def __init__(
        self,
        program: Module,
        criterion: str,
        *,
        model: Any = None,  # noqa: ANN401  # as in Predict
    ) -> None:
        """Take the module, what to judge it by, and the judging model; the context's by default."""
        self.program = program
        self.criterion = criterion
        self.judge = _JudgePredict(_JUDGE, model=model)

    def contract(self) -> Signature:
        """Return the program's signature, with the score and the reason as outputs.

        Raises:
            DefinitionError: the program has a field of one of these names.
        """
        signature: Signature = self.program.contract()
        for name in ("judged", "because"):
            if name in signature.fields:
                raise DefinitionError(f"the program has a field {name!r}, which a Judge adds itself; rename the field")
        return signature.append("judged", "probability").append("because", str)

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """Run the program, then the judge."""
        outputs = (await self.program.acall(**inputs)).to_dict()
        verdict = await self.judge.acall(
            criterion=self.criterion,
            task=self.program.contract().instructions,
            inputs=str(inputs),
            outputs=str(outputs),
        )
        return {**outputs, "judged": verdict.score, "because": verdict.reason}

    def node(self, path: str) -> Node:
        """Return this module as data."""
        below = "" if path == "self" else f"{path}."
        config = {"criterion": self.criterion, **self.judge.config(f"{below}judge")}
        return Node(id=path, kind="judge", config=config, children={"program": self.program.node(f"{below}program")})
