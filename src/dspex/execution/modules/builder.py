"""Build modules from stored programs."""

from pathlib import Path

from dspex.arguments import checks_values
from dspex.error_text import shorten
from dspex.errors import DefinitionError
from dspex.execution.modules.code import CodeRoot
from dspex.execution.modules.files import read_state
from dspex.execution.modules.kinds import MODULE_KINDS
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.language.programs import Node, Program


@checks_values
def build(program: Program, *, code: CodeRoot | None = None) -> Module:
    """Return the runnable module tree of `program`, with its assignment applied.

    Args:
        program: the stored program.
        code: the folder to import user-written modules from; required if the program has any.

    Raises:
        DefinitionError: a kind is unknown, or the program needs code and `code` is missing.
        ConflictError: the code has changed since the program was stored.
    """
    if code is not None:
        code.update(_source_hashes(program.root))
    module = NodeBuilder(MODULE_KINDS, code).build(program.root)
    declared = {name: value for name, value in program.assignment.items() if name in program.space}
    for path, value in program.space.bound(declared, defaults_of=()):
        module.bind_path(path, value)
    for path in program.assignment.keys() - declared.keys():
        module.bind_path(path, program.assignment[path])
    module.adopt(program.space, declared)
    return module


def _source_hashes(node: Node) -> dict[str, str]:
    """Return the source hashes of all code in a stored program, by module name."""
    hashes: dict[str, str] = {}
    for child in node.walk():
        kind = MODULE_KINDS.get(child.kind)
        for config in () if kind is None else kind.code(child):
            if "target" in config:
                hashes[config["target"].partition(":")[0]] = config.get("source_hash", "")
            for target, source in config.get("checks", {}).items():
                hashes[target.partition(":")[0]] = source
    return hashes


@checks_values
def load(path: str | Path, *, code: CodeRoot | None = None) -> Module:
    """Return the module in a file of `Module.save`, or of a program (`optimize --output`).

    Raises:
        DefinitionError: the file has only the state of a module whose class cannot be imported;
            create the module and call its `load`.
    """
    module = build(load_program(path), code=code)
    module.load(path)
    return module


def load_program(path: str | Path) -> Program:
    """Return the program in a file without loading its code; see `load`.

    Raises:
        DefinitionError: the file does not contain a program.
    """
    stored = read_state(Path(path))["program"]
    if stored is None:
        raise DefinitionError(
            f"{str(path)!r} holds the state of a module but not its class: create the module, "
            "then call its load(...)"
        )
    return Program.from_dict(stored)


def module_of(target: "Module | Program | type[Module]", *, code: CodeRoot | None = None) -> Module:
    """Return the module of a module, a module class without required arguments, or a program.

    Raises:
        DefinitionError: `target` is none of these.
    """
    if isinstance(target, Module):
        return target
    if isinstance(target, Program):
        return build(target, code=code)
    if not (isinstance(target, type) and issubclass(target, Module)):
        raise DefinitionError(
            f"{shorten(target)} is not a program; pass a Module or a Program, such as Predict('a "
            "-> b')"
        )
    return target()
