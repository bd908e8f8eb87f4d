"""Why a part of a program runs where it does, as its span says."""

from dspex.execution.context import RunContext
from dspex.language.programs import Program


def reason(program: Program, backend: str, context: RunContext) -> dict[str, object]:
    """Return the attribute `why` for the span of `backend`, which runs `program`: a whole one, or a node of another."""
    if program.root.backend == backend:
        return {"why": f"node {(context.path or program.root.id)!r} names the backend {backend!r}"}
    return {"why": f"the whole program was given to the backend {backend!r}"}
