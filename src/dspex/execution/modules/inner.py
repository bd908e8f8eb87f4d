"""The module inside another one, for programs that are created from a signature and settings."""

from collections.abc import Mapping
from typing import Any, Final

from dspex.errors import DefinitionError
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import KIND as PREDICT
from dspex.execution.modules.predict import Predict
from dspex.language.signatures import Signature

INNER_SETTINGS: Final = ("strategy", *PREDICT.settings)
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
