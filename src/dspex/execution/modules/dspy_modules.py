"""The kinds of modules that run only on the backend dspy."""

from dspex.execution.modules.module_kind import ModuleKind

_BACKENDS = frozenset({"dspy"})
DSPY = ModuleKind(name="dspy", summary="a dspy module that you wrote", backends=_BACKENDS)
RETRIEVER = ModuleKind(name="dspy_retriever", summary="a retriever of dspy", backends=_BACKENDS)
