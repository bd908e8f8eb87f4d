"""The module inside another one, for programs that are created from a signature and settings."""

from collections.abc import Mapping
from typing import Any, Final

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import KIND as PREDICT
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.react import KIND as REACT
from dspex.execution.modules.react import ReAct
from dspex.language.signatures import Signature

INNER_SETTINGS: Final = ("strategy", *PREDICT.settings)
AGENT_SETTINGS: Final = tuple(dict.fromkeys((*INNER_SETTINGS, *REACT.settings)))
_STRATEGIES: Final = {"predict": Predict, "chain_of_thought": ChainOfThought}


def inner_module(signature: Signature, settings: Mapping[str, Any]) -> Module:
    """Return the module that the settings describe: a `Predict` unless `strategy` says otherwise.

    Settings of the outer module are ignored.

    Raises:
        DefinitionError: the strategy is unknown, or a setting is invalid.
    """
    strategy = settings.get("strategy", "predict")
    if strategy not in _STRATEGIES:
        raise DefinitionError(f"strategy must be one of {', '.join(_STRATEGIES)}, not {strategy!r}")
    options = {name: value for name, value in settings.items() if name in PREDICT.settings}
    module: Module = _STRATEGIES[strategy](signature, **options)
    return module


def member_module(signature: Signature, settings: Mapping[str, Any]) -> Module:
    """Return an agent (`ReAct`) if the settings have `tools`, else as `inner_module` does.

    Raises:
        DefinitionError: a setting is invalid, or an agent does not take it.
    """
    strategy = settings.get("strategy")
    if not settings.get("tools"):
        if strategy == REACT.name:
            raise DefinitionError(f"the strategy {strategy!r} needs `tools`, a list of their names")
        if unfit := [name for name in settings if name not in INNER_SETTINGS and name != "tools"]:
            raise DefinitionError(f"{unfit[0]!r} is a setting of an agent, which has `tools`")
        return inner_module(signature, settings)
    names = ("strategy", *REACT.settings)
    for name in settings:
        if name not in names or (name == "strategy" and strategy != REACT.name):
            raise DefinitionError(
                f"an agent, which has `tools`, takes no {name!r} of {settings[name]!r}."
                f"{suggest(name, REACT.settings)} It takes: {', '.join(REACT.settings)}"
            )
    return ReAct(signature, **{name: settings[name] for name in settings if name != "strategy"})
