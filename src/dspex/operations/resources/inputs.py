"""What actions take, as values that every surface makes in its own way."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateProgram:
    """Make a program of one module.

    `signature` is a string form ("question -> answer: str") or the name of a stored signature; `module` is predict,
    chain_of_thought, react or program_of_thought (the last on the backend dspy only). `configuration` holds settings of
    the module (temperature, max_tokens, model, adapter) and may hold "instructions", "demos", and "isolation":
    "process" to run it in a worker.
    """

    name: str
    signature: str
    module: str = "predict"
    backend: str = "native"
    configuration: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteProgram:
    """Run the current version of a program, named by id or by name, on inputs by field name.

    `backend` says where this one run takes place, whatever the program's record says.
    """

    inputs: dict[str, Any]
    program_id: UUID | None = None
    name: str | None = None
    backend: str | None = None
