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
    from dspex.execution.modules import program as program
    from dspex.language.programs import Program as Program
    from dspex.language.records import Example as Example
    from dspex.language.records import Message as Message
    from dspex.language.records import Prediction as Prediction
    from dspex.language.records import Usage as Usage
    from dspex.language.signatures import Input as Input
    from dspex.language.signatures import Output as Output
    from dspex.language.signatures import Signature as Signature
    from dspex.learning.evaluation import Dataset as Dataset
    from dspex.learning.evaluation import Report as Report
    from dspex.learning.evaluation import compare as compare
    from dspex.learning.evaluation import evaluate as evaluate
    from dspex.learning.evaluation import exact_match as exact_match
    from dspex.learning.evaluation import majority_class as majority_class
    from dspex.learning.optimizers import LabeledFewShot as LabeledFewShot
    from dspex.learning.optimizers import Search as Search
    from dspex.learning.optimizers import optimize as optimize
    from dspex.session import configure as configure
    from dspex.session import context as context

_HOMES = {
    "dspex.errors": ("DspexError",),
    "dspex.language.records": ("Example", "Message", "Prediction", "Usage"),
    "dspex.language.signatures": ("Input", "Output", "Signature"),
    "dspex.language.programs": ("Program",),
    "dspex.execution.modules": ("Module", "Predict", "build", "program"),
    "dspex.learning.evaluation": ("Dataset", "Report", "compare", "evaluate", "exact_match", "majority_class"),
    "dspex.learning.optimizers": ("LabeledFewShot", "Search", "optimize"),
    "dspex.session": ("configure", "context"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Dataset",
    "DspexError",
    "Example",
    "Input",
    "LabeledFewShot",
    "Message",
    "Module",
    "Output",
    "Predict",
    "Prediction",
    "Program",
    "Report",
    "Search",
    "Signature",
    "Usage",
    "__version__",
    "build",
    "compare",
    "configure",
    "context",
    "evaluate",
    "exact_match",
    "majority_class",
    "optimize",
    "program",
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
