"""dspex: the platform for programs made of language-model calls.

Declare a typed signature, build a program of modules, run it, record it, evaluate it, improve it.
Everything here is loaded when it is first used; `import dspex` by itself loads next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dspex._version import __version__

if TYPE_CHECKING:
    from dspex import agents as agents
    from dspex import backends as backends
    from dspex import errors as errors
    from dspex import evaluation as evaluation
    from dspex import media as media
    from dspex import models as models
    from dspex import modules as modules
    from dspex import optimizers as optimizers
    from dspex import retrieval as retrieval
    from dspex import tools as tools
    from dspex import variables as variables
    from dspex.bootstrap.open_store import open as open
    from dspex.errors import DspexError as DspexError
    from dspex.execution.ask import ask as ask
    from dspex.execution.clients import Budget as Budget
    from dspex.execution.clients import OpenAIModel as OpenAIModel
    from dspex.execution.collection import Collection as Collection
    from dspex.execution.context import Cancellation as Cancellation
    from dspex.execution.context import RunContext as RunContext
    from dspex.execution.modules import Assert as Assert
    from dspex.execution.modules import ChainOfThought as ChainOfThought
    from dspex.execution.modules import Module as Module
    from dspex.execution.modules import OneOf as OneOf
    from dspex.execution.modules import Parallel as Parallel
    from dspex.execution.modules import Predict as Predict
    from dspex.execution.modules import ReAct as ReAct
    from dspex.execution.modules import Retry as Retry
    from dspex.execution.modules import Suggest as Suggest
    from dspex.execution.modules import build as build
    from dspex.execution.modules import load as load
    from dspex.execution.modules import program as program
    from dspex.execution.modules.dspy_state import from_dspy_state as from_dspy_state
    from dspex.execution.modules.dspy_state import to_dspy_state as to_dspy_state
    from dspex.execution.modules.rag import RAG as RAG
    from dspex.execution.modules.retrieve import Retrieve as Retrieve
    from dspex.execution.tools import Tool as Tool
    from dspex.execution.tools import ToolPolicy as ToolPolicy
    from dspex.execution.tools import ToolSet as ToolSet
    from dspex.language.programs import Program as Program
    from dspex.language.records import Example as Example
    from dspex.language.records import Prediction as Prediction
    from dspex.language.records import Usage as Usage
    from dspex.language.signatures import Input as Input
    from dspex.language.signatures import Output as Output
    from dspex.language.signatures import Signature as Signature
    from dspex.language.signatures.conversation import Session as Session
    from dspex.language.variables import Composite as Composite
    from dspex.language.variables import Constraint as Constraint
    from dspex.language.variables import Float as Float
    from dspex.language.variables import Integer as Integer
    from dspex.language.variables import Text as Text
    from dspex.language.variables import var as var
    from dspex.learning.evaluation import Dataset as Dataset
    from dspex.learning.evaluation import Report as Report
    from dspex.learning.evaluation import aevaluate as aevaluate
    from dspex.learning.evaluation import compare as compare
    from dspex.learning.evaluation import evaluate as evaluate
    from dspex.learning.evaluation import exact_match as exact_match
    from dspex.learning.optimizers import BootstrapFewShot as BootstrapFewShot
    from dspex.learning.optimizers import Joint as Joint
    from dspex.learning.optimizers import LabeledFewShot as LabeledFewShot
    from dspex.learning.optimizers import MIPROv2 as MIPROv2
    from dspex.learning.optimizers import RandomSearch as RandomSearch
    from dspex.learning.optimizers import Search as Search
    from dspex.learning.optimizers import aoptimize as aoptimize
    from dspex.learning.optimizers.driver import optimize as optimize
    from dspex.session import configure as configure
    from dspex.session import context as context
    from dspex.telemetry import FieldDelta as FieldDelta
    from dspex.telemetry import Finished as Finished

_HOMES = {
    "dspex.bootstrap.open_store": ("open",),
    "dspex.errors": ("DspexError",),
    "dspex.execution.ask": ("ask",),
    "dspex.execution.clients": (
        "Budget",
        "OpenAIModel",
    ),
    "dspex.execution.collection": ("Collection",),
    "dspex.execution.context": (
        "Cancellation",
        "RunContext",
    ),
    "dspex.execution.modules": (
        "Assert",
        "ChainOfThought",
        "Module",
        "OneOf",
        "Parallel",
        "Predict",
        "ReAct",
        "Retry",
        "Suggest",
        "build",
        "load",
        "program",
    ),
    "dspex.execution.modules.dspy_state": (
        "from_dspy_state",
        "to_dspy_state",
    ),
    "dspex.execution.modules.rag": ("RAG",),
    "dspex.execution.modules.retrieve": ("Retrieve",),
    "dspex.execution.tools": (
        "ToolPolicy",
        "Tool",
        "ToolSet",
    ),
    "dspex.language.programs": ("Program",),
    "dspex.language.records": (
        "Example",
        "Prediction",
        "Usage",
    ),
    "dspex.language.signatures": (
        "Input",
        "Output",
        "Signature",
    ),
    "dspex.language.signatures.conversation": ("Session",),
    "dspex.language.variables": (
        "Composite",
        "Constraint",
        "Float",
        "Integer",
        "Text",
        "var",
    ),
    "dspex.learning.evaluation": (
        "Dataset",
        "Report",
        "aevaluate",
        "compare",
        "evaluate",
        "exact_match",
    ),
    "dspex.learning.optimizers": (
        "BootstrapFewShot",
        "Joint",
        "LabeledFewShot",
        "MIPROv2",
        "RandomSearch",
        "Search",
        "aoptimize",
    ),
    "dspex.learning.optimizers.driver": ("optimize",),
    "dspex.session": (
        "configure",
        "context",
    ),
    "dspex.telemetry": (
        "FieldDelta",
        "Finished",
    ),
}
ROOMS = (
    "adapters",
    "agents",
    "backends",
    "errors",
    "evaluation",
    "media",
    "models",
    "modules",
    "optimizers",
    "retrieval",
    "statistics",
    "testing",
    "tools",
    "variables",
)
"""Public modules beside the names of `__all__`; each lists its own names in its `__all__`."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "RAG",
    "Assert",
    "BootstrapFewShot",
    "Budget",
    "Cancellation",
    "ChainOfThought",
    "Collection",
    "Composite",
    "Constraint",
    "Dataset",
    "DspexError",
    "Example",
    "FieldDelta",
    "Finished",
    "Float",
    "Input",
    "Integer",
    "Joint",
    "LabeledFewShot",
    "MIPROv2",
    "Module",
    "OneOf",
    "OpenAIModel",
    "Output",
    "Parallel",
    "Predict",
    "Prediction",
    "Program",
    "RandomSearch",
    "ReAct",
    "Report",
    "Retrieve",
    "Retry",
    "RunContext",
    "Search",
    "Session",
    "Signature",
    "Suggest",
    "Text",
    "Tool",
    "ToolPolicy",
    "ToolSet",
    "Usage",
    "__version__",
    "aevaluate",
    "aoptimize",
    "ask",
    "build",
    "compare",
    "configure",
    "context",
    "evaluate",
    "exact_match",
    "from_dspy_state",
    "load",
    "open",
    "optimize",
    "program",
    "to_dspy_state",
    "var",
]


def __getattr__(name: str) -> object:
    if name in ROOMS:
        return import_module(f"dspex.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'dspex' has no attribute {name!r}")
    # they may carry names of models and embedders, which the session resolves
    if home.startswith(("dspex.execution.modules", "dspex.execution.collection")):
        import_module("dspex.session").prepare()
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, *ROOMS]
