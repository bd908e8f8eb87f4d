"""Refine: run a module until its reward is good enough, with advice for the next attempt."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.errors import ExecutionError, InputError
from dspex.execution.context import current
from dspex.execution.frame import CallListener, payload
from dspex.execution.modules.attempts import attempt_context, check_count, check_module
from dspex.execution.modules.inner import INNER_SETTINGS, inner_module
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder, functions_in
from dspex.execution.modules.predict import Predict
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

_ADVISE = Signature(
    "goal, predictors: dict[str, str], inputs, calls: list[any], outputs, reward: float, "
    "threshold: float -> discussion, advice: dict[str, str]",
    "The outputs of a program got a reward below the threshold. Discuss which calls of its "
    "predictors caused that. Then advise each of these predictors, by its name, what to do "
    "differently on the same or similar inputs. It sees neither this discussion nor its earlier "
    "answers, so the advice must be concrete. Leave out predictors that are not to blame.",
    name="Advise",
)
_ADVICE = "Advice after an earlier attempt at this: {text}"


@checks_names
class Refine(Module[Outputs]):
    """Runs a module until its reward reaches `threshold`, at most `n` times; returns the best.

    After each attempt that falls short, a model is shown the calls and their results, and advises
    each predictor; the prompts of the next attempt end with the advice. An attempt that fails
    counts as none. Listeners to a stream do not hear the attempts.
    """

    def __init__(
        self,
        module: Module[Outputs],
        *,
        reward: RewardSource,
        threshold: float,
        n: int = 3,
        goal: str = "",
    ) -> None:
        """Take the module and the reward, as for `BestOfN`.

        Args:
            module: the module to run.
            reward: a function of (inputs, prediction), a module, or the name of an output.
            threshold: the reward that is good enough.
            n: the maximum number of attempts.
            goal: what the reward measures, for the model that advises; by default the instructions
                of the module's signature.

        Raises:
            DefinitionError: `n` or `reward` is invalid.
        """
        check_module("Refine", module)
        self.module = module
        self.n = check_count("n", n)
        self.threshold = threshold
        self.goal = goal
        self._reward = check_reward(reward, module.contract())
        self.advise = Predict(_ADVISE)

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def forward(self, **inputs: Any) -> Prediction[Outputs]:
        """Run the attempts.

        Raises:
            ExecutionError: all attempts failed.
        """
        best: tuple[float, Prediction[Outputs]] | None = None
        advice: Mapping[str, str] = {}
        failure = ExecutionError("no attempt was made")
        for number in range(self.n):
            calls: list[dict[str, Any]] = []
            context = attempt_context(number, of=self.n, advice=advice, is_silent=True)
            context = context.listening(on_call=_call_recorder(calls, context.frame.on_call))
            try:
                prediction: Prediction[Outputs] = await self.module.acall(context, **inputs)
                reward = await reward_of(self._reward, inputs, prediction)
            except InputError:
                raise
            except ExecutionError as error:
                failure = error
                continue
            if best is None or reward > best[0]:
                best = (reward, prediction)
            if reward >= self.threshold or number == self.n - 1:
                break
            advice = await self._advice(inputs, prediction, calls=calls, reward=reward)
        if best is None:
            raise failure
        return best[1]

    async def _advice(
        self,
        inputs: Mapping[str, Any],
        prediction: Prediction,
        *,
        calls: list[dict[str, Any]],
        reward: float,
    ) -> dict[str, str]:
        """Return the advice for each predictor by path; none if the model gave none."""
        recorder = current().frame.recorder
        paths = {} if recorder is None else recorder.paths
        predictors = {
            paths.get(id(part), path): part.signature.instructions
            for path, part in self.module.named_modules()
            if isinstance(part, Predict)
        }
        try:
            verdict = await self.advise.acall(
                goal=self.goal or self.contract().instructions,
                predictors=predictors,
                inputs=payload(dict(inputs)),
                calls=calls,
                outputs=payload(prediction.to_dict()),
                reward=reward,
                threshold=self.threshold,
            )
        except ExecutionError:  # the next attempt runs without it; the trace shows the error
            return {}
        return {
            path: _ADVICE.format(text=text)
            for path, text in verdict.advice.items()
            if path in predictors and text.strip()
        }

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: the reward is a function that cannot be found by import.
        """
        config, children = reward_data(self._reward, path)
        return Node(
            id=str(path),
            kind=KIND.name,
            config={"n": self.n, "threshold": self.threshold, "goal": self.goal, **config},
            children={
                "module": self.module.node(path.child("module")),
                "advise": self.advise.node(path.child("advise")),
                **children,
            },
        )


def _call_recorder(calls: list[dict[str, Any]], outer: CallListener | None) -> CallListener:
    """Return a listener that records calls for the advice, and passes them on."""

    def listen(path: str, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
        text = payload({"predictor": path, "inputs": inputs, "outputs": outputs})
        calls.append(msgspec.json.decode(text) if text.endswith("}") else {"call": text})
        if outer is not None:
            outer(path, inputs, outputs)

    return listen


def _build(node: Node, builder: NodeBuilder) -> Refine:
    module = Refine(
        builder.child(node, "module", Module),
        reward=stored_reward(node, builder),
        **{name: node.config[name] for name in ("n", "threshold", "goal")},
    )
    module.advise = builder.child(node, "advise", Predict)
    return module


def _dspy_problem(node: Node) -> str:
    return "dspy's Refine has no `goal`" if node.config.get("goal") else reward_problem(node)


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    options = {key: settings[key] for key in ("n", "goal") if key in settings}
    return Refine(
        inner_module(signature, settings),
        reward=settings.get("reward", ""),
        threshold=settings.get("threshold", 1.0),
        **options,
    ).to_program(name)


KIND = ModuleKind(
    name="refine",
    summary="runs a module until its reward is good enough, with advice for the next attempt",
    build=_build,
    create=_create,
    settings=("reward", "threshold", "n", "goal", *INNER_SETTINGS),
    backends=frozenset({"native", "dspy"}),
    dspy_problem=_dspy_problem,
    code=functions_in("reward"),
)
