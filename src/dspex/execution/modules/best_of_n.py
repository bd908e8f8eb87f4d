"""BestOfN: run a module several times and keep the best prediction."""

from collections.abc import Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import ExecutionError, InputError
from dspex.execution.modules.attempts import attempt_context, check_count, check_module, together
from dspex.execution.modules.inner import INNER_SETTINGS, inner_module
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder, functions_in
from dspex.execution.modules.reward import (
    RewardSource,
    check_reward,
    reward_data,
    reward_of,
    reward_problem,
    stored_reward,
)
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.records import Prediction
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature


@checks_names
class BestOfN(Module[Outputs]):
    """Runs a module `n` times with new requests and returns the prediction with the best reward.

    Without `threshold` all attempts run at once; with it they run one after the other, and the
    first whose reward reaches it is returned. A failed attempt is skipped. A search does not change
    a reward that is a module. Streams get no events from the attempts.
    """

    def __init__(
        self,
        module: Module[Outputs],
        *,
        reward: RewardSource,
        n: int = 3,
        threshold: float | None = None,
    ) -> None:
        """Take the module and the reward.

        Args:
            module: the module to run.
            reward: a function of (inputs, prediction), a module whose inputs are inputs or outputs
                of `module` and whose last output that is a number is the reward, or the name of an
                output of `module` that is a number.
            n: the maximum number of attempts.
            threshold: the lowest reward that ends the attempts.

        Raises:
            DefinitionError: `n` or `reward` is invalid.
        """
        check_module("BestOfN", module)
        self.module = module
        self.n = check_count("n", n)
        self.threshold = threshold
        self._reward = check_reward(reward, module.contract())

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def forward(self, **inputs: Any) -> Prediction[Outputs]:
        """Run the attempts.

        Raises:
            ExecutionError: all attempts failed.
        """
        if self.threshold is None:
            outcomes = await together([self._attempt(number, inputs) for number in range(self.n)])
            return max(outcomes, key=lambda pair: pair[0])[1]
        return await self._first_above(self.threshold, inputs)

    async def _first_above(
        self, threshold: float, inputs: Mapping[str, Any]
    ) -> Prediction[Outputs]:
        best: tuple[float, Prediction[Outputs]] | None = None
        failure = ExecutionError("no attempt was made")
        for number in range(self.n):
            try:
                outcome = await self._attempt(number, inputs)
            except InputError:
                raise
            except ExecutionError as error:
                failure = error
                continue
            best = outcome if best is None or outcome[0] > best[0] else best
            if best[0] >= threshold:
                break
        if best is None:
            raise failure
        return best[1]

    async def _attempt(
        self, number: int, inputs: Mapping[str, Any]
    ) -> tuple[float, Prediction[Outputs]]:
        context = attempt_context(number, of=self.n, is_silent=True)
        prediction: Prediction[Outputs] = await self.module.acall(context, **inputs)
        return await reward_of(self._reward, inputs, prediction), prediction

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: the reward is a function that cannot be found by import.
        """
        config, children = reward_data(self._reward, path)
        return Node(
            id=str(path),
            kind=KIND.name,
            config={"n": self.n, "threshold": self.threshold, **config},
            children={"module": self.module.node(path.child("module")), **children},
        )


def _build(node: Node, builder: NodeBuilder) -> BestOfN:
    return BestOfN(
        builder.child(node, "module", Module),
        reward=stored_reward(node, builder),
        n=node.config["n"],
        threshold=node.config["threshold"],
    )


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    options = {key: settings[key] for key in ("n", "threshold") if key in settings}
    module = inner_module(signature, settings)
    return BestOfN(module, reward=settings.get("reward", ""), **options).to_program(name)


KIND = ModuleKind(
    name="best_of_n",
    summary="runs a module several times and keeps the prediction with the best reward",
    build=_build,
    create=_create,
    settings=("reward", "n", "threshold", *INNER_SETTINGS),
    backends=frozenset({"native", "dspy"}),
    dspy_problem=reward_problem,
    code=functions_in("reward"),
)
