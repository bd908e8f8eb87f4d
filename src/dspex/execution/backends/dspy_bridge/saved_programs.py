"""Imports programs that dspy saved."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from dspex.errors import DefinitionError
from dspex.execution.backends.dspy_bridge.backend import DspyBackend
from dspex.execution.modules import Module, build
from dspex.execution.modules.code import CodeRoot
from dspex.execution.modules.dspy_state import from_dspy_state
from dspex.execution.modules.kinds import MODULE_KINDS
from dspex.language.programs import ROOT, Node, Program
from dspex.language.signatures import Signature

STATE_KINDS = tuple(name for name, kind in MODULE_KINDS.items() if kind.dspy_class)
"""The kinds of the modules whose state dspy saves."""


def read_saved(file: Path) -> dict[str, Any]:
    """Return the contents of a JSON file: a state that dspy saved, or a program of dspex.

    Raises:
        DefinitionError: it is not such a file; pickles and folders of dspy are never opened.
    """
    fix = "save it in dspy with program.save('program.json')"
    if file.suffix in {".pkl", ".pickle"} or file.is_dir():
        raise DefinitionError(
            f"{str(file)!r} may hold a pickle, which runs code when it is read: {fix}"
        )
    try:
        data = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise DefinitionError(f"cannot read {str(file)!r}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise DefinitionError(f"{str(file)!r} is not JSON: {error}; {fix}") from error
    if not isinstance(data, dict) or not data:
        raise DefinitionError(f"{str(file)!r} does not hold the state of a program; {fix}")
    return data


async def import_over(
    bridge: DspyBackend, signature: Signature, kind: str, *, state: Mapping[str, Any], name: str
) -> Program:
    """Return the program of one module over `signature`, with the state that dspy saved of it.

    Raises:
        DefinitionError: the state belongs to another program; the message names its predictors.
    """
    module = MODULE_KINDS[kind]
    if module.build is not None and module.create is not None:
        return import_into(module.create(signature, {}, name), state)
    root = Node(id=str(ROOT), kind=kind, signature=signature, backend="dspy")
    return await bridge.import_state(Program(name=name, signature=signature, root=root), state)


def import_into(
    program: Program, state: Mapping[str, Any], *, code: CodeRoot | None = None
) -> Program:
    """Return a native program with the state that dspy saved of the same modules, to run on dspy.

    Raises:
        DefinitionError: the state belongs to another program.
    """
    module: Module = build(program, code=code)
    from_dspy_state(module, by_path(state))
    imported = module.to_program(program.name)
    return replace(imported, root=replace(imported.root, backend="dspy"))


def by_path(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state by predictor path; dspy saves a lone Predict without a path."""
    predictors = {key: value for key, value in state.items() if key != "metadata"}
    return (
        {str(ROOT): predictors}
        if "signature" in predictors and "demos" in predictors
        else predictors
    )
