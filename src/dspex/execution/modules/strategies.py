"""How to come to an answer, as a choice between modules."""

from collections.abc import Callable, Iterable
from typing import Any

from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.react import ReAct
from dspex.execution.modules.switch import Switch
from dspex.execution.tools import Tool, ToolSet
from dspex.language.signatures import SignatureLike


def strategies(
    signature: SignatureLike | Predict,
    *,
    tools: Iterable[Tool | Callable[..., Any]] | ToolSet = (),
    default: str = "Predict",
) -> Switch:
    """Return a module that asks outright ("Predict"), reasons first ("ChainOfThought"), or uses tools ("ReAct").

    Which of them it does is the variable `<path>.self`. Written in place of a `Predict`, it makes the way of thinking
    one more thing that a search may choose.

    Args:
        signature: the contract, or a `Predict`. The first two alternatives share its demonstrations, model,
            adapter, settings and variables; ReAct shares its model.
        tools: what ReAct may call; without any there is no such alternative.
        default: the label of the alternative that is taken until another is assigned.

    Raises:
        DefinitionError: no alternative has the label `default`.
    """
    predict = signature if isinstance(signature, Predict) else Predict(signature)
    chain = ChainOfThought(predict.signature)
    chain.predict = predict.with_signature(chain.contract())
    toolset = tools if isinstance(tools, ToolSet) else ToolSet(tools)
    agent = {"ReAct": ReAct(predict.signature, toolset, model=predict.model)} if toolset else {}
    return Switch({"Predict": predict, "ChainOfThought": chain, **agent}, chosen=default)
