"""The inputs of actions on programs."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateProgram:
    """Create a program of one module.

    `signature` is a string form ("question -> answer: str") or the name of a stored signature;
    `module` is a kind of module that needs no code, such as predict or chain_of_thought.
    `configuration` holds settings of the module (temperature, max_tokens, model, adapter) and may
    hold "instructions", "demos", and "isolation": "process" to run it in a worker. `instructions`
    replace those of the signature. `backend` is where it runs: native, dspy or mock. The program is
    ready at once; a `draft` can run only after `initialize_program`. `variables` and `constraints`
    are what an optimizer may vary, as `program.variables().to_dict()` writes them: objects such as
    {"name": "heat", "kind": "float", "low": 0, "high": 1, "paths": ["self.temperature"]}.
    """

    name: str
    signature: str
    module: str = "predict"
    backend: str = "native"
    configuration: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None
    draft: bool = False
    variables: list[Any] | None = None
    constraints: list[Any] | None = None
