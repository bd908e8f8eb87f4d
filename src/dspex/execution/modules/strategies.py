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
    asked: SignatureLike | Predict,
    *,
    tools: Iterable[Tool | Callable[..., Any]] | ToolSet = (),
    default: str = "Predict",
) -> Switch:
    """Return a module that asks outright ("Predict"), reasons first ("ChainOfThought"), or uses tools ("ReAct").

    Which of them it does is the variable `<path>.self`. Written in place of a `Predict`, it makes the way of thinking
    one more thing that a search may choose.

    Args:
        asked: the contract, or a `Predict` whose demonstrations, model, adapter, settings and variables the first two
            alternatives have too. ReAct has its model.
        tools: what ReAct may call; without any there is no such alternative.
        default: the label of the alternative that is taken until another is assigned.

    Raises:
        DefinitionError: no alternative has the label `default`.
    """
    plain = asked if isinstance(asked, Predict) else Predict(asked)
    careful = ChainOfThought(plain.signature)
    careful.predict = plain.asking(careful.contract())
    given = tools if isinstance(tools, ToolSet) else ToolSet(tools)
    agent = {"ReAct": ReAct(plain.signature, given, model=plain.model)} if given else {}
    return Switch({"Predict": plain, "ChainOfThought": careful, **agent}, chosen=default)
