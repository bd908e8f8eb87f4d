"""dspex: the platform for programs made of language-model calls.

Declare a typed signature, build a program of modules, run it, record it, evaluate it, improve it. Everything here is
loaded when it is first used; `import dspex` by itself loads next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dspex._version import __version__

if TYPE_CHECKING:
    from dspex.errors import DspexError as DspexError
    from dspex.execution.modules import Module as Module
    from dspex.execution.modules import Predict as Predict
    from dspex.execution.modules import build as build
    from dspex.language.programs import Program as Program
    from dspex.language.records import Example as Example
    from dspex.language.records import Message as Message
    from dspex.language.records import Prediction as Prediction
    from dspex.language.records import Usage as Usage
    from dspex.language.signatures import Input as Input
    from dspex.language.signatures import Output as Output
    from dspex.language.signatures import Signature as Signature
    from dspex.session import configure as configure
    from dspex.session import context as context

_HOMES = {
    "dspex.errors": ("DspexError",),
    "dspex.language.records": ("Example", "Message", "Prediction", "Usage"),
    "dspex.language.signatures": ("Input", "Output", "Signature"),
    "dspex.language.programs": ("Program",),
    "dspex.execution.modules": ("Module", "Predict", "build"),
    "dspex.session": ("configure", "context"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DspexError",
    "Example",
    "Input",
    "Message",
    "Module",
    "Output",
    "Predict",
    "Prediction",
    "Program",
    "Signature",
    "Usage",
    "__version__",
    "build",
    "configure",
    "context",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'dspex' has no attribute {name!r}")
    if home == "dspex.execution.modules":  # modules may carry model strings, which the session resolves
        import_module("dspex.session").prepare()
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return __all__
