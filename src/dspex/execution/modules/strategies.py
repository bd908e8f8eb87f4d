"""A choice between Predict, ChainOfThought and ReAct for one signature."""

from collections.abc import Callable, Iterable
from typing import Any

from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.execution.modules.react import ReAct
from dspex.execution.modules.switch import Switch
from dspex.execution.tools import Tool, ToolSet
from dspex.language.signatures import Signature


def strategies(
    signature: type[SignatureT] | Signature | str | Predict[SignatureT],
    *,
    tools: Iterable[Tool | Callable[..., Any]] | ToolSet = (),
    default: str = "Predict",
) -> Switch[SignatureT]:
    """Return a switch between a direct answer, reasoning first, and tool use.

    The labels are "Predict", "ChainOfThought" and "ReAct"; the choice is the variable
    `<path>.self`. In place of a `Predict`, it lets a search choose the strategy.

    Args:
        signature: a signature or a `Predict`. The first two alternatives share its demonstrations,
            model, adapter, settings and variables; ReAct shares its model.
        tools: the tools of ReAct; without tools, ReAct is not an alternative.
        default: the label of the alternative used until another is assigned.

    Raises:
        DefinitionError: no alternative has the label `default`.
    """
    predict = signature if isinstance(signature, Predict) else Predict(signature)
    chain = ChainOfThought(predict.signature)
    chain.predict = predict.with_signature(chain.contract())
    toolset = tools if isinstance(tools, ToolSet) else ToolSet(tools)
    agent = {"ReAct": ReAct(predict.signature, toolset, model=predict.model)} if toolset else {}
    return Switch({"Predict": predict, "ChainOfThought": chain, **agent}, default=default)
