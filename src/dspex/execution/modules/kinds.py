"""The registry of module kinds. A new kind is a file with its `KIND`, and a line here."""

from collections.abc import Mapping

from dspex.execution.modules import (
    best_of_n,
    chain_of_thought,
    code_act,
    comparison,
    dspy_modules,
    ensemble,
    majority,
    parallel,
    predict,
    program_of_thought,
    python_module,
    rag,
    react,
    refine,
    rerank,
    retrieve,
    retry,
    rlm,
    stored_program,
    switch,
)
from dspex.execution.modules.agents import (
    blackboard,
    handoff,
    router,
    sequence,
    supervisor,
    team,
)
from dspex.execution.modules.agents import map as team_map
from dspex.execution.modules.citations import citation_plan
from dspex.execution.modules.module_kind import ModuleKind
from dspex.language.programs import Node

MODULE_KINDS: Mapping[str, ModuleKind] = {
    kind.name: kind
    for kind in (
        predict.KIND,
        chain_of_thought.KIND,
        react.KIND,
        program_of_thought.KIND,
        code_act.KIND,
        rlm.KIND,
        switch.KIND,
        parallel.KIND,
        retry.KIND,
        best_of_n.KIND,
        refine.KIND,
        majority.KIND,
        ensemble.KIND,
        comparison.KIND,
        sequence.KIND,
        team_map.KIND,
        router.KIND,
        supervisor.KIND,
        handoff.KIND,
        blackboard.KIND,
        team.KIND,
        stored_program.KIND,
        python_module.KIND,
        rag.KIND,
        rerank.KIND,
        retrieve.KIND,
        dspy_modules.DSPY,
        dspy_modules.RETRIEVER,
    )
}


def kinds_from_text() -> Mapping[str, ModuleKind]:
    """Return the kinds that can be created from a signature and settings, without code."""
    return {name: kind for name, kind in MODULE_KINDS.items() if kind.create is not None}


def kinds_on(backend: str) -> frozenset[str]:
    """Return the names of the kinds that a backend can run as a whole."""
    return frozenset(name for name, kind in MODULE_KINDS.items() if backend in kind.backends)


def dspy_problem(node: Node) -> str:
    """Return why dspy cannot run a node with all its parts, or an empty text if it can."""
    kind = MODULE_KINDS.get(node.kind)
    if kind is None or "dspy" not in kind.backends:
        return f"dspy has no counterpart of the kind {node.kind!r}"
    inner = node.children.get("module")
    if isinstance(inner, Node) and (problem := dspy_problem(inner)):
        return problem
    if isinstance(inner, Node) and inner.signature is not None and citation_plan(inner.signature):
        return "citations are resolved after each predictor, not inside dspy's modules"
    return kind.dspy_problem(node)
