"""Rewards: how good a prediction is, as a number."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from dspex.error_text import shorten
from dspex.errors import DefinitionError, ExecutionError, boundary
from dspex.execution.modules.code import function_config, load_function
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature

RewardSource = Callable[[Mapping[str, Any], Prediction], float] | Module | str
"""A function of inputs and prediction, a module with a number as output, or an output's name."""
NUMBERS = frozenset({"float", "int", "bool", "probability"})


async def reward_of(
    source: RewardSource, inputs: Mapping[str, Any], prediction: Prediction
) -> float:
    """Return the reward of a prediction.

    A module gets the inputs and outputs that it declares as its inputs; its last output that is a
    number is the reward.

    Raises:
        ExecutionError: the function raised an error, or the reward is not a number.
    """
    if isinstance(source, str):
        value: object = prediction.get(source)
    elif isinstance(source, Module):
        values = {**inputs, **prediction}
        wanted = source.contract().input_fields
        verdict = await source.acall(**{name: values[name] for name in wanted if name in values})
        value = verdict[reward_field(source.contract())]
    else:
        with boundary(ExecutionError, "the reward function"):
            value = source(inputs, prediction)
    if not isinstance(value, int | float) or value != value:  # NaN
        raise ExecutionError(f"the reward must be a number, not {shorten(value)}")
    return float(value)


def reward_field(signature: Signature) -> str:
    """Return the name of the last output that is a number.

    Raises:
        DefinitionError: there is none.
    """
    for name, field in reversed(signature.output_fields.items()):
        if field.type.kind in NUMBERS:
            return name
    raise DefinitionError(
        f"{signature.name} has no output that is a number, so it cannot give a reward; its outputs "
        f"are: {', '.join(signature.output_fields)}"
    )


def check_reward(source: RewardSource, contract: Signature) -> RewardSource:
    """Return a reward that fits the predictions of a signature.

    Raises:
        DefinitionError: it is of another kind, or names no output that is a number.
    """
    if isinstance(source, str):
        field = contract.output_fields.get(source)
        if field is None or field.type.kind not in NUMBERS:
            raise DefinitionError(
                f"the reward {source!r} is not an output that is a number; the outputs are: "
                f"{', '.join(contract.output_fields)}"
            )
    elif isinstance(source, Module):
        reward_field(source.contract())
    elif not callable(source):
        raise DefinitionError(
            "a reward is a function of (inputs, prediction), a module, or the name of an output, "
            f"not {shorten(source)}"
        )
    return source


def reward_data(source: RewardSource, path: ModulePath) -> tuple[dict[str, Any], dict[str, Node]]:
    """Return a reward as data: configuration and children of the node at `path`.

    Raises:
        DefinitionError: it is a function that cannot be found by import.
    """
    if isinstance(source, Module):
        return {}, {"reward": source.node(path.child("reward"))}
    if isinstance(source, str):
        return {"reward": source}, {}
    return {"reward": function_config(source, "the reward function")}, {}


def reward_problem(node: Node) -> str:
    """Return why dspy cannot use the reward of a node, or an empty text if it can."""
    return "dspy's rewards are not modules" if "reward" in node.children else ""


def stored_reward(node: Node, builder: NodeBuilder) -> RewardSource:
    """Return the reward of a stored node.

    Raises:
        DefinitionError: it is code that cannot be loaded.
        ConflictError: the source of the function has changed.
    """
    if "reward" in node.children:
        return builder.child(node, "reward", Module)
    reward = node.config["reward"]
    if isinstance(reward, str):
        return reward
    return cast("RewardSource", load_function(reward, builder.code, "the reward function"))
