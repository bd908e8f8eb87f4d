"""TARGET arguments: `file.py:name`, `pkg.mod:name`, `program.json`, or a stored program's name."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.modules import CodeRoot, Module, Predict
from dspex.execution.modules.adapter_code import load_adapters
from dspex.execution.modules.builder import load_program
from dspex.language.programs import Program
from dspex.language.signatures import Signature
from dspex.settings import project_folder, read_settings


@dataclass(frozen=True, slots=True)
class Target:
    """A stored program by `name`, or a `program` that was loaded from code."""

    name: str
    program: Program | None = None


def find_target(text: str, code: CodeRoot) -> Target:
    """Return the target of `text`; code is imported from the code root only.

    Raises:
        ConfigurationError: an adapter of the settings cannot be loaded.
        DefinitionError: the file or name does not exist, or is not a program.
    """
    if text.endswith(".json"):
        return _load_saved(Path(text))
    place, colon, name = text.rpartition(":")
    if not colon:
        if text.endswith(".py"):
            raise DefinitionError(
                f"{text!r} does not name a program: write {text}:name{_names_hint(Path(text))}"
            )
        return Target(text)
    if place.endswith(".py"):
        place = module_name(Path(place), code)
    # a program names its adapter when it is built, which is when its file is imported
    load_adapters(read_settings(warn=_ignore).adapters, code)
    value = code.load(f"{place}:{name}")
    return Target(name, program_of(value, name))


def _ignore(_warning: str) -> None:
    """Warnings of the settings are shown when the command opens its services."""


def _load_saved(file: Path) -> Target:
    if not file.is_file():
        near = [path.name for path in file.parent.glob("*.json")] if file.parent.is_dir() else []
        raise DefinitionError(f"the file {str(file)!r} does not exist.{suggest(file.name, near)}")
    program = load_program(file)
    return Target(program.name, program)


def program_of(value: Any, name: str) -> Program:
    """Return the program behind a signature, a module, a module class or a program.

    Raises:
        DefinitionError: `value` is something else.
    """
    if isinstance(value, Program):
        return value
    if isinstance(value, Module):
        return value.to_program(name)
    if isinstance(value, Signature) or (inspect.isclass(value) and issubclass(value, Signature)):
        return Predict(value).to_program(name)
    if inspect.isclass(value) and issubclass(value, Module):
        return _instantiate(value).to_program(name)
    cls = value if inspect.isclass(value) else type(value)
    if any(part.__module__.partition(".")[0] == "dspy" for part in cls.mro()):
        raise DefinitionError(
            f"{name!r} is a module of dspy: `dspex import file.py:{name}` stores it, then `dspex "
            f"run {name}` runs it"
        )
    raise DefinitionError(
        f"{name!r} is {type(value).__name__}; a target is a Signature class, a Module (or a class "
        "of one that needs no arguments), or a Program"
    )


def _instantiate(cls: type[Module]) -> Module:
    try:
        return cls()
    except TypeError as error:
        raise DefinitionError(
            f"{cls.__name__} needs arguments ({error}); name an instance of it instead"
        ) from error


def module_name(file: Path, code: CodeRoot) -> str:
    """Return the dotted name of a file below the code root.

    Raises:
        DefinitionError: the file does not exist, or is not below the code root.
    """
    resolved = file.resolve()
    if not resolved.is_file():
        near = [path.name for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise DefinitionError(f"the file {str(file)!r} does not exist.{suggest(file.name, near)}")
    root = code.folder.resolve()
    if not resolved.is_relative_to(root):
        raise DefinitionError(
            f"{str(file)!r} lies outside the code root {str(root)!r}; start dspex in its folder"
        )
    return ".".join(resolved.relative_to(root).with_suffix("").parts)


def _names_hint(file: Path) -> str:
    names = names_in(file)
    return f" (it has: {', '.join(names)})" if names else ""


def names_in(file: Path) -> list[str]:
    """Return the names in a Python file that may be targets, without running it.

    They are classes, decorated functions and values.
    """
    if not file.is_file():
        return []
    import ast

    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return []
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [
        part.name
        for part in tree.body
        if isinstance(part, ast.ClassDef) or (isinstance(part, functions) and part.decorator_list)
    ]
    names += [
        part.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for part in node.targets
        if isinstance(part, ast.Name)
    ]
    return names


def code_root() -> CodeRoot:
    """Return the folder of the project as the root of code that may be imported."""
    return CodeRoot(project_folder().resolve())
