"""The reason for running a program on a backend, as an attribute of its span."""

from dspex.execution.context import RunContext
from dspex.language.programs import Program


def reason(program: Program, backend: str, context: RunContext) -> dict[str, object]:
    """Return the attribute `why` for the span of `backend`; `program` may be a single node."""
    if program.root.backend == backend:
        return {
            "why": f"node {(context.frame.path or program.root.id)!r} names the backend {backend!r}"
        }
    return {"why": f"the whole program was given to the backend {backend!r}"}
