"""The module inside another one, for programs that are created from a signature and settings."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from dspex.error_text import shorten, suggest
from dspex.errors import DefinitionError
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import KIND as PREDICT
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.react import KIND as REACT
from dspex.execution.modules.react import ReAct
from dspex.language.signatures import Signature

# without `n`, which is how often the outer module runs the inner one
INNER_SETTINGS: Final = ("strategy", *(name for name in PREDICT.settings if name != "n"))
_MEMBER_SETTINGS: Final = ("strategy", *PREDICT.settings)
AGENT_SETTINGS: Final = tuple(dict.fromkeys((*_MEMBER_SETTINGS, *REACT.settings)))
_STRATEGIES: Final = {"predict": Predict, "chain_of_thought": ChainOfThought}


def inner_module(
    signature: Signature, settings: Mapping[str, Any], *, names: Collection[str] = INNER_SETTINGS
) -> Module:
    """Return the module that the settings describe: a `Predict` unless `strategy` says otherwise.

    Settings that are not in `names` are those of the outer module, and ignored.

    Raises:
        DefinitionError: the strategy is unknown, or a setting is invalid.
    """
    strategy = settings.get("strategy", "predict")
    if strategy not in _STRATEGIES:
        raise DefinitionError(f"strategy must be one of {', '.join(_STRATEGIES)}, not {strategy!r}")
    options = {
        name: value for name, value in settings.items() if name in names and name != "strategy"
    }
    module: Module = _STRATEGIES[strategy](signature, **options)
    return module


def check_settings(kind: str, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise unless all settings of a module have a name that its kind takes.

    Raises:
        DefinitionError: one has another name.
    """
    for key in settings:
        if key not in names:
            raise DefinitionError(
                f"a {kind} takes no {key!r}.{suggest(key, list(names))} It takes: "
                f"{', '.join(dict.fromkeys(names))}"
            )


def described_modules(modules: Any, signature: Signature) -> list[Module]:
    """Return the modules that a setting `modules` describes, of one signature.

    Each is a role, or an object with `role` and the settings of `member_module`.

    Raises:
        DefinitionError: one is described wrongly; the message has its number.
    """
    if not isinstance(modules, Sequence) or isinstance(modules, str) or not modules:
        raise DefinitionError(
            f"the setting `modules` is a list of roles or objects; it is {shorten(modules)}"
        )
    results = []
    for number, part in enumerate(modules):
        options = {"role": part} if isinstance(part, str) else part
        place = f"modules[{number}]"
        if not isinstance(options, Mapping):
            raise DefinitionError(f"{place} must be a role or an object, not {shorten(part)}")
        names = ("role", *AGENT_SETTINGS)
        for key in options:
            if key not in names:
                raise DefinitionError(f"{place} takes no {key!r}.{suggest(key, names)}")
        role = options.get("role")
        contract = signature.with_instructions(role) if role else signature
        settings = {key: options[key] for key in options if key != "role"}
        try:
            results.append(member_module(contract, settings))
        except DefinitionError as error:
            raise error.with_message(f"{place}: {error.message}") from error
    return results


def member_module(signature: Signature, settings: Mapping[str, Any]) -> Module:
    """Return an agent (`ReAct`) if the settings have `tools`, else as `inner_module` does.

    Raises:
        DefinitionError: a setting is invalid, or an agent does not take it.
    """
    strategy = settings.get("strategy")
    if not settings.get("tools"):
        if strategy == REACT.name:
            raise DefinitionError(f"the strategy {strategy!r} needs `tools`, a list of their names")
        known = (*_MEMBER_SETTINGS, "tools")
        if unfit := [name for name in settings if name not in known]:
            raise DefinitionError(f"{unfit[0]!r} is a setting of an agent, which has `tools`")
        return inner_module(signature, settings, names=_MEMBER_SETTINGS)
    names = ("strategy", *REACT.settings)
    for name in settings:
        if name not in names or (name == "strategy" and strategy != REACT.name):
            raise DefinitionError(
                f"an agent, which has `tools`, takes no {name!r} of {settings[name]!r}."
                f"{suggest(name, REACT.settings)} It takes: {', '.join(REACT.settings)}"
            )
    return ReAct(signature, **{name: settings[name] for name in settings if name != "strategy"})
