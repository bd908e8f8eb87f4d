"""The kinds of modules that run only on the backend dspy."""

from collections.abc import Mapping
from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.modules.module_kind import ModuleKind
from dspex.language.programs import ROOT, Node, Program
from dspex.language.signatures import Signature

_BACKENDS = frozenset({"dspy"})


def _create_program_of_thought(
    signature: Signature, settings: Mapping[str, Any], name: str
) -> Program:
    if unknown := settings.keys() - set(PROGRAM_OF_THOUGHT.settings):
        raise DefinitionError(
            f"program_of_thought does not have a setting {min(unknown)!r}; it has: "
            f"{', '.join(PROGRAM_OF_THOUGHT.settings)}"
        )
    kind = PROGRAM_OF_THOUGHT.name
    root = Node(id=str(ROOT), kind=kind, signature=signature, backend="dspy", config=dict(settings))
    return Program(name=name, signature=signature, root=root)


PROGRAM_OF_THOUGHT = ModuleKind(
    name="program_of_thought",
    summary="answers by code that the model writes and a sandbox runs",
    create=_create_program_of_thought,
    settings=("max_iters",),
    backends=_BACKENDS,
    dspy_class="ProgramOfThought",
)
DSPY = ModuleKind(name="dspy", summary="a dspy module that you wrote", backends=_BACKENDS)
RETRIEVER = ModuleKind(name="dspy_retriever", summary="a retriever of dspy", backends=_BACKENDS)
